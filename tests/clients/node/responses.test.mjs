// Responses: the `openai` package, what OpenAI's agents make of it, and the AI SDK, which uses them
// unless it is told not to. What the model calls is scripted.

import assert from 'node:assert/strict';
import { before, beforeEach, describe, test } from 'node:test';
import { createOpenAI } from '@ai-sdk/openai';
import { generateText, Output, stepCountIs, streamText, tool } from 'ai';
import { Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, run, setTracingDisabled } from '@openai/agents';
import OpenAI, { APIError, BadRequestError, NotFoundError } from 'openai';
import { zodResponsesFunction, zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { LONG_TEXT, Simulator, sim, startGateway } from './gateway.mjs';
import { IN_OSLO, IN_ROME, loop, weather } from './weather.mjs';

let simulator, baseURL, client;

before(async () => {
  simulator = await Simulator.start();
  baseURL = await startGateway(simulator);
  client = new OpenAI({ baseURL, apiKey: 'any' });
});

beforeEach(() => simulator.reset());

const model = 'gpt-5';
const schema = z.object({ place: z.string(), days: z.number().int() });

describe('openai', () => {
  const tools = [zodResponsesFunction({ name: 'weather', parameters: schema })];

  test('a response, whole and streamed', async () => {
    const response = await client.responses.create({ model, input: LONG_TEXT });
    assert.deepEqual([response.output_text, response.status], [LONG_TEXT, 'completed']);
    let text = '';
    let number = 0;
    for await (const event of await client.responses.create({ model, input: LONG_TEXT, stream: true })) {
      assert.equal(event.sequence_number, number++);
      if (event.type === 'response.output_text.delta') text += event.delta;
    }
    assert.equal(text, LONG_TEXT);
  });

  test('the stream runner puts the response together', async () => {
    await simulator.turns({ text: 'So:', calls: [IN_OSLO, IN_ROME], sim: 'events=30' });
    let deltas = '';
    const runner = client.responses
      .stream({ model, input: 'Hi', tools })
      .on('response.function_call_arguments.delta', ({ delta }) => (deltas += delta));
    const { output, output_text } = await runner.finalResponse();
    assert.equal(output_text, 'So:');
    const calls = output.slice(1).map((item) => item.parsed_arguments);
    assert.deepEqual(calls, [IN_OSLO.arguments, IN_ROME.arguments]);
    assert.equal(deltas, calls.map((made) => JSON.stringify(made)).join(''));
  });

  test('parse gives objects', async () => {
    const input = sim({ say: JSON.stringify(IN_OSLO.arguments) });
    const text = { format: zodTextFormat(schema, 'weather') };
    const { output_parsed } = await client.responses.parse({ model, input, text });
    assert.deepEqual(output_parsed, IN_OSLO.arguments);
  });

  test('an agent runs its tools until the answer is there', async () => {
    await loop(simulator);
    const input = [{ role: 'user', content: 'How is it?' }];
    let response;
    for (;;) {
      response = await client.responses.create({ model, input, tools });
      input.push(...response.output);
      const calls = response.output.filter(({ type }) => type === 'function_call');
      if (calls.length === 0) break;
      for (const { call_id, arguments: made } of calls) {
        input.push({ type: 'function_call_output', call_id, output: weather(JSON.parse(made)) });
      }
    }
    assert.equal(response.output_text, 'Rain in both.');
    assert((await simulator.told()).some((content) => content.includes('rain for 2 days in Osló 🙂')));
  });

  test('failures before the answer are errors', async () => {
    await assert.rejects(client.responses.create({ model, input: 'Hi', previous_response_id: 'resp_1' }), BadRequestError);
    await assert.rejects(client.responses.retrieve('resp_1'), NotFoundError);
  });

  const isTheError = (error) => error instanceof APIError && /it broke/.test(error.message);
  const input = sim({ fail: 3, error: 'it broke' });

  for (const [how, ask] of Object.entries({
    'create()': async () => Array.fromAsync(await client.responses.create({ model, input, stream: true })),
    'stream()': () => Array.fromAsync(client.responses.stream({ model, input })),
    'finalResponse()': () => client.responses.stream({ model, input }).finalResponse(),
  })) {
    test(`a failure within a stream is an error: ${how}`, async () => {
      const { runs } = await simulator.count(() => assert.rejects(ask, isTheError));
      assert.equal(runs, 1);
    });
  }

  for (const Model of [OpenAIResponsesModel, OpenAIChatCompletionsModel]) {
    test(`OpenAI's agents give the answer, and the error too: ${Model.name}`, async () => {
      setTracingDisabled(true);
      const agent = new Agent({ name: 'a', model: new Model(client, model) });
      const ask = async (message) => {
        const result = await run(agent, message, { stream: true });
        await Array.fromAsync(result.toTextStream());
        await result.completed;
        return result.finalOutput;
      };
      assert.equal(await ask('Hello, you there'), 'Hello, you there');
      const { runs } = await simulator.count(() => assert.rejects(ask(input), isTheError));
      assert.equal(runs, 1);
    });
  }
});

describe('stored responses', () => {
  const slow = sim({ say: 'It rains in Oslo.', first: 300, delay: 30, events: 8 });

  test('a conversation goes on behind a response', async () => {
    const first = await client.responses.create({ model, input: sim({ say: 'One.' }) });
    const input = sim({ say: 'Two.' });
    const second = await client.responses.create({ model, input, previous_response_id: first.id });
    assert.equal(second.output_text, 'Two.');
    assert((await simulator.told()).includes('One.'));
    const items = await Array.fromAsync(client.responses.inputItems.list(second.id, { order: 'asc' }));
    assert.deepEqual(items.map(({ content }) => content[0].text), [sim({ say: 'One.' }), 'One.', input]);
  });

  test('one is fetched, cancelled and deleted', async () => {
    let response = await client.responses.create({ model, input: slow, background: true });
    while (response.status === 'in_progress') response = await client.responses.retrieve(response.id);
    assert.equal(response.output_text, 'It rains in Oslo.');
    await client.responses.delete(response.id);
    await assert.rejects(client.responses.retrieve(response.id), NotFoundError);
    const input = sim({ say: 'x', first: 60000 });
    const { id } = await client.responses.create({ model, input, background: true });
    assert.equal((await client.responses.cancel(id)).status, 'cancelled');
  });

  test('a stream that was lost is taken up again', async () => {
    const events = [];
    for await (const event of await client.responses.create({ model, input: slow, stream: true })) {
      events.push(event);
      if (event.type === 'response.output_text.delta') break;
    }
    const { id } = events[0].response;
    const starting_after = events.at(-1).sequence_number;
    const rest = await client.responses.retrieve(id, { stream: true, starting_after });
    for await (const event of rest) events.push(event);
    assert.deepEqual(events.map(({ sequence_number }) => sequence_number), [...events.keys()]);
    assert.equal(events.at(-1).type, 'response.completed');
    const runner = client.responses.stream({ response_id: id, starting_after });
    assert.equal((await runner.finalResponse()).output_text, 'It rains in Oslo.');
  });

  test('@openai/agents continues one', async () => {
    setTracingDisabled(true);
    const agent = new Agent({ name: 'a', model: new OpenAIResponsesModel(client, model) });
    const { lastResponseId } = await run(agent, sim({ say: 'One.' }));
    const options = { previousResponseId: lastResponseId };
    assert.equal((await run(agent, sim({ say: 'Two.' }), options)).finalOutput, 'Two.');
    assert((await simulator.told()).includes('One.'));
  });
});

describe('AI SDK', () => {
  const providerOptions = { openai: { store: false } };
  const openai = (name = model) => createOpenAI({ baseURL, apiKey: 'any' })(name);
  const tools = { weather: tool({ description: 'The weather.', inputSchema: schema, execute: weather }) };
  const loopOptions = { tools, stopWhen: stepCountIs(5), maxRetries: 0, providerOptions };
  const question = () => ({ model: openai(), prompt: 'How is it?', ...loopOptions });

  test('generateText runs the tools until the answer is there', async () => {
    await loop(simulator);
    const { text, steps, finishReason } = await generateText(question());
    assert.deepEqual([text, finishReason, steps.length], ['Rain in both.', 'stop', 3]);
    const results = steps[0].toolResults.map(({ output }) => output);
    assert.deepEqual(results, [weather(IN_OSLO.arguments), weather(IN_ROME.arguments)]);
    assert((await simulator.told()).some((content) => content.includes(results[0])));
  });

  test('streamText runs the tools until the answer is there', async () => {
    await loop(simulator);
    const result = streamText(question());
    for await (const part of result.fullStream) assert.notEqual(part.type, 'error', JSON.stringify(part));
    assert.equal(await result.text, 'Rain in both.');
    const steps = await result.steps;
    assert.deepEqual(steps[1].toolCalls.map(({ input }) => input), [IN_ROME.arguments]);
    assert((await result.totalUsage).totalTokens > 100);
  });

  test('structured output', async () => {
    const prompt = sim({ say: JSON.stringify(IN_OSLO.arguments) });
    const { output } = await generateText({ model: openai(), prompt, output: Output.object({ schema }) });
    assert.deepEqual(output, IN_OSLO.arguments);
  });

  // As it comes, it refers to what has been said and called by the ids of stored items.
  for (const name of ['gpt-4o', model]) {
    test(`its default refers to what is stored: ${name}`, async () => {
      const options = { ...question(), model: openai(name), providerOptions: {} };
      await loop(simulator);
      const { text, steps } = await generateText(options);
      assert.deepEqual([text, steps.length], ['Rain in both.', 3]);
      const [, , answer, results] = await simulator.told();
      assert(answer.includes('Let me look.') && answer.includes('Rome'), answer);
      assert(results.includes(weather(IN_OSLO.arguments)), results);
      await loop(simulator);
      const result = streamText(options);
      for await (const part of result.fullStream) assert.notEqual(part.type, 'error', JSON.stringify(part));
      assert.equal(await result.text, 'Rain in both.');
    });
  }

  test('a failure within a stream is an error', async () => {
    const errors = [];
    const prompt = sim({ fail: 3, error: 'it broke' });
    const result = streamText({ model: openai(), prompt, onError: ({ error }) => errors.push(error) });
    const parts = await Array.fromAsync(result.fullStream);
    const finish = parts.findLast(({ type }) => type === 'finish');
    assert.equal(finish.finishReason, 'error');
    assert.equal(errors.length, 1);
    assert.match(errors[0].message, /it broke/);
  });
});
