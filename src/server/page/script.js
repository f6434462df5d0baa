'use strict';
const $ = (id) => document.getElementById(id);
const API = new URL('v1', document.baseURI).href;
const KEY = 'langfast2api key';

let models = [];
let messages = [];
let running = null; // the AbortController of the answer under way
let keyWanted = false;

// The key lives in this tab alone: never in a URL, and never in what is copied.
const key = () => sessionStorage.getItem(KEY);

function request(path, options = {}) {
  const headers = { ...options.headers };
  if (key()) headers.Authorization = `Bearer ${key()}`;
  return fetch(path, { cache: 'no-store', ...options, headers });
}

function element(name, text, className = '') {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

// ---- the key

function askForKey() {
  keyWanted = true;
  sessionStorage.removeItem(KEY);
  $('inside').hidden = true;
  $('key-form').hidden = false;
  show('', 'An API key is needed');
}

$('key-form').addEventListener('submit', async (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, $('key').value.trim());
  $('key').value = '';
  await begin();
  if (key()) return $('message').focus();
  $('key-note').textContent = 'This key is not accepted. Check it and try again.';
  $('key').focus();
});

$('forget').addEventListener('click', () => {
  running?.abort();
  askForKey();
  $('key').focus();
});

// ---- how the server is

function show(className, text) {
  $('state').className = `pill ${className}`;
  if ($('state-text').textContent !== text) $('state-text').textContent = text;
}

const SESSIONS = { account: 'your account', anonymous: 'anonymous', none: 'not signed in yet' };

function duration(seconds) {
  const units = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const [size, unit] = units.find(([size]) => seconds >= size) ?? [1, 's'];
  return `${Math.floor(seconds / size)} ${unit}`;
}

const time = (ms) => (ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`);

function plot(times) {
  const most = Math.max(...times);
  const bars = times.map((ms, at) => {
    const bar = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
    const height = Math.max(1.5, (42 * ms) / most);
    const place = { x: 240 - 4 * (times.length - at), y: 44 - height, width: 3, height };
    Object.entries(place).forEach(([name, value]) => bar.setAttribute(name, value));
    return bar;
  });
  $('plot').replaceChildren(...bars);
  if (!times.length) return '–';
  const median = [...times].sort((a, b) => a - b)[times.length >> 1];
  const range = `${time(Math.min(...times))} to ${time(most)}`;
  $('plot').setAttribute('aria-label', `The last ${times.length} times to the first token: ${range}`);
  return `${time(times.at(-1))} (median of the last ${times.length}: ${time(median)})`;
}

async function look() {
  if (document.hidden || (keyWanted && !key())) return;
  let status;
  try {
    const answer = await request('status');
    if (answer.status === 401) return askForKey();
    if (!answer.ok) throw new Error(await words(answer));
    status = await answer.json();
  } catch (error) {
    return show('bad', error instanceof TypeError ? 'The server is not reachable' : error.message);
  }
  $('version').textContent = `${status.version}, up ${duration(status.uptime_s)}`;
  $('session').textContent = SESSIONS[status.session] ?? status.session;
  $('socket').textContent = status.socket === 'closed' ? 'closed until needed' : status.socket;
  $('under-way').textContent = status.under_way;
  $('answers').textContent = status.answers;
  $('first').textContent = plot(status.first_token_ms);
  $('problem').hidden = !status.problem;
  $('problem').textContent = status.problem ?? '';
  if (status.problem) show('bad', status.spent_quota ? 'The quota is spent' : 'Requests fail');
  else if (status.session === 'none') show('', 'Ready: it signs in with the first request');
  else show('good', 'It works');
}

// ---- models

// One that is not listed: the server tries it, unless it is set to refuse such names.
const OTHER = { numbers: [], words: {}, streams: true };

const chosen = () => $('model').value || $('other').value.trim();

function lasts({ is_shut_down, shutdown_date, replacement }) {
  if (!shutdown_date) return '';
  const instead = replacement ? `, and names ${replacement} in its place` : '';
  return `OpenAI ${is_shut_down ? 'has shut' : 'shuts'} it down on ${shutdown_date}${instead}`;
}

function option(model) {
  const { id, is_shut_down, shutdown_date } = model;
  const mark = shutdown_date ? ` (${is_shut_down ? 'shut down' : 'until'} ${shutdown_date})` : '';
  return new Option(`${id}${mark}`, id);
}

function choose() {
  const model = models.find((model) => model.id === $('model').value) ?? OTHER;
  $('other-field').hidden = model !== OTHER;
  $('temperature-field').hidden = !model.numbers.includes('temperature');
  for (const name of ['reasoning_effort', 'verbosity']) {
    const values = model.words[name] ?? [];
    const before = $(name).value;
    $(`${name}-field`).hidden = !values.length;
    $(name).replaceChildren(new Option('default', ''), ...values.map((value) => new Option(value)));
    $(name).value = values.includes(before) ? before : '';
  }
  const words = Object.entries(model.words).map(([name, values]) => `${name} (${values.join(', ')})`);
  const most = model.max_completion_tokens;
  const about = [
    model === OTHER && 'not listed here, and tried by its name',
    lasts(model),
    most && `up to ${most.toLocaleString('en')} tokens`,
    model.streams ? 'streamed' : 'comes in one piece',
  ];
  $('accepts').textContent = [...about, ...model.numbers, ...words].filter(Boolean).join(' · ');
  code();
}

// What the model takes of the fields, as the request has it.
function options() {
  const field = (name) => !$(`${name}-field`).hidden && $(name).value;
  const set = {};
  if (field('temperature')) set.temperature = Number(field('temperature'));
  for (const name of ['reasoning_effort', 'verbosity']) if (field(name)) set[name] = field(name);
  return set;
}

// ---- the chat

function turn(role, name, text) {
  $('empty').hidden = true;
  const box = element('article', '', `turn ${role}`);
  const body = element('p', text);
  box.append(element('h3', name), body);
  $('log').append(box);
  $('log').scrollTop = $('log').scrollHeight;
  return { box, body };
}

// Changes the log, and stays at its end unless somebody has scrolled up to read.
function follow(change) {
  const { scrollTop, clientHeight, scrollHeight } = $('log');
  change();
  if (scrollHeight - scrollTop - clientHeight < 40) $('log').scrollTop = $('log').scrollHeight;
}

async function words(answer) {
  const body = await answer.json().catch(() => null);
  const wait = answer.headers.get('retry-after');
  const text = body?.error?.message ?? `The server answered with HTTP ${answer.status}.`;
  return wait ? `${text} (Try again in ${wait} s.)` : text;
}

// The deltas of a streamed answer; what ends it early is thrown.
async function* deltas(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error('The connection ended before the answer did.');
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith('data: ')) continue;
      if (line === 'data: [DONE]') return;
      const chunk = JSON.parse(line.slice(6));
      if (chunk.error) throw new Error(chunk.error.message);
      yield chunk.choices[0]?.delta.content ?? '';
    }
  }
}

async function ask(text) {
  const model = chosen();
  const conversation = messages;
  conversation.push({ role: 'user', content: text });
  turn('user', 'You', text);
  const { box, body } = turn('assistant waiting', model, '');
  busy(new AbortController());
  $('said').textContent = `${model} is answering.`;
  let content = '';
  let failed = false;
  try {
    const answer = await request('v1/chat/completions', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ model, messages: conversation, stream: true, ...options() }),
      signal: running.signal,
    });
    if (answer.status === 401) askForKey();
    if (!answer.ok) throw new Error(await words(answer));
    for await (const delta of deltas(answer)) {
      content += delta;
      follow(() => body.append(delta));
    }
    $('said').textContent = `${model} said: ${content}`;
  } catch (error) {
    const stopped = error.name === 'AbortError';
    failed = !stopped;
    const why = error instanceof TypeError ? 'The server is not reachable.' : error.message;
    follow(() => box.append(element('p', stopped ? 'Stopped.' : why, stopped ? 'note' : 'error')));
    $('said').textContent = stopped ? 'Stopped.' : `It failed: ${why}`;
  }
  if (content && !failed) {
    conversation.push({ role: 'assistant', content });
  } else {
    // What was not answered is no part of the conversation: it can be sent again.
    conversation.pop();
    if (conversation === messages) $('message').value ||= text;
  }
  follow(() => box.classList.remove('waiting'));
  busy(null);
  code();
  look();
}

function busy(controller) {
  running = controller;
  const hadFocus = document.activeElement === $('stop') || document.activeElement === $('send');
  $('send').hidden = Boolean(running);
  $('stop').hidden = !running;
  if (hadFocus) (running ? $('stop') : $('message')).focus();
}

$('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = $('message').value.trim();
  if (!text || running) return;
  if (!chosen()) return $('other').focus();
  $('message').value = '';
  ask(text);
});

$('message').addEventListener('keydown', (event) => {
  // Enter that ends the input of a Chinese word, say, is not meant for us.
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $('composer').requestSubmit();
});

$('stop').addEventListener('click', () => running?.abort());

$('new').addEventListener('click', () => {
  running?.abort();
  messages = [];
  $('log').replaceChildren($('empty'));
  $('empty').hidden = false;
  code();
  $('message').focus();
});

// ---- the call as code

function code() {
  const draft = $('message').value.trim();
  const said = draft || !messages.length ? [{ role: 'user', content: draft || 'Say hello.' }] : [];
  const body = { model: chosen(), messages: [...messages, ...said], ...options() };
  const language = document.querySelector('[name=language]:checked').value;
  $('code').textContent = CODE[language](body);
  $('copied').textContent = '';
}

const fields = (body, equals) =>
  Object.entries(body).map(([name, value]) => `    ${name}${equals}${JSON.stringify(value)},`).join('\n');

const CODE = {
  curl: (body) => `curl ${API}/chat/completions \\
  -H "Authorization: Bearer $OPENAI_API_KEY" \\
  -H 'Content-Type: application/json' \\
  -d '${JSON.stringify(body, null, 2).replaceAll("'", "'\\''")}'`,

  python: (body) => `# pip install openai
import os
from openai import OpenAI

client = OpenAI(
    base_url="${API}",
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)
answer = client.chat.completions.create(
${fields(body, '=')}
)
print(answer.choices[0].message.content)`,

  node: (body) => `// npm install openai
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: "${API}",
  apiKey: process.env.OPENAI_API_KEY ?? "none",
});
const answer = await client.chat.completions.create({
${fields(body, ': ').replaceAll(/^ {4}/gm, '  ')}
});
console.log(answer.choices[0].message.content);`,
};

async function copy() {
  try {
    await navigator.clipboard.writeText($('code').textContent);
  } catch {
    // Over plain HTTP, browsers have no clipboard for pages: what is marked can be copied all the same.
    getSelection().selectAllChildren($('code'));
    if (!document.execCommand('copy')) return 'Marked: copy it with Ctrl+C';
  }
  return 'Copied';
}

$('copy').addEventListener('click', async () => ($('copied').textContent = await copy()));
$('model').addEventListener('change', choose);
['other', 'temperature', 'reasoning_effort', 'verbosity', 'message', 'languages'].forEach((id) =>
  $(id).addEventListener('input', code),
);

// ---- the beginning

async function begin() {
  try {
    const answer = await request('status/models');
    if (answer.status === 401) return askForKey();
    if (!answer.ok) throw new Error(await words(answer));
    models = await answer.json();
  } catch (error) {
    show('bad', error instanceof TypeError ? 'The server is not reachable' : error.message);
    return setTimeout(begin, 5000);
  }
  const before = models.find(({ id }) => id === $('model').value);
  const first = models.find((model) => !model.is_shut_down) ?? models[0];
  $('model').replaceChildren(...models.map(option), new Option('another…', ''));
  $('model').value = (before ?? first).id;
  $('key-form').hidden = true;
  $('inside').hidden = false;
  $('forget').hidden = !key();
  choose();
  await look();
}

setInterval(look, 5000);
document.addEventListener('visibilitychange', look);
begin();
