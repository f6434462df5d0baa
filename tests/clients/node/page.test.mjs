// The page at `/`, in a real browser.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { skip, startBrowser } from './browser.mjs';
import { Simulator, sim, startGateway } from './gateway.mjs';

const { source: axe } = createRequire(import.meta.url)('axe-core');
const KEY = 'a-key-of-the-test';

describe('the page', { skip }, () => {
  let simulator, open, keyed, directory, browser, end, page, problems;

  before(async () => {
    simulator = await Simulator.start();
    const root = async (...settings) =>
      (await startGateway(simulator, ...settings)).replace('/v1', '/');
    open = await root();
    directory = mkdtempSync(join(tmpdir(), 'page-'));
    const keys = join(directory, 'keys');
    writeFileSync(keys, KEY);
    keyed = await root('--api-keys-file', keys);
    ({ browser, end } = await startBrowser());
  });

  after(async () => {
    await end?.();
    rmSync(directory, { recursive: true, force: true });
  });

  beforeEach(async () => {
    await simulator.reset();
    problems = [];
    page = await browser.newPage();
    page.on('pageerror', (error) => problems.push(String(error)));
    page.on('console', (message) => {
      // Chromium itself reports every answer that is no success.
      if (message.type() === 'error' && !message.text().startsWith('Failed to load resource'))
        problems.push(message.text());
    });
  });

  afterEach(async () => {
    await page.close();
    assert.deepEqual(problems, [], 'the console has no errors, of the policy or others');
  });

  const visit = async (url = open) => {
    await page.goto(url);
    await page.getByRole('heading', { name: 'Chat' }).waitFor();
  };

  const say = async (text) => {
    await page.getByLabel('Message').fill(text);
    await page.keyboard.press('Enter');
  };

  const ended = () => page.waitForFunction(() => !document.querySelector('.waiting'));
  const answers = () => page.locator('.turn.assistant > p:not(.error, .note)').allTextContents();
  const shown = (text) => page.getByText(text).first().waitFor();

  // What axe finds: for screen readers, by contrast, by structure.
  const violations = async () => {
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run());
    return violations.map(({ id, nodes }) => [id, nodes[0].html]);
  };

  for (const scheme of ['light', 'dark']) {
    for (const [width, height] of [[360, 740], [1280, 860]]) {
      test(`is sound in ${scheme} at a width of ${width}`, async () => {
        await page.emulateMedia({ colorScheme: scheme });
        await page.setViewportSize({ width, height });
        await visit();
        await say(sim({ text: 'lorem' }));
        await ended();
        await say(sim({ text: 'x', fail: 1 }));
        await ended();
        assert.deepEqual(await violations(), []);
        const overflow = await page.evaluate(
          () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
        );
        assert.equal(overflow, 0, 'nothing is wider than the window');
      });
    }
  }

  test('streams answers, and each question carries the conversation', async () => {
    await visit();
    await say('one');
    await ended();
    await say('two');
    await ended();
    assert.deepEqual(await answers(), ['one', 'two']);
    const { messages } = (await simulator.lastRun()).prompt_meta;
    assert.deepEqual(messages.map(({ role, content }) => [role, content]), [
      ['user', 'one'],
      ['assistant', 'one'],
      ['user', 'two'],
    ]);
    // Once it is there, not piece by piece.
    assert.equal(await page.locator('#said').textContent(), 'gpt-4.1 said: two');
  });

  test('shows an answer while it comes, and stops it', async () => {
    await visit();
    await say(sim({ text: 'lorem', delay: 200 }));
    await page.waitForFunction(() => document.querySelector('.assistant.waiting p').textContent);
    await page.getByRole('button', { name: 'Stop' }).click();
    await shown('Stopped.');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'message');
    assert((await answers())[0].length > 0);
  });

  test('says in words what went wrong, and gives the question back', async () => {
    await visit();
    await simulator.fault('run', { status: 403, body: { error: 'not today' } });
    await say('hello');
    await shown(/not today/);
    assert.equal(await page.getByLabel('Message').inputValue(), 'hello');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.querySelectorAll('.turn.assistant').length === 2);
    await ended();
    assert.equal((await answers()).at(-1), 'hello');
    assert.equal((await simulator.lastRun()).prompt_meta.messages.length, 1);

    // One that breaks off is shown, and is no part of the conversation either.
    await say(sim({ text: 'lorem', fail: 5 }));
    await shown('simulated failure');
    assert((await answers()).at(-1).length > 0);
    await say('bye');
    await page.waitForFunction(() => document.querySelectorAll('.turn.assistant').length === 4);
    await ended();
    assert.equal((await simulator.lastRun()).prompt_meta.messages.length, 3);
  });

  test('offers what the chosen model accepts, and sends it', async () => {
    await visit();
    await page.getByLabel('Model').selectOption('gpt-5');
    assert(!(await page.getByLabel('Temperature').isVisible()));
    await page.getByLabel('Effort').selectOption('minimal');
    await say('hi');
    await ended();
    const { model, reasoning_effort } = (await simulator.lastRun()).prompt_meta;
    assert.deepEqual([model, reasoning_effort], ['gpt-5', 'minimal']);
    await page.getByLabel('Model').selectOption('gpt-4o');
    await page.getByLabel('Temperature').fill('0');
    await say('hi');
    await page.waitForFunction(() => document.querySelectorAll('.turn.assistant').length === 2);
    await ended();
    assert.equal((await simulator.lastRun()).prompt_meta.temperature, 0);
  });

  test('marks the models that leave, and takes the name of one that is not listed', async () => {
    await visit();
    const options = await page.locator('#model option').allTextContents();
    assert(options.includes('o1-mini (shut down 2025-10-27)'), options.join());
    assert.equal(options.at(-1), 'another…');
    await page.getByLabel('Model').selectOption('another…');
    assert(!(await page.getByLabel('Temperature').isVisible()));
    await page.getByLabel('Its name').fill('gpt-6-luna');
    assert.deepEqual(await violations(), []);
    await say('hi');
    await ended();
    assert.deepEqual(await answers(), ['hi']);
    assert.equal((await simulator.lastRun()).prompt_meta.model, 'gpt-6-luna');
  });

  test('shows how the server is', async () => {
    await visit();
    await say('hi');
    await ended();
    await shown('It works');
    assert.equal(await page.locator('#socket').textContent(), 'connected');
    assert.equal(await page.locator('#session').textContent(), 'anonymous');
    await page.waitForFunction(() => document.querySelectorAll('#plot rect').length > 0);
    assert.match(await page.locator('#plot').getAttribute('aria-label'), /first token: .* ms/);
  });

  test('works by keyboard alone, in the order in which it is read', async () => {
    await visit();
    const ids = [];
    for (let at = 0; at < 9; at++) {
      await page.keyboard.press('Tab');
      ids.push(await page.evaluate(() => document.activeElement.id || document.activeElement.localName));
      const outline = await page.evaluate(() => {
        const at = document.activeElement;
        const shown = at.type === 'radio' ? at.nextElementSibling : at;
        return getComputedStyle(shown).outlineStyle;
      });
      assert.equal(outline, 'solid', `${ids.at(-1)} shows that it has the focus`);
    }
    const order = 'new model temperature summary log message send copy input';
    assert.equal(ids.join(' '), order);
    await page.keyboard.press('ArrowRight');
    assert.match(await page.locator('#code').textContent(), /from openai import OpenAI/);
    await page.getByLabel('Message').focus();
    await page.keyboard.type('a');
    await page.keyboard.press('Shift+Enter');
    await page.keyboard.type('b');
    await page.keyboard.press('Enter');
    await ended();
    assert.deepEqual(await answers(), ['a\nb']);
  });

  test('asks for the key, keeps it in the tab, and never shows it', async () => {
    await page.goto(keyed);
    await page.getByLabel('This server asks for an API key').waitFor();
    assert.deepEqual(await violations(), []);
    await page.getByLabel('This server asks for an API key').fill('wrong');
    await page.keyboard.press('Enter');
    await shown('This key is not accepted');
    await page.getByLabel('This server asks for an API key').fill(KEY);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Chat' }).waitFor();
    await say("it's");
    await ended();
    assert.deepEqual(await answers(), ["it's"]);
    assert(!page.url().includes(KEY) && !(await page.content()).includes(KEY));

    await page.reload();
    await page.getByRole('heading', { name: 'Chat' }).waitFor();
    await page.getByRole('button', { name: 'Forget the API key' }).click();
    await page.getByLabel('This server asks for an API key').waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.length + localStorage.length), 0);
  });

  test('copies calls that work where the key is in the environment', async () => {
    await browser.grantPermissions(['clipboard-read', 'clipboard-write']);
    await page.goto(keyed);
    await page.getByLabel('This server asks for an API key').fill(KEY);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Chat' }).waitFor();
    const said = 'it\'s "5 $HOME" \\ back`ticks`, 你好';
    await page.getByLabel('Message').fill(said);
    const copied = async (language) => {
      await page.getByLabel(language, { exact: true }).check();
      await page.getByRole('button', { name: 'Copy' }).click();
      await shown('Copied');
      const call = await page.evaluate(() => navigator.clipboard.readText());
      assert(call.includes('OPENAI_API_KEY') && !call.includes(KEY));
      return call;
    };
    const run = (program, args, input) =>
      execFileSync(program, args, { input, encoding: 'utf8', env: { ...process.env, OPENAI_API_KEY: KEY } });

    const answer = run('sh', ['-s'], (await copied('curl')).replace('curl', 'curl --silent --noproxy "*"'));
    assert.equal(JSON.parse(answer).choices[0].message.content, said);
    const node = run(process.execPath, ['--input-type=module'], await copied('Node.js'));
    assert.equal(node.trimEnd(), said);
    // Read, not run: the package is not at hand here.
    const literal = 'import ast, sys; print([ast.literal_eval(k.value) for n in ast.walk(ast.parse(sys.stdin.read())) if isinstance(n, ast.Call) for k in n.keywords if k.arg == "messages"][0][0]["content"])';
    const python = run('python3', ['-X', 'utf8', '-c', literal], await copied('Python'));
    assert.equal(python.trimEnd(), said);
  });
});
