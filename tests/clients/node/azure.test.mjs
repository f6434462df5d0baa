// The `openai` package's client for Azure, with models and aliases as deployments.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, beforeEach, test } from 'node:test';
import OpenAI, { AzureOpenAI } from 'openai';
import { LONG_TEXT, Simulator, sim, startLogged, user } from './gateway.mjs';

let simulator, root;

before(async () => {
  simulator = await Simulator.start();
  const settings = ['--unknown-models', 'refuse', '--model-aliases', 'my-chat=gpt-4o'];
  root = (await startLogged(simulator, ...settings)).url;
});

beforeEach(() => simulator.reset());

const azure = (options, path = '') =>
  new AzureOpenAI({
    endpoint: root + path,
    apiKey: 'any',
    apiVersion: '2025-04-01-preview',
    maxRetries: 0,
    ...options,
  });

const ask = (client, content, options) =>
  client.chat.completions.create({ model: 'my-chat', messages: user(content), ...options });

test('a deployment is an alias, whatever the endpoint ends with', async () => {
  for (const path of ['', '/', '/openai', '/v1']) {
    for (const options of [{}, { deployment: 'my-chat' }]) {
      const answer = await ask(azure(options, path), 'Hello');
      assert.deepEqual([answer.choices[0].message.content, answer.model], ['Hello', 'my-chat']);
      assert.equal((await simulator.lastRun()).prompt_meta.model, 'gpt-4o');
    }
  }
});

test('an answer is streamed', async () => {
  let text = '';
  for await (const chunk of await ask(azure(), LONG_TEXT, { stream: true })) {
    assert.equal(chunk.model, 'my-chat');
    text += chunk.choices[0].delta.content ?? '';
  }
  assert.equal(text, LONG_TEXT);
});

test('tools run', async () => {
  simulator.turns({ text: '', calls: [{ name: 'add', arguments: { a: 2, b: 3 } }] }, { text: 'It is 5' });
  const parameters = {
    type: 'object',
    properties: { a: { type: 'integer' }, b: { type: 'integer' } },
  };
  const add = { name: 'add', parameters, parse: JSON.parse, function: ({ a, b }) => `${a + b}` };
  const runner = azure().chat.completions.runTools({
    model: 'my-chat',
    messages: user('2 + 3'),
    tools: [{ type: 'function', function: add }],
  });
  assert.equal(await runner.finalContent(), 'It is 5');
  assert.equal(await runner.finalFunctionToolCallResult(), '5');
});

test('text completions, responses and models', async () => {
  for (const client of [azure(), azure({ deployment: 'my-chat' })]) {
    const text = await client.completions.create({ model: 'my-chat', prompt: 'Hello' });
    assert.equal(text.choices[0].text, 'Hello');
    const request = { model: 'my-chat', input: 'Hello', store: false };
    assert.equal((await client.responses.create(request)).output_text, 'Hello');
    assert.equal((await client.responses.stream(request).finalResponse()).output_text, 'Hello');
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    assert(names.includes('my-chat') && names.includes('gpt-4o'));
  }
});

test('errors are raised as their kinds', async () => {
  const client = azure();
  await assert.rejects(ask(client, 'Hello', { model: 'no-such' }), (error) => {
    assert(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, 'model_not_found');
    return true;
  });
  const embeddings = client.embeddings.create({ model: 'my-chat', input: 'Hello' });
  await assert.rejects(embeddings, /Embeddings are not served here/);
  const stream = await ask(client, sim({ text: 'lorem', fail: 3 }), { stream: true });
  await assert.rejects(async () => {
    for await (const _ of stream);
  }, OpenAI.APIError);
});

test('a key comes in its field or as a token of the directory', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'keys-'));
  const keys = join(directory, 'keys');
  writeFileSync(keys, 'a-key-of-16-letters');
  const { url } = await startLogged(simulator, '--api-keys-file', keys);
  rmSync(directory, { recursive: true });
  const list = (options) => {
    const apiVersion = '2024-10-21';
    return new AzureOpenAI({ endpoint: url, apiVersion, maxRetries: 0, ...options }).models.list();
  };
  for (const key of ['a-key-of-16-letters', 'another']) {
    for (const options of [{ apiKey: key }, { azureADTokenProvider: async () => key }]) {
      if (key === 'another') await assert.rejects(list(options), OpenAI.AuthenticationError);
      else assert((await list(options)).data.length > 0);
    }
  }
});
