
// ---- the beginning

function down(why) {
  show('bad', 'Not available');
  $('down').textContent = `${why} Trying again every 5 seconds.`;
  $('down').hidden = false;
  retry = setTimeout(begin, 5000);
}

async function begin() {
  clearTimeout(retry);
  try {
    const answer = await request('status/models');
    if (answer.status === 401) return askForKey();
    if (!answer.ok) throw new Error(await words(answer));
    models = await answer.json();
  } catch (error) {
    return down(error.message);
  }
  keyWanted = false;
  if (key) sessionStorage.setItem(KEY, key);
  $('key').value = '';
  reveal(false);
  const before = models.find(({ id }) => id === $('model').value);
  const first = models.find((model) => !model.shutdown_date) ?? models.find((model) => !model.is_shut_down) ?? models[0];
  $('model').replaceChildren(...models.map(option), new Option('another…', ''));
  $('model').value = (before ?? first).id;
  $('key-form').hidden = $('down').hidden = true;
  $('inside').hidden = $('more').hidden = false;
  $('forget').hidden = !key;
  choose();
  await look();
}

setInterval(look, 5000);
document.addEventListener('visibilitychange', look);
begin();
