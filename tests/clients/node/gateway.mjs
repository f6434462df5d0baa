// Starts the program and the simulator of LangFast, both real processes on ports of their own.
// The environment says where they are: GATEWAY and SIMULATOR hold the paths of the two programs.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

// Nothing here may go through a proxy, and no setting of the person's own may leak in.
const environment = Object.fromEntries(
  Object.entries(process.env).filter(
    ([name]) => !name.startsWith('LANGFAST2API_') && !name.toLowerCase().endsWith('_proxy'),
  ),
);

// What was started ends with the tests, and does not keep them from ending.
const processes = [];
const directories = [];
process.on('exit', () => {
  processes.forEach((child) => child.kill('SIGKILL'));
  directories.forEach((path) => rmSync(path, { recursive: true, force: true }));
});

// Starts a program that says on its first line where it listens; gives that address, and a function
// that returns what the program has logged so far.
async function start(program, args) {
  const child = spawn(program, args, { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
  processes.push(child);
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text) => (log += text));
  const url = await new Promise((resolve, reject) => {
    let line = '';
    child.on('error', reject);
    child.on('exit', () => reject(new Error(`${program} has ended: ${line} ${log.slice(-5000)}`)));
    child.stdout.setEncoding('utf8').on('data', (text) => {
      line += text;
      const address = line.match(/http:\/\/[^\s,/]+/);
      if (address && line.includes('\n')) resolve(address[0]);
    });
  });
  [child, child.stdout, child.stderr].forEach((handle) => handle.unref());
  return { url, log: () => log };
}

export class Simulator {
  static async start() {
    const simulator = new Simulator();
    const args = ['--listen', '127.0.0.1:0', '--delay', '1'];
    simulator.url = (await start(process.env.SIMULATOR, args)).url;
    return simulator;
  }

  // Lets the next requests at this step fail: { status, headers, body, kind, times }.
  fault(step, fault) {
    return this.#post('fault', { step, ...fault });
  }

  // Lets the next runs answer as these say, one each: { text, calls: [{ name, arguments }], sim }.
  turns(...turns) {
    return this.#post('turns', turns);
  }

  // Forgets queued faults and turns, and recorded runs; counts stay.
  reset() {
    return this.#post('reset');
  }

  async stats() {
    return (await fetch(`${this.url}/_sim/stats`)).json();
  }

  // The body of the run that was started last.
  async lastRun() {
    return (await (await fetch(`${this.url}/_sim/runs`)).json()).at(-1);
  }

  // The contents of the messages of the run that was started last.
  async told() {
    return (await this.lastRun()).prompt_meta.messages.map(({ content }) => content);
  }

  // What happens during `work`, by the simulator's count.
  async count(work) {
    const before = await this.stats();
    await work();
    const now = await this.stats();
    return Object.fromEntries(Object.entries(now).map(([name, count]) => [name, count - before[name]]));
  }

  async #post(name, body) {
    const response = await fetch(`${this.url}/_sim/${name}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${name}: ${response.status} ${await response.text()}`);
  }
}

// The program in front of a simulator; gives the base URL of its API.
export async function startGateway(simulator, ...settings) {
  return `${(await startLogged(simulator, ...settings)).url}/v1`;
}

// The program in front of a simulator; gives the URL of its root, and a function that returns its log.
export async function startLogged(simulator, ...settings) {
  const state = mkdtempSync(join(tmpdir(), 'gateway-'));
  directories.push(state);
  const args = [
    ...['--listen', '127.0.0.1:0', '--log', 'debug', '--state-dir', state],
    ...['--supabase-url', simulator.url, '--runner-url', simulator.url],
    // What is listed must not depend on the day.
    '--all-models',
    // A test that has the same request fail again means another run.
    ...['--remember-failures', '0'],
    ...settings,
  ];
  return start(process.env.GATEWAY, args);
}

// A message that makes the simulated run answer as these keys say.
export function sim(keys) {
  const words = Object.entries(keys).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  return `/sim ${words.join(' ')}`;
}

// The messages of a conversation in which a user has said this.
export const user = (content) => [{ role: 'user', content }];

// A long text of all kinds of characters, in words: the simulator sends a word an event.
const WORDS = 'Zażółć gęślą jaźń 你好，世界。 👩‍👩‍👧‍👦 🏳️‍🌈 a\tb مرحبا नमस्ते "\\n" \u2028 e\u0301 ';
export const LONG_TEXT = WORDS.repeat(500) + 'end';
