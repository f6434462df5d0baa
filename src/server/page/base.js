'use strict';
const $ = (id) => document.getElementById(id);
const API = new URL('v1', document.baseURI).href;
const KEY = 'langfast2api key';

// The key lives in this tab alone: never in a URL, and never in what is copied.
let key = sessionStorage.getItem(KEY) ?? '';
let keyWanted = false;
let retry; // the timer of another beginning

async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  try {
    return await fetch(path, { cache: 'no-store', ...options, headers });
  } catch (error) {
    throw error.name === 'AbortError' ? error : new Error('The server is not reachable.');
  }
}

function element(name, text, className = '') {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function button(label, className, action) {
  const made = element('button', label, className);
  made.type = 'button';
  if (action) made.addEventListener('click', action);
  return made;
}

// What a refusal says.
async function words(answer) {
  const body = await answer.json().catch(() => null);
  const wait = answer.headers.get('retry-after');
  const text = body?.error?.message ?? `The server answered with HTTP ${answer.status}.`;
  return wait ? `${text} (Try again in ${wait} s.)` : text;
}

function duration(seconds) {
  const units = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const [size, unit] = units.find(([size]) => seconds >= size) ?? [1, 's'];
  return `${Math.floor(seconds / size)} ${unit}`;
}

const time = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

// Copies a text; `shown` is where it stands, for browsers that give pages no clipboard over plain HTTP: what is
// marked can be copied all the same. Gives what to say.
async function copy(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    getSelection().selectAllChildren(shown);
    if (!document.execCommand('copy')) return 'Marked: copy it with Ctrl+C';
  }
  return 'Copied';
}
