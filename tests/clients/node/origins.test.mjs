// Pages of other origins, in a real browser: whatever one tries, nothing is started and nothing is
// read; and a page whose origin is allowed can do all. What reaches LangFast, the simulator counts.

import assert from 'node:assert/strict';
import { createReadStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { skip, startBrowser } from './browser.mjs';
import { Simulator, sim, startLogged, user } from './gateway.mjs';

const KEY = 'a-key-of-the-test';

// Every route, with a model's name where one takes it. A body holds `=`: a form can send it as well.
const GETS = ['/', '/v1/models', '/v1/models/gpt-4o', '/status', '/status/models', '/metrics'];
GETS.push('/healthz', '/readyz', '/v1/doctor/stream');
const ask = (more) => JSON.stringify({ model: 'gpt-4o', ...more, user: 'a=b' });
const POSTS = {
  '/v1/chat/completions': ask({ messages: user('hi'), n: 2 }),
  '/v1/completions': ask({ prompt: 'hi' }),
  '/v1/messages': ask({ messages: user('hi'), max_tokens: 9 }),
  '/v1/messages/count_tokens': ask({ messages: user('hi') }),
  '/v1/responses': ask({ input: 'hi' }),
};

// Runs in the page: asks for every route in every way that a page has. Gives a list of what was
// tried: the way, the request as the log names it (a preflight that is refused comes alone), and what
// the page's script could read of the answer.
async function tryAll({ url, home, otherHome, gets, posts, key }) {
  const tries = [];
  const attempt = (way, method, path, work) => {
    const target = `${url}${path}?${encodeURIComponent(way)}`;
    const read = (async () => work(target))().catch(() => undefined);
    const line = `${method} ${path}`;
    tries.push(read.then((read) => ({ way, line, path, read: read || undefined })));
  };

  // What a response shows; an opaque one has neither a status nor a text.
  const shown = async (response) => {
    const text = await response.text();
    return response.status || text ? [response.status, text] : undefined;
  };
  const fetched = (options) => async (target) => shown(await fetch(target, options));
  const xhr = (method, body) => (target) =>
    new Promise((resolve) => {
      const request = new XMLHttpRequest();
      request.open(method, target);
      request.onloadend = () => resolve(request.status && [request.status, request.responseText]);
      request.send(body);
    });
  // A new element that loads something, and what it has become then.
  const loaded = (name, properties, look) =>
    new Promise((resolve) => {
      const element = Object.assign(document.createElement(name), properties);
      element.onload = () => resolve(look(element));
      element.onerror = () => resolve(undefined);
      document.body.append(element);
    });
  // What is seen of a frame in which something happens.
  const framed = (work) =>
    new Promise((resolve) => {
      const frame = document.createElement('iframe');
      frame.name = `frame-${Math.random()}`;
      document.body.append(frame);
      frame.onload = () => resolve(frame.contentDocument?.body.textContent);
      work(frame);
    });
  const form = (action, method, enctype, body) =>
    framed((frame) => {
      const form = document.createElement('form');
      Object.assign(form, { action, method, enctype, target: frame.name });
      const [name, value] = body.split('=');
      form.append(Object.assign(document.createElement('input'), { name, value }));
      document.body.append(form);
      form.submit();
    });
  // What a foreign script and a foreign style give away; frames are numbers among the globals.
  const globals = new Set(Object.keys(globalThis));
  const newGlobals = () =>
    Object.keys(globalThis).filter((name) => !globals.has(name) && isNaN(name))[0];
  const rules = ({ sheet }) => {
    try {
      return sheet.cssRules.length;
    } catch {
      return undefined;
    }
  };
  const heard = (source) =>
    new Promise((resolve) => {
      source.onopen = source.onmessage = () => resolve('opened');
      source.onerror = () => resolve(undefined);
    }).finally(() => source.close());
  const redirected = (target, from = home) => `${from}/redirect?${encodeURIComponent(target)}`;

  for (const path of gets) {
    const get = (way, work) => attempt(way, 'GET', path, work);
    get('fetch', fetched({}));
    get('fetch with cookies', fetched({ credentials: 'include' }));
    get('fetch without CORS', fetched({ mode: 'no-cors' }));
    get('fetch without a referrer', fetched({ mode: 'no-cors', referrerPolicy: 'no-referrer' }));
    get('a redirected fetch', (target) => fetched({ mode: 'no-cors' })(redirected(target)));
    get('XMLHttpRequest', xhr('GET'));
    get('EventSource', (target) => heard(new EventSource(target)));
    get('an image', (src) => loaded('img', { src }, (image) => image.naturalWidth));
    get('a script', (src) => loaded('script', { src }, newGlobals));
    get('a module', (target) => import(target).then(() => 'loaded'));
    get('a style', (href) => loaded('link', { rel: 'stylesheet', href }, rules));
    get('a prefetch', (href) => loaded('link', { rel: 'prefetch', href }, () => undefined));
    get('a frame', (target) => framed((frame) => (frame.src = target)));
    get('a form', (target) => form(target, 'get', '', 'a=b'));
    attempt('HEAD', 'HEAD', path, fetched({ mode: 'no-cors', method: 'HEAD' }));
    if (key) {
      const headers = { authorization: `Bearer ${key}` };
      attempt('fetch with the key', 'OPTIONS', path, fetched({ headers }));
    }
  }
  for (const [path, body] of Object.entries(posts)) {
    const untyped = new Blob([body]);
    const json = new Blob([body], { type: 'application/json' });
    const post = (way, work) => attempt(way, 'POST', path, work);
    const preflighted = (way, work) => attempt(way, 'OPTIONS', path, work);
    const opaque = { method: 'POST', mode: 'no-cors' };
    post('fetch without a type', fetched({ method: 'POST', body: untyped }));
    post('fetch of text', fetched({ method: 'POST', body }));
    preflighted('fetch of JSON', fetched({ method: 'POST', body: json }));
    preflighted('PUT', fetched({ method: 'PUT', body }));
    if (key) {
      const headers = { 'x-api-key': key };
      preflighted('fetch with the key', fetched({ method: 'POST', body: json, headers }));
      post('fetch with the key, without CORS', fetched({ ...opaque, body: untyped, headers }));
    }
    post('fetch without a type and CORS', fetched({ ...opaque, body: untyped }));
    post('fetch of text without CORS', fetched({ ...opaque, body }));
    post('fetch of a form without CORS', fetched({ ...opaque, body: new URLSearchParams({ body }) }));
    post('fetch with cookies', fetched({ ...opaque, body: untyped, credentials: 'include' }));
    post('fetch that outlives the page', fetched({ ...opaque, body: untyped, keepalive: true }));
    post(
      'fetch without a referrer',
      fetched({ ...opaque, body: untyped, referrerPolicy: 'no-referrer' }),
    );
    post('a redirected fetch', (target) => fetched({ ...opaque, body: untyped })(redirected(target)));
    post('a fetch redirected from elsewhere', (target) =>
      fetched({ ...opaque, body: untyped })(redirected(redirected(target, otherHome))),
    );
    post('XMLHttpRequest', xhr('POST', untyped));
    post('a form of text', (target) => form(target, 'post', 'text/plain', body));
    post('a form', (target) => form(target, 'post', 'application/x-www-form-urlencoded', body));
    post('a redirected form', (target) => form(redirected(target), 'post', 'text/plain', body));
    post('a beacon', (target) => void navigator.sendBeacon(target, untyped));
    post('a beacon of text', (target) => void navigator.sendBeacon(target, body));
    preflighted('a beacon of JSON', (target) => void navigator.sendBeacon(target, json));
    post('a ping', (ping) =>
      framed((frame) => {
        const link = document.createElement('a');
        Object.assign(link, { href: 'about:blank', target: frame.name, ping }).click();
      }),
    );
    attempt('GET', 'GET', path, fetched({ mode: 'no-cors' }));
  }
  for (const path of ['/v1/responses', '/v1/chat/completions'])
    attempt('WebSocket', 'GET', path, (target) =>
      heard(new WebSocket(target.replace('http', 'ws'))),
    );
  return Promise.all(tries);
}

// What a log has after its first `from` characters: a request and its status each.
function requests({ log }, from) {
  const lines = log().slice(from).matchAll(/^\S+ +[A-Z]+ +([A-Z]+ \/\S*) status=(\d+)/gm);
  return [...lines].map(([, line, status]) => ({ line, status: Number(status) }));
}

// Waits until the log tells of all that was tried, and gives what it tells.
async function answered(server, from, tries) {
  for (let patience = 300; ; patience--) {
    const logged = requests(server, from);
    const left = logged.map(({ line }) => line);
    const missing = tries.filter(({ line }) => {
      const at = left.indexOf(line);
      if (at >= 0) left.splice(at, 1);
      return at < 0;
    });
    if (!missing.length) return logged;
    if (!patience) assert.fail(`never seen: ${JSON.stringify(missing)}`);
    await sleep(100);
  }
}

describe('a page', { skip }, () => {
  let directory, simulator, open, keyed, byName, allowing, sites, port, browser, end;

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'origins-'));
    const keys = join(directory, 'keys');
    writeFileSync(keys, KEY);
    sites = await startSites();
    ({ port } = sites.address());
    simulator = await Simulator.start();
    open = await startLogged(simulator);
    keyed = await startLogged(simulator, '--api-keys-file', keys);
    byName = await startLogged(simulator, '--allowed-hosts', 'lan.example');
    allowing = await startLogged(
      simulator,
      ...['--api-keys-file', keys, '--cors-origins', site('app.example')],
    );
    // A foreign site, an allowed one, and this machine by a name in the local network.
    const names = ['evil.example', 'app.example', 'lan.example'];
    const rules = names.map((name) => `MAP ${name} 127.0.0.1`).join(',');
    ({ browser, end } = await startBrowser(`--host-resolver-rules=${rules}`));
  });

  after(async () => {
    await end?.();
    sites?.close();
    sites?.closeAllConnections();
    rmSync(directory, { recursive: true, force: true });
  });

  beforeEach(() => simulator.reset());

  const site = (host) => `http://${host}:${port}`;

  // Does something with an open page of a site, and closes it.
  const visit = async (url, work) => {
    const page = await browser.newPage();
    try {
      await page.goto(url);
      return await work(page);
    } finally {
      await page.close();
    }
  };

  const everything = (url, key) => ({
    ...{ url, key, gets: GETS, posts: POSTS },
    ...{ home: site('evil.example'), otherHome: site('localhost') },
  });

  // Has a page or frame try all that it can: what was tried, what the server made of it, and how much
  // of it has reached LangFast.
  const attack = async (server, where, key, url = server.url) => {
    const from = server.log().length;
    let tries, logged;
    const counts = await simulator.count(async () => {
      tries = await where.evaluate(tryAll, everything(url, key));
      logged = await answered(server, from, tries);
    });
    return { tries, logged, reached: counts.http_requests };
  };

  const assertRefused = ({ tries, logged, reached }) => {
    assert.equal(reached, 0, 'nobody signs in, nothing is started');
    assert.deepEqual(tries.filter(({ read }) => read), [], 'nothing is read');
    assert.deepEqual(logged.filter(({ status }) => status !== 403), [], 'all is refused');
    assert(tries.length > 200 && logged.length >= tries.length);
  };

  for (const host of ['127.0.0.1', 'localhost', 'evil.example', 'a.localhost']) {
    for (const key of [undefined, KEY]) {
      const how = key ? ', though it knows a key' : '';
      test(`of http://${host}:PORT has nothing done and reads nothing${how}`, async () => {
        const server = key ? keyed : open;
        await visit(site(host), async (page) => assertRefused(await attack(server, page, key)));
      });
    }
  }

  test('has nothing done by a form that takes the user along', async () => {
    for (const server of [open, keyed]) {
      for (const [path, body] of Object.entries(POSTS)) {
        const counts = await simulator.count(() =>
          visit(site('evil.example'), async (page) => {
            const answer = page.waitForResponse(`${server.url}${path}`);
            await page.evaluate(
              ([action, body]) => {
                const form = document.createElement('form');
                Object.assign(form, { action, method: 'post', enctype: 'text/plain' });
                const [name, value] = body.split('=');
                form.append(Object.assign(document.createElement('input'), { name, value }));
                document.body.append(form);
                form.submit();
              },
              [`${server.url}${path}`, body],
            );
            assert.equal((await answer).status(), 403, path);
          }),
        );
        assert.equal(counts.http_requests, 0);
      }
    }
  });

  const opaque = {
    'a sandboxed frame': { sandbox: 'allow-scripts allow-forms', srcdoc: '<body></body>' },
    'a data: URL': { src: 'data:text/html,<body></body>' },
  };
  for (const [what, properties] of Object.entries(opaque)) {
    test(`that is ${what}, of the origin null, has nothing done`, async () => {
      await visit(site('evil.example'), async (page) => {
        await page.evaluate(
          (properties) =>
            new Promise((resolve) => {
              const frame = Object.assign(document.createElement('iframe'), properties);
              frame.onload = resolve;
              document.body.append(frame);
            }),
          properties,
        );
        const frame = page.frames()[1];
        assert.equal(await frame.evaluate(() => origin), 'null');
        assertRefused(await attack(open, frame));
      });
    });
  }

  test('that is a file has nothing done', async () => {
    const file = join(directory, 'page.html');
    writeFileSync(file, '<!doctype html><body></body>');
    await visit(`file://${file}`, async (page) => assertRefused(await attack(open, page)));
  });

  test('that has made its name mean this machine has nothing done', async () => {
    // The server's own refusal under that name stands for the page that was there before.
    await visit(`http://evil.example:${new URL(open.url).port}/`, async (page) => {
      const asked = { gets: GETS, posts: POSTS };
      let answers;
      const { http_requests } = await simulator.count(async () => {
        answers = await page.evaluate(async ({ gets, posts }) => {
          const asked = Object.entries(posts).map(([path, body]) =>
            fetch(path, { method: 'POST', body: new Blob([body]) }),
          );
          const responses = await Promise.all([...asked, ...gets.map((path) => fetch(path))]);
          return responses.map(({ status }) => status);
        }, asked);
      });
      assert.equal(http_requests, 0);
      assert.deepEqual([...new Set(answers)], [403]);
    });
  });

  test('starts nothing at a name in the local network, to which browsers say less', async () => {
    const url = byName.url.replace('127.0.0.1', 'lan.example');
    await visit(site('evil.example'), async (page) => {
      const { tries, logged, reached } = await attack(byName, page, undefined, url);
      assert.deepEqual(tries.filter(({ read }) => read), []);
      const isRead = ({ line }) => /^(GET|HEAD) /.test(line);
      assert.deepEqual(logged.filter((one) => !isRead(one) && one.status !== 403), []);
      // By images and the like, which bring no word of whose they are.
      assert(logged.some((one) => isRead(one) && one.status === 200));
      assert.equal(reached, 0);
    });
  });

  test('may hold a link to the server, which opens its page', async () => {
    for (const server of [open, keyed]) {
      await visit(site('evil.example'), async (page) => {
        await page.setContent(`<a href="${server.url}/">a gateway</a>`);
        const answer = page.waitForResponse(`${server.url}/`);
        await page.getByRole('link').click();
        assert.equal((await answer).status(), 200);
        await page.getByLabel(server === open ? 'Message' : /asks for an API key/).waitFor();
      });
    }
  });

  describe('of an allowed origin', () => {
    // Does something in such a page, which knows the server and its key.
    const there = (work, more) =>
      visit(site('app.example'), (page) =>
        page.evaluate(work, { url: allowing.url, key: KEY, ...more }),
      );

    test('has everything done, and reads it', async () => {
      await visit(site('app.example'), async (page) => {
        const { tries, logged, reached } = await attack(allowing, page, KEY);
        const withKey = tries.filter(({ way }) => way === 'fetch with the key');
        const statuses = withKey.map(({ path, read }) => [path, read?.[0]]);
        const all = [...GETS, ...Object.keys(POSTS)];
        assert.deepEqual(statuses, all.map((path) => [path, 200]));
        assert(reached > 0);
        const preflights = logged.filter(({ line }) => line === 'OPTIONS /v1/messages');
        assert(preflights.length && preflights.every(({ status }) => status === 204));
        // It tells a refusal from a failure, too.
        const keyless = tries.find(({ way, path }) => way === 'fetch' && path === '/v1/models');
        assert.equal(keyless.read[0], 401);
      });
    });

    test('reads an answer while it comes', async () => {
      const answer = await there(
        async ({ url, key, body }) => {
          const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
          const response = await fetch(`${url}/v1/chat/completions`, { method: 'POST', headers, body });
          const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
          let [text, pieces] = ['', 0];
          for (let piece; !(piece = await reader.read()).done; pieces++) text += piece.value;
          return { text, pieces, type: response.headers.get('content-type') };
        },
        { body: ask({ messages: user(sim({ text: 'lorem', delay: 20 })), stream: true }) },
      );
      assert.match(answer.type, /^text\/event-stream/);
      assert(answer.pieces > 3 && answer.text.endsWith('data: [DONE]\n\n'), answer.text);
    });

    test('reads what is said beside an answer and a refusal', async () => {
      const look = ({ url, key, body, names }) => {
        const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
        return fetch(`${url}/v1/chat/completions`, { method: 'POST', headers, body }).then(
          async (response) => [
            response.status,
            (await response.json()).error?.code,
            Object.fromEntries(names.map((name) => [name, response.headers.get(name)])),
          ],
        );
      };
      const names = ['x-request-id', 'x-should-retry', 'retry-after', 'www-authenticate'];
      names.push('x-langfast2api-ignored');
      const body = ask({ messages: user('hi'), seed: 7 });

      const [, , fields] = await there(look, { body, names });
      assert.match(fields['x-langfast2api-ignored'], /seed/);
      assert.match(fields['x-request-id'], /^req_/);

      const wrong = await there(look, { body, names, key: 'wrong' });
      assert.deepEqual(wrong.slice(0, 2), [401, 'invalid_api_key']);
      assert.equal(wrong[2]['www-authenticate'], 'Bearer');

      // It is remembered, for a model that no other test uses.
      const said = { error: 'daily quota exceeded for this model' };
      await simulator.fault('run', { status: 429, body: said });
      const spent = await there(look, { body: ask({ model: 'o1', messages: user('hi') }), names });
      assert.deepEqual(spent.slice(0, 2), [429, 'insufficient_quota']);
      assert.equal(spent[2]['x-should-retry'], 'false');
      assert.match(spent[2]['x-request-id'], /^req_/);

      const headers = { 'retry-after': '7' };
      await simulator.fault('run', { status: 429, headers, body: { error: 'too many requests' } });
      const hurried = await there(look, { body, names });
      assert.deepEqual(hurried.slice(0, 2), [429, 'rate_limit_exceeded']);
      assert.equal(hurried[2]['retry-after'], '7');
    });

    test('asks LangFast once by an SDK when the quota is spent, and says why', async () => {
      const openai = async ({ url, key, home }) => {
        const { default: OpenAI } = await import(`${home}/node_modules/openai/index.mjs`);
        const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, dangerouslyAllowBrowser: true });
        const ask = { model: 'o3', messages: [{ role: 'user', content: 'hi' }] };
        return client.chat.completions.create(ask).then(
          (answer) => ({ text: answer.choices[0].message.content, id: answer._request_id }),
          ({ status, message, requestID: id }) => ({ status, message, id }),
        );
      };
      const anthropic = async ({ url, key, home }) => {
        const { default: Anthropic } = await import(`${home}/node_modules/@anthropic-ai/sdk/index.mjs`);
        const client = new Anthropic({ baseURL: url, apiKey: key, dangerouslyAllowBrowser: true });
        const ask = { model: 'o3-mini', max_tokens: 9, messages: [{ role: 'user', content: 'hi' }] };
        return client.messages.create(ask).then(
          (answer) => ({ text: answer.content[0].text, id: answer._request_id }),
          ({ status, message, requestID: id }) => ({ status, message, id }),
        );
      };
      for (const sdk of [openai, anthropic]) {
        const home = site('app.example');
        const answer = await there(sdk, { home });
        assert.equal(answer.text, 'hi');
        assert.match(answer.id, /^req_/);

        const said = { error: 'daily quota exceeded for this model' };
        const spent = { status: 429, body: said, times: 9 };
        await simulator.fault('run', spent);
        let refused;
        const counts = await simulator.count(async () => (refused = await there(sdk, { home })));
        assert.equal(counts.http_requests, 1, 'it is not asked again');
        assert.equal(refused.status, 429);
        assert.match(refused.message, /daily quota exceeded/);
        assert.match(refused.id, /^req_/);
        await simulator.reset();

        const stranger = await there(sdk, { home, key: 'wrong' });
        assert.equal(stranger.status, 401, stranger.message);
      }
    });
  });
});

// Serves, under whatever name it is asked by, an empty page, redirections, and the packages.
async function startSites() {
  // What Anthropic's package takes from others. The second is not for browsers, and not tried here.
  const imports = {
    '@opentelemetry/api': '/node_modules/@opentelemetry/api/dist/index.mjs',
    standardwebhooks: 'data:text/javascript,export class Webhook {}',
  };
  const page = `<!doctype html><script type="importmap">${JSON.stringify({ imports })}</script>`;
  const server = createServer((request, response) => {
    const { pathname, search } = new URL(request.url, 'http://sites');
    if (pathname === '/redirect') {
      response.writeHead(307, { location: decodeURIComponent(search.slice(1)) }).end();
    } else if (pathname.startsWith('/node_modules/')) {
      response.setHeader('content-type', 'text/javascript');
      const file = createReadStream(join(import.meta.dirname, pathname));
      file.on('error', () => response.writeHead(404).end()).pipe(response);
    } else {
      response.setHeader('content-type', 'text/html');
      response.end(pathname === '/' ? `${page}<body></body>` : '');
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}
