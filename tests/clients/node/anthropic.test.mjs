// Anthropic's `@anthropic-ai/sdk`, and the AI SDK's provider for Anthropic. What the model calls is
// scripted; how it has to write a call the simulator reads in its messages.

import assert from 'node:assert/strict';
import { before, beforeEach, describe, test } from 'node:test';
import { createAnthropic } from '@ai-sdk/anthropic';
import Anthropic from '@anthropic-ai/sdk';
import { betaZodTool } from '@anthropic-ai/sdk/helpers/beta/zod';
import { Output, generateText, stepCountIs, streamText, tool } from 'ai';
import { z } from 'zod';
import { LONG_TEXT, Simulator, sim, startGateway, user } from './gateway.mjs';
import { IN_OSLO, IN_ROME, loop, weather } from './weather.mjs';

let simulator, baseURL, client;

before(async () => {
  simulator = await Simulator.start();
  const names = ['--model-aliases', 'claude-*=gpt-4o', '--unknown-models', 'refuse'];
  baseURL = await startGateway(simulator, ...names, '--keep-alive', '0.2');
  client = new Anthropic({ baseURL: baseURL.replace('/v1', ''), apiKey: 'any' });
  await client.messages.create(hello());
});

beforeEach(() => simulator.reset());

const model = 'claude-opus-4-8';
const hello = (content = 'hi', more = {}) => ({ model, max_tokens: 1000, messages: user(content), ...more });

const inputSchema = z.object({ place: z.string(), days: z.number().int() });

describe('@anthropic-ai/sdk', () => {
  test('a message, whole and streamed', async () => {
    const whole = await client.messages.create(hello(LONG_TEXT));
    assert.deepEqual(whole.content, [{ type: 'text', text: LONG_TEXT, citations: null }]);
    assert.deepEqual([whole.model, whole.role, whole.stop_reason], [model, 'assistant', 'end_turn']);
    assert.match(whole._request_id, /^req_/);
    let text = '';
    const stream = client.messages.stream(hello(LONG_TEXT)).on('text', (piece) => (text += piece));
    const { id, ...streamed } = await stream.finalMessage();
    assert.equal(text, LONG_TEXT);
    assert.match(id, /^msg_/);
    assert.deepEqual(streamed.content[0].text, whole.content[0].text);
    assert.deepEqual(streamed.usage, whole.usage);
  });

  test('events, with pings in silence', async () => {
    const stream = await client.messages.create(hello(sim({ events: 3, silence: 700 }), { stream: true }));
    const kinds = [];
    for await (const event of stream) kinds.push(event.type);
    assert.deepEqual([kinds[0], ...kinds.slice(-3)], ['message_start', 'content_block_stop', 'message_delta', 'message_stop']);
    assert.equal(kinds.filter((kind) => kind === 'content_block_delta').length, 3);
  });

  for (const stream of [false, true]) {
    test(`the tool runner runs the tools until the answer is there, ${stream ? 'streamed' : 'whole'}`, async () => {
      await loop(simulator);
      const asked = [];
      const run = (args) => (asked.push(args), weather(args));
      const tools = [betaZodTool({ name: 'weather', description: 'The weather.', inputSchema, run })];
      const runner = client.beta.messages.toolRunner({ ...hello('How is it?'), tools, stream });
      const message = await runner.runUntilDone();
      assert.equal(message.content[0].text, 'Rain in both.');
      assert.deepEqual(asked, [IN_OSLO, IN_ROME, IN_ROME].map((call) => call.arguments));
      assert((await simulator.told()).some((content) => content.includes('rain for 2 days in Osló 🙂')));
    });
  }

  test('tokens are counted, and models listed', async () => {
    const { input_tokens } = await client.messages.countTokens({ model, messages: user('hi') });
    assert.equal(input_tokens, (await client.messages.create(hello())).usage.input_tokens);
    const models = [];
    for await (const { id } of client.models.list()) models.push(id);
    assert(models.length === 17 && models.includes('gpt-4o'));
  });

  test('errors are of the SDK’s classes, and no run is started twice', async () => {
    await assert.rejects(client.messages.create(hello('hi', { max_tokens: -1 })), (error) => {
      assert(error instanceof Anthropic.BadRequestError);
      assert.equal(error.error.error.type, 'invalid_request_error');
      return error.requestID.startsWith('req_');
    });
    await assert.rejects(client.messages.create(hello('hi', { model: 'gemini' })), Anthropic.NotFoundError);
    const { runs } = await simulator.count(async () => {
      await assert.rejects(client.messages.create(hello(sim({ error: 'no luck' }))), Anthropic.InternalServerError);
    });
    assert.equal(runs, 1);
    const broken = client.messages.stream(hello(sim({ fail: 3, error: 'it broke' })));
    await assert.rejects(broken.finalMessage(), /it broke/);
  });
});

describe('@ai-sdk/anthropic', () => {
  const claude = () => createAnthropic({ baseURL, apiKey: 'any' })(model);
  const tools = { weather: tool({ description: 'The weather.', inputSchema, execute: weather }) };
  const question = () => ({ model: claude(), prompt: 'How is it?', tools, stopWhen: stepCountIs(5), maxRetries: 0 });

  test('generateText runs the tools until the answer is there', async () => {
    await loop(simulator);
    const { text, steps, finishReason } = await generateText(question());
    assert.deepEqual([text, finishReason, steps.length], ['Rain in both.', 'stop', 3]);
    assert.deepEqual(steps[0].toolResults.map(({ output }) => output), [IN_OSLO, IN_ROME].map((call) => weather(call.arguments)));
    assert.equal(steps[0].finishReason, 'tool-calls');
    assert((await simulator.told()).some((content) => content.includes('rain for 2 days in Osló 🙂')));
  });

  test('streamText runs the tools until the answer is there', async () => {
    await loop(simulator);
    const result = streamText(question());
    let deltas = 0;
    for await (const part of result.fullStream) {
      assert.notEqual(part.type, 'error', JSON.stringify(part));
      if (part.type === 'tool-input-delta') deltas++;
    }
    assert(deltas > 5, `${deltas} pieces of arguments`);
    assert.equal(await result.text, 'Rain in both.');
    assert((await result.totalUsage).inputTokens > 0);
  });

  test('an object of a schema', async () => {
    const schema = z.object({ setup: z.string(), punchline: z.string() });
    const joke = { setup: 'Why?', punchline: 'Därför 🙂' };
    const prompt = sim({ say: JSON.stringify(joke) });
    const { output } = await generateText({ model: claude(), prompt, output: Output.object({ schema }), maxRetries: 0 });
    assert.deepEqual(output, joke);
  });

  test('an error within a stream is told', async () => {
    const errors = [];
    const result = streamText({ model: claude(), prompt: sim({ fail: 3, error: 'it broke' }), onError: ({ error }) => errors.push(error) });
    await result.consumeStream();
    assert.equal(errors.length, 1);
    assert.match(JSON.stringify([errors[0], errors[0].message]), /it broke/);
  });
});
