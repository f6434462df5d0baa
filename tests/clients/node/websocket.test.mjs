// Responses on a WebSocket: `ResponsesWS` of the `openai` package, and the model of OpenAI's agents for it.

import assert from 'node:assert/strict';
import { before, beforeEach, test } from 'node:test';
import { Agent, OpenAIProvider, Runner, setTracingDisabled, tool } from '@openai/agents';
import OpenAI from 'openai';
import { ResponsesWebSocketSession } from 'openai/lib/responses/responses-websocket-session';
import { ResponsesWS } from 'openai/resources/responses/ws';
import { z } from 'zod';
import { LONG_TEXT, Simulator, sim, startGateway } from './gateway.mjs';

let simulator, baseURL, client;

before(async () => {
  simulator = await Simulator.start();
  baseURL = await startGateway(simulator);
  client = new OpenAI({ baseURL, apiKey: 'any' });
});

beforeEach(() => simulator.reset());

const model = 'gpt-5';
const tools = [{ type: 'function', name: 'weather', parameters: { type: 'object' }, strict: false }];

// Opens a session of lanes for `work`.
async function withSession(work, options) {
  const ws = new ResponsesWS(client, options);
  ws.on('error', () => {});
  await new Promise((resolve) => ws.socket.on('open', resolve));
  const session = new ResponsesWebSocketSession(ws, { maxLanes: 4, maxBufferedEvents: 9999, maxBufferedBytes: 1 << 24 });
  try {
    await work(session, ws);
  } finally {
    ws.close();
  }
}

// An event of the connection itself.
const once = (ws, name) => new Promise((resolve) => ws.on(name, (...values) => resolve(values)));

test('a conversation goes on without being stored, in a lane and in the default one', async () => {
  for (const name of [undefined, 'main']) {
    for (const perMessageDeflate of [false, true]) {
      await withSession(
        async (session) => {
          const lane = session.lane(name);
          await simulator.turns({ calls: [{ name: 'weather', arguments: { place: 'Oslo' } }] }, { text: 'Rain.' });
          lane.create({ model, input: 'How is it?', tools, store: false });
          const first = await lane.finalResponse();
          const output = { type: 'function_call_output', call_id: first.output[0].call_id, output: 'rain in Oslo' };
          lane.create({ model, input: [output], tools, store: false, previous_response_id: first.id });
          assert.equal((await lane.finalResponse()).output_text, 'Rain.');
          assert.ok((await simulator.told()).some((content) => content.includes('rain in Oslo')));
          lane.create({ model, input: LONG_TEXT, store: false });
          assert.equal((await lane.finalResponse()).output_text, LONG_TEXT);
        },
        { perMessageDeflate },
      );
    }
  }
});

test('lanes that ask at the same time get their own answers', async () => {
  await withSession(async (session) => {
    const lanes = ['one', 'two', 'three'].map((name) => [name, session.lane(name)]);
    lanes.forEach(([name, lane]) => lane.create({ model, input: sim({ say: name }) }));
    for (const [name, lane] of lanes) assert.equal((await lane.finalResponse()).output_text, name);
  });
});

test('an error is the only end of its response, and the lane goes on', async () => {
  await withSession(async (session) => {
    const lane = session.lane('main');
    for (const [request, status] of [
      [{ model, input: 'Hi', previous_response_id: 'resp_unknown' }, 400],
      [{ model, input: sim({ events: 9, fail: 5 }) }, 502],
    ]) {
      lane.create(request);
      await assert.rejects(lane.finalResponse(), ({ event }) => {
        assert.equal(event?.status ?? status, status);
        return true;
      });
      lane.create({ model, input: sim({ say: 'Fine.' }) });
      assert.equal((await lane.finalResponse()).output_text, 'Fine.');
    }
  });
});

test('a message that is not known is an error event, and a goodbye is confirmed', async () => {
  const ws = new ResponsesWS(client);
  ws.send({ type: 'response.cancel' });
  const [error] = await once(ws, 'error');
  assert.match(error.message, /response\.create/);
  ws.close({ code: 1000, reason: 'done' });
  assert.equal((await once(ws, 'close'))[0], 1000);
});

test("OpenAI's agents run on one connection, and hear of a failure", async () => {
  setTracingDisabled(true);
  const weather = tool({
    name: 'weather',
    description: 'The weather of a place.',
    parameters: z.object({ place: z.string() }),
    execute: ({ place }) => `rain in ${place}`,
  });
  const modelProvider = new OpenAIProvider({ baseURL, apiKey: 'any', useResponses: true, useResponsesWebSocket: true });
  const runner = new Runner({ modelProvider });
  for (const store of [undefined, false]) {
    const agent = new Agent({ name: 'a', tools: [weather], model, modelSettings: { store } });
    await simulator.turns(
      { calls: [{ name: 'weather', arguments: { place: 'Oslo' } }] },
      { text: 'Rain.' },
      { text: 'A coat.' },
    );
    const counts = await simulator.count(async () => {
      const first = await runner.run(agent, 'How is it?');
      assert.equal(first.finalOutput, 'Rain.');
      const streamed = await runner.run(agent, 'And what do I wear?', {
        stream: true,
        previousResponseId: first.lastResponseId,
      });
      for await (const _ of streamed);
      assert.equal(streamed.finalOutput, 'A coat.');
      assert.ok((await simulator.told()).includes('How is it?'));
    });
    assert.equal(counts.runs, 3);
    const failing = await simulator.count(() =>
      // It keeps to itself what the event says.
      assert.rejects(runner.run(agent, sim({ events: 9, fail: 5 })), /unsuccessful terminal state "error"/),
    );
    assert.equal(failing.runs, 1);
    assert.equal((await runner.run(agent, sim({ say: 'Fine.' }))).finalOutput, 'Fine.');
  }
  await modelProvider.close();
});
