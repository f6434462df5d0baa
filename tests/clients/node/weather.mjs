// A conversation in which the model asks for the weather, as the tests of tools script it.

export const IN_OSLO = { name: 'weather', arguments: { place: 'Osló 🙂', days: 2 } };
export const IN_ROME = { name: 'weather', arguments: { place: 'Rome', days: 1 } };
export const weather = ({ place, days }) => `rain for ${days} days in ${place}`;

// Lets the next three runs call the tool twice, once, and then answer.
export const loop = (simulator) =>
  simulator.turns(
    { text: 'Let me look.', calls: [IN_OSLO, IN_ROME] },
    { calls: [IN_ROME], sim: 'events=20' },
    { text: 'Rain in both.' },
  );
