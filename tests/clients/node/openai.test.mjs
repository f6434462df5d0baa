// The `openai` package.

import assert from 'node:assert/strict';
import { before, beforeEach, describe, test } from 'node:test';
import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { ChatCompletionStream } from 'openai/lib/ChatCompletionStream';
import { z } from 'zod';
import { LONG_TEXT, Simulator, sim, startGateway, user } from './gateway.mjs';

let simulator, client;

before(async () => {
  simulator = await Simulator.start();
  client = new OpenAI({ baseURL: await startGateway(simulator, '--unknown-models', 'refuse'), apiKey: 'any' });
  // Signed in, with a prompt and a socket: so each run is one request from here on.
  await ask('hi');
});

beforeEach(() => simulator.reset());

const ask = (content, options) =>
  client.chat.completions.create({ model: 'gpt-4o', messages: user(content), ...options });

// The texts of a stream's choices and their finish reasons.
async function read(stream) {
  const texts = [];
  const reasons = [];
  for await (const chunk of stream) {
    for (const { index, delta, finish_reason } of chunk.choices) {
      texts[index] = (texts[index] ?? '') + (delta.content ?? '');
      if (finish_reason) reasons.push(finish_reason);
    }
  }
  return { texts, reasons };
}

const Person = z.object({ name: z.string(), age: z.number(), friends: z.array(z.string()) });
const PERSON = { name: 'Zoë', age: 7, friends: ['Ann', 'Bob'] };
const response_format = zodResponseFormat(Person, 'person');

describe('models', () => {
  test('are listed', async () => {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    assert(names.includes('gpt-4o'));
  });

  test('are retrieved', async () => {
    const model = await client.models.retrieve('gpt-4o');
    assert.deepEqual([model.id, model.object, model.owned_by], ['gpt-4o', 'model', 'openai']);
  });

  test('that do not exist are not found', async () => {
    for (const name of ['gpt-9', 'some/model', 'ünknown']) {
      await assert.rejects(client.models.retrieve(name), OpenAI.NotFoundError);
      await assert.rejects(ask('hi', { model: name }), (error) => {
        assert(error instanceof OpenAI.NotFoundError);
        assert.deepEqual([error.code, error.param], ['model_not_found', 'model']);
        assert(error.message.includes(name));
        return true;
      });
    }
  });
});

describe('a whole answer', () => {
  test('has the text, the role, the reason and the usage', async () => {
    const answer = await ask('Hello there, world!');
    assert.equal(answer.choices[0].message.content, 'Hello there, world!');
    assert.equal(answer.choices[0].message.role, 'assistant');
    assert.equal(answer.choices[0].finish_reason, 'stop');
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
    assert(answer._request_id);
  });

  test('comes with its headers', async () => {
    const { data, response, request_id } = await ask('hi', { seed: 7 }).withResponse();
    assert.equal(data.choices[0].message.content, 'hi');
    assert.equal(response.headers.get('x-request-id'), request_id);
    assert.equal(response.headers.get('x-langfast2api-ignored'), 'seed');
  });

  test('is unchanged when it is long and of all kinds of characters', async () => {
    assert.equal((await ask(LONG_TEXT)).choices[0].message.content, LONG_TEXT);
  });

  test('may have several choices', async () => {
    const answer = await ask('one two', { n: 2 });
    assert.deepEqual(answer.choices.map((choice) => choice.message.content), ['one two', 'one two']);
    assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1]);
  });

  test('ends at a stop text', async () => {
    const answer = await ask('one two three', { stop: [' three'] });
    assert.equal(answer.choices[0].message.content, 'one two');
    assert.equal(answer.choices[0].finish_reason, 'stop');
  });

  test('is parsed by its schema', async () => {
    const answer = await client.chat.completions.parse({
      model: 'gpt-4o',
      messages: user(sim({ say: JSON.stringify(PERSON) })),
      response_format,
    });
    assert.deepEqual(answer.choices[0].message.parsed, PERSON);
    const { prompt_meta } = await simulator.lastRun();
    assert.equal(prompt_meta.response_format.json_schema.name, 'person');
  });
});

describe('a streamed answer', () => {
  test('is read with for await', async () => {
    const chunks = [];
    for await (const chunk of await ask('Hello there, world!', { stream: true })) chunks.push(chunk);
    assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
    assert.equal(chunks[0].choices[0].delta.role, 'assistant');
    assert.equal(chunks.map((chunk) => chunk.choices[0].delta.content ?? '').join(''), 'Hello there, world!');
    assert.equal(chunks.at(-1).choices[0].finish_reason, 'stop');
    assert(chunks.every((chunk) => chunk.usage === undefined));
  });

  test('ends with the usage when asked', async () => {
    const chunks = [];
    const stream = await ask('hi', { stream: true, stream_options: { include_usage: true } });
    for await (const chunk of stream) chunks.push(chunk);
    assert.deepEqual(chunks.at(-1).choices, []);
    assert(chunks.at(-1).usage.total_tokens > 0);
    assert(chunks.slice(0, -1).every((chunk) => chunk.usage === null && chunk.choices.length === 1));
  });

  test('is unchanged when it is long and of all kinds of characters', async () => {
    const { texts, reasons } = await read(await ask(LONG_TEXT, { stream: true }));
    assert.equal(texts[0], LONG_TEXT);
    assert.deepEqual(reasons, ['stop']);
  });

  test('may have several choices', async () => {
    const { texts, reasons } = await read(await ask('one two', { stream: true, n: 3 }));
    assert.deepEqual(texts, ['one two', 'one two', 'one two']);
    assert.deepEqual(reasons, ['stop', 'stop', 'stop']);
  });

  test('is split by tee', async () => {
    const [left, right] = (await ask('one two', { stream: true })).tee();
    assert.deepEqual(await read(left), await read(right));
  });

  test('makes the round trip through a readable stream', async () => {
    const stream = await ask('Hello there, wörld!', { stream: true });
    const runner = ChatCompletionStream.fromReadableStream(stream.toReadableStream());
    const final = await runner.finalChatCompletion();
    assert.equal(final.choices[0].message.content, 'Hello there, wörld!');
  });

  test('is closed by break', async () => {
    for await (const chunk of await ask(sim({ events: 1000, delay: 20 }), { stream: true })) {
      if (chunk.choices[0].delta.content) break;
    }
    assert.equal((await ask('next')).choices[0].message.content, 'next');
  });

  test('is ended by abort', async () => {
    const stream = await ask(sim({ events: 1000, delay: 20 }), { stream: true });
    let chunks = 0;
    for await (const _ of stream) {
      if (++chunks === 5) stream.controller.abort();
    }
    assert(chunks < 100);
    assert.equal((await ask('next')).choices[0].message.content, 'next');
  });
});

describe('the stream runner', () => {
  const run = (content, options) =>
    client.chat.completions.stream({ model: 'gpt-4o', messages: user(content), ...options });

  test('gives the text as it comes and the final completion', async () => {
    const runner = run('Hello there, world!', { stream_options: { include_usage: true } });
    let text = '';
    const done = [];
    runner.on('content', (delta) => (text += delta));
    runner.on('content.done', ({ content }) => done.push(content));
    const final = await runner.finalChatCompletion();
    assert.equal(text, 'Hello there, world!');
    assert.deepEqual(done, ['Hello there, world!']);
    assert.equal(final.choices[0].message.content, 'Hello there, world!');
    assert.equal(final.choices[0].finish_reason, 'stop');
    assert.equal((await runner.totalUsage()).total_tokens, final.usage.total_tokens);
    assert.deepEqual((await runner.finalMessage()).role, 'assistant');
  });

  test('is read with for await', async () => {
    assert.deepEqual((await read(run('one two'))).texts, ['one two']);
  });

  test('keeps choices apart', async () => {
    const final = await run('one two', { n: 3 }).finalChatCompletion();
    assert.deepEqual(final.choices.map((choice) => choice.message.content), ['one two', 'one two', 'one two']);
  });

  test('parses by a schema', async () => {
    const runner = run(sim({ say: JSON.stringify(PERSON), events: 9 }), { response_format });
    const final = await runner.finalChatCompletion();
    assert.deepEqual(final.choices[0].message.parsed, PERSON);
  });

  test('makes the round trip through a readable stream', async () => {
    const copy = ChatCompletionStream.fromReadableStream(run('one two').toReadableStream());
    assert.equal(await copy.finalContent(), 'one two');
  });

  test('is ended by abort', async () => {
    const runner = run(sim({ events: 1000, delay: 20 }));
    runner.once('content', () => runner.abort());
    await assert.rejects(runner.done(), OpenAI.APIUserAbortError);
    assert.equal((await ask('next')).choices[0].message.content, 'next');
  });

  test('fails with the error of a run that breaks', async () => {
    const runner = run(sim({ fail: 3, error: 'it broke' }));
    await assert.rejects(runner.finalChatCompletion(), /it broke/);
  });
});

describe('errors', () => {
  test('of a bad request name the field, and nothing is sent again', async () => {
    const counts = await simulator.count(async () => {
      for (const [field, param] of [
        [{ temperature: 3 }, 'temperature'],
        [{ messages: [] }, 'messages'],
        [{ messages: [{ role: 'nobody', content: '' }] }, 'messages[0].role'],
        [{ tools: [{ type: 'custom', custom: {} }] }, 'tools[0].custom.name'],
      ]) {
        await assert.rejects(ask('hi', field), (error) => {
          assert(error instanceof OpenAI.BadRequestError);
          assert.deepEqual([error.param, error.type], [param, 'invalid_request_error']);
          return true;
        });
      }
    });
    assert.equal(counts.http_requests, 0);
  });

  test('within a stream are thrown, and no end is pretended', async () => {
    let text = '';
    const reasons = [];
    const stream = await ask(sim({ events: 10, fail: 4, error: 'it broke' }), { stream: true });
    await assert.rejects(
      async () => {
        for await (const { choices } of stream) {
          text += choices[0].delta.content ?? '';
          if (choices[0].finish_reason) reasons.push(choices[0].finish_reason);
        }
      },
      (error) => error instanceof OpenAI.APIError && /it broke/.test(error.message),
    );
    assert.equal(text, '1 2 3 4 ');
    assert.deepEqual(reasons, []);
  });

  test('of a rate limit are waited for, and the run is started once', async () => {
    await simulator.fault('run', { status: 429, headers: { 'retry-after': '1' } });
    const began = performance.now();
    const counts = await simulator.count(async () => {
      assert.equal((await ask('hi')).choices[0].message.content, 'hi');
    });
    assert(performance.now() - began >= 1000);
    assert.deepEqual([counts.http_requests, counts.runs], [2, 1]);
  });

  test('of a spent quota are not tried again', async () => {
    // It is remembered, for a model that no other test uses.
    const body = { message: 'Daily limit reached for this model' };
    await simulator.fault('run', { status: 429, body, times: 3 });
    const counts = await simulator.count(() =>
      assert.rejects(ask('hi', { model: 'o1' }), (error) => {
        assert(error instanceof OpenAI.RateLimitError);
        assert.equal(error.code, 'insufficient_quota');
        return true;
      }),
    );
    assert.equal(counts.http_requests, 1);
  });

  for (const stream of [false, true]) {
    const how = stream ? 'streamed' : 'whole';

    for (const fault of [{ status: 500 }, { status: 503 }, { status: 504 }, { kind: 'reset' }]) {
      test(`of a run that may have started start no other: ${JSON.stringify(fault)}, ${how}`, async () => {
        await simulator.fault('run', { ...fault, times: 3 });
        const counts = await simulator.count(() =>
          assert.rejects(ask('hi', { stream }), OpenAI.InternalServerError),
        );
        assert.equal(counts.http_requests, 1);
      });
    }

    test(`of a run that fails before its first text start no other: ${how}`, async () => {
      const counts = await simulator.count(() =>
        assert.rejects(ask(sim({ error: 'no luck' }), { stream }), /502 .*no luck/),
      );
      assert.equal(counts.runs, 1);
    });

    for (const step of ['sign_up', 'create_prompt', 'connect']) {
      test(`before the run are got over: ${step}, ${how}`, async () => {
        const fresh = client.withOptions({ baseURL: await startGateway(simulator) });
        await simulator.fault(step, { status: 503, times: 2 });
        const body = { model: 'gpt-4o', messages: user('hi'), stream };
        const counts = await simulator.count(async () => {
          const answer = await fresh.chat.completions.create(body);
          const text = stream ? (await read(answer)).texts[0] : answer.choices[0].message.content;
          assert.equal(text, 'hi');
        });
        assert.equal(counts.runs, 1);
      });
    }
  }

  test('of a deadline come with its name, and start no other run', async () => {
    const hurried = client.withOptions({
      baseURL: await startGateway(simulator, '--first-event-timeout', '0.5'),
    });
    const body = { model: 'gpt-4o', messages: user(sim({ first: 5000 })) };
    const counts = await simulator.count(() =>
      assert.rejects(hurried.chat.completions.create(body), /504 .*LANGFAST2API_FIRST_EVENT_TIMEOUT/),
    );
    assert.equal(counts.runs, 1);
  });
});

describe('patience', () => {
  test('comments in silence are no trouble', async () => {
    const slow = client.withOptions({ baseURL: await startGateway(simulator, '--keep-alive', '0.2') });
    const body = { model: 'gpt-4o', messages: user(sim({ events: 4, silence: 1500 })) };
    const raw = await slow.chat.completions.create({ ...body, stream: true }).asResponse();
    assert((await raw.text()).split('\n').filter((line) => line.startsWith(':')).length >= 4);
    const { texts } = await read(await slow.chat.completions.create({ ...body, stream: true }));
    assert.deepEqual(texts, ['1 2 3 4 ']);
    assert.equal(await slow.chat.completions.stream(body).finalContent(), '1 2 3 4 ');
  });

  test('a timeout of the client is thrown, and the next request is answered', async () => {
    const options = { timeout: 300, maxRetries: 0 };
    await assert.rejects(
      client.chat.completions.create({ model: 'gpt-4o', messages: user(sim({ first: 5000 })) }, options),
      OpenAI.APIConnectionTimeoutError,
    );
    assert.equal((await ask('next')).choices[0].message.content, 'next');
  });

  test('a request is aborted by a signal', async () => {
    const signal = AbortSignal.timeout(300);
    await assert.rejects(
      client.chat.completions.create({ model: 'gpt-4o', messages: user(sim({ first: 5000 })) }, { signal }),
      OpenAI.APIUserAbortError,
    );
    assert.equal((await ask('next')).choices[0].message.content, 'next');
  });
});
