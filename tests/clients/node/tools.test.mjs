// Tool calling: the `openai` package's own loop, and the AI SDK's. What the model calls is scripted;
// how it has to write a call the simulator reads in its messages.

import assert from 'node:assert/strict';
import { before, beforeEach, describe, test } from 'node:test';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, stepCountIs, streamText, tool } from 'ai';
import OpenAI from 'openai';
import { z } from 'zod';
import { Simulator, startGateway, user } from './gateway.mjs';
import { IN_OSLO, IN_ROME, loop, weather } from './weather.mjs';

let simulator, baseURL, client;

before(async () => {
  simulator = await Simulator.start();
  baseURL = await startGateway(simulator);
  client = new OpenAI({ baseURL, apiKey: 'any' });
});

beforeEach(() => simulator.reset());


describe('openai', () => {
  const asked = [];
  const parameters = {
    type: 'object',
    properties: { place: { type: 'string' }, days: { type: 'integer' } },
    required: ['place', 'days'],
    additionalProperties: false,
  };
  const run = (args) => (asked.push(args), weather(args));
  const tools = [
    {
      type: 'function',
      function: { name: 'weather', description: 'The weather.', parameters, parse: JSON.parse, function: run },
    },
  ];

  for (const stream of [false, true]) {
    test(`runTools runs the tools until the answer is there, ${stream ? 'streamed' : 'whole'}`, async () => {
      await loop(simulator);
      asked.length = 0;
      const runner = client.chat.completions.runTools({ model: 'gpt-4o', messages: user('How is it?'), tools, stream });
      assert.equal(await runner.finalContent(), 'Rain in both.');
      assert.deepEqual(asked, [IN_OSLO, IN_ROME, IN_ROME].map((call) => call.arguments));
      const messages = await simulator.told();
      assert(messages.some((content) => content.includes('rain for 2 days in Osló 🙂')));
    });
  }

  test('the stream runner puts calls together', async () => {
    await simulator.turns({ text: 'So:', calls: [IN_OSLO, IN_ROME], sim: 'events=30' });
    const runner = client.chat.completions.stream({
      model: 'gpt-4o',
      messages: user('Hi'),
      tools: tools.map(({ type, function: { name, parameters } }) => ({ type, function: { name, parameters } })),
    });
    const { choices } = await runner.finalChatCompletion();
    assert.equal(choices[0].finish_reason, 'tool_calls');
    assert.equal(choices[0].message.content, 'So:');
    const calls = choices[0].message.tool_calls.map((call) => JSON.parse(call.function.arguments));
    assert.deepEqual(calls, [IN_OSLO.arguments, IN_ROME.arguments]);
  });
});

const apiKey = 'any';
const models = {
  openai: () => createOpenAI({ baseURL, apiKey }).chat('gpt-4o'),
  'openai-compatible': () => createOpenAICompatible({ name: 'langfast', baseURL, apiKey })('gpt-4o'),
};

for (const [provider, model] of Object.entries(models)) {
  describe(provider, () => {
    const inputSchema = z.object({ place: z.string(), days: z.number().int() });
    const tools = { weather: tool({ description: 'The weather.', inputSchema, execute: weather }) };
    const question = () => ({ model: model(), prompt: 'How is it?', tools, stopWhen: stepCountIs(5), maxRetries: 0 });

    test('generateText runs the tools until the answer is there', async () => {
      await loop(simulator);
      const { text, steps, finishReason } = await generateText(question());
      assert.deepEqual([text, finishReason, steps.length], ['Rain in both.', 'stop', 3]);
      const results = steps[0].toolResults.map(({ output }) => output);
      assert.deepEqual(results, [weather(IN_OSLO.arguments), weather(IN_ROME.arguments)]);
      assert.equal(steps[0].finishReason, 'tool-calls');
      assert((await simulator.told()).some((content) => content.includes(results[0])));
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
      const steps = await result.steps;
      assert.deepEqual(steps[1].toolCalls.map(({ input }) => input), [IN_ROME.arguments]);
    });

    test('a call is required', async () => {
      await simulator.turns({ calls: [IN_OSLO] });
      const { toolCalls } = await generateText({ ...question(), stopWhen: stepCountIs(1), toolChoice: 'required' });
      assert.deepEqual(toolCalls.map(({ input }) => input), [IN_OSLO.arguments]);
      const { response_format } = (await simulator.lastRun()).prompt_meta;
      assert.equal(response_format.json_schema.name, 'weather');
    });
  });
}
