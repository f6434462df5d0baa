// The outputs of tests/tool_calls, read by the program and, beside it, by the parsers of
// @ai-sdk-tool/parser. Each parser is given the outputs in its own form, whole and a character at a
// time; the table that this prints stands in tests/README.md.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { before, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { hermesProtocol, morphXmlProtocol, qwen3CoderProtocol, yamlXmlProtocol } from '@ai-sdk-tool/parser';
import { Simulator, startGateway, user } from './gateway.mjs';

// scripts/test puts the outputs beside the tests.
const FOLDER = join(import.meta.dirname, 'tool_calls');
const TOOLS = JSON.parse(readFileSync(join(FOLDER, 'tools.json'), 'utf8'));

// The outputs of all kinds; of folders whose author is the same, such as held_back, they are counted together.
function outputs() {
  const files = readdirSync(FOLDER, { recursive: true }).filter((file) => file.endsWith('.txt'));
  return files.sort().flatMap((file) => {
    const by = dirname(file).startsWith('by_') ? `${dirname(file).replaceAll('_', ' ')}: ` : '';
    const kind = by + basename(file, '.txt').replaceAll('_', ' ');
    const entries = readFileSync(join(FOLDER, file), 'utf8').split('### ').slice(1);
    return entries.map((entry) => output(kind, entry));
  });
}

function output(kind, entry) {
  const [, title, written, expected] = entry.match(/^(.*)\n([^]*?)\n=>\n([^]*)$/);
  const wanted = { kind, title, written, calls: [], text: undefined, notes: [] };
  for (const line of expected.split('\n').filter(Boolean)) {
    const [, word, rest] = line.match(/^(\S*) ?(.*)$/);
    const [, name, value] = rest.match(/^(\S*) ?(.*)$/);
    if (word === 'call') wanted.calls.push({ name, arguments: JSON.parse(value) });
    // Half a call, or arguments that are no JSON: a tool must not get them as if they were whole.
    if (word === 'raw') wanted.calls.push({ name, raw: value });
    if (word === 'text') wanted.text = JSON.parse(rest);
    if (word === 'notes') wanted.notes = rest.split(' ');
  }
  return wanted;
}

const WHOLE = /<call-\$N name="(\w+)">([^]*?)<\/call-\$N>/g;

// Each parser, and an output in its form: undefined where there is nothing that would be the same.
const PARSERS = {
  // As text, so that arguments are broken as they were.
  hermes: [hermesProtocol(), inOwnMarkers((name) => [`<tool_call>{"name": "${name}", "arguments": `, '}</tool_call>'])],
  'yaml in xml': [yamlXmlProtocol(), inOwnMarkers((name) => [`<${name}>`, `</${name}>`])],
  // By the parser's own writer: only what is valid JSON can be told in these.
  xml: [morphXmlProtocol(), byItsWriter(morphXmlProtocol())],
  qwen3coder: [qwen3CoderProtocol(), byItsWriter(qwen3CoderProtocol())],
};

function inOwnMarkers(markers) {
  return ({ kind, written }) => {
    let name;
    // Without its end, a form is broken in another place than ours.
    const [begun, ended] = ['<call-$N', '</call-$N>'].map((marker) => written.split(marker).length);
    if (begun > ended && kind !== 'cut off') return undefined;
    const translated = written.replace(/<call-\$N name="([\w.]+)">|<\/call-\$N>/g, (marker, opened) => {
      name = opened ?? name;
      return markers(name)[opened ? 0 : 1];
    });
    return onlyIfComparable(written, translated);
  };
}

function byItsWriter(protocol) {
  return ({ written }) => {
    try {
      const translated = written.replace(WHOLE, (_, toolName, input) => {
        JSON.parse(input);
        return protocol.formatToolCall({ type: 'tool-call', toolCallId: '1', toolName, input });
      });
      return onlyIfComparable(written, translated);
    } catch {
      return undefined;
    }
  };
}

// What still is in our markers deviates in these, or is about the nonce, which the others do not have.
function onlyIfComparable(written, translated) {
  return translated === written || /(call|result)\s*-/i.test(translated) ? undefined : translated;
}

// What is expected holds our markers, or is the program's own decision: it leaves out text behind calls.
const isOwnAffair = ({ calls, text, notes }) =>
  JSON.stringify([calls, text]).includes('$N') || notes.includes('text-left-out');

// What a parser makes of a text: its text, and the calls in the order in which they came.
function whole(protocol, text, tools) {
  return gathered(protocol.parseGeneratedText({ text, tools, options: {} }));
}

async function streamed(protocol, text, tools) {
  const parts = [
    { type: 'text-start', id: '0' },
    ...[...text].map((delta) => ({ type: 'text-delta', id: '0', delta })),
    { type: 'text-end', id: '0' },
    { type: 'finish', finishReason: { unified: 'stop', raw: 'stop' }, usage: {} },
  ];
  const stream = ReadableStream.from(parts).pipeThrough(protocol.createStreamParser({ tools, options: {} }));
  return gathered(await Array.fromAsync(stream));
}

function gathered(parts) {
  const text = parts.map((part) => (part.type === 'text' ? part.text : part.type === 'text-delta' ? part.delta : ''));
  const calls = parts.filter(({ type }) => type === 'tool-call');
  return { text: text.join(''), calls: calls.map(({ toolName, input }) => ({ name: toolName, arguments: input })) };
}

// Says whether the calls are those that are wanted, and whether the text is, too. White space around the
// text is not looked at, nor is the text of an answer that ends within a call.
function judged(wanted, said, got) {
  const isWanted = (call, i) => {
    const own = got.calls[i];
    if (own?.name !== call.name) return false;
    return call.raw === undefined ? isDeepStrictEqual(parsed(own.arguments), call.arguments) : !parsed(own.arguments);
  };
  const complete = wanted.calls.filter(({ raw }) => raw === undefined);
  const fits = (calls) => calls.length === got.calls.length && calls.every(isWanted);
  const calls = fits(wanted.calls) || fits(complete);
  const isHalf = complete.length < wanted.calls.length;
  const text = wanted.text ?? (wanted.calls.length ? '' : said);
  return { calls, all: calls && (isHalf || text.trim() === got.text.trim()) };
}

function parsed(json) {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}

// One of the parsers' own parsers warns of what is in the outputs.
process.removeAllListeners('warning');

let simulator, baseURL;

before(async () => {
  simulator = await Simulator.start();
  baseURL = await startGateway(simulator);
});

async function byTheProgram(wanted, stream) {
  await simulator.reset();
  await simulator.turns({ text: wanted.written.replaceAll('$N', '$NONCE'), sim: 'events=8' });
  const tools = TOOLS.map((tool) => ({ type: 'function', function: tool }));
  const body = { model: 'gpt-4o', messages: user('Hi'), tools, stream };
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(`${baseURL}/chat/completions`, { method: 'POST', headers, body: JSON.stringify(body) });
  const told = JSON.stringify((await simulator.lastRun()).prompt_meta.messages);
  const own = (text) => text.replaceAll('$N', told.match(/<call-(\w+)/)[1]);
  const expected = JSON.parse(own(JSON.stringify(wanted)));
  return judged(expected, own(wanted.written), stream ? ofChunks(await answer.text()) : ofMessage((await answer.json()).choices[0].message));
}

function ofMessage({ content, tool_calls: calls = [] }) {
  return { text: content ?? '', calls: calls.map((call) => call.function) };
}

function ofChunks(events) {
  const got = { text: '', calls: [] };
  for (const [, data] of events.matchAll(/^data: (\{.*)$/gm)) {
    for (const { delta } of JSON.parse(data).choices) {
      got.text += delta.content ?? '';
      for (const { index, function: piece } of delta.tool_calls ?? []) {
        got.calls[index] ??= { name: piece.name, arguments: '' };
        got.calls[index].arguments += piece.arguments ?? '';
      }
    }
  }
  return got;
}

// Right is what is right both whole and streamed.
const both = (one, other) => ({ calls: one.calls && other.calls, all: one.all && other.all });

class Score {
  #kinds = {};

  add(kind, who, result) {
    const score = ((this.#kinds[kind] ??= {})[who] ??= { calls: 0, all: 0, of: 0 });
    score.calls += result.calls;
    score.all += result.all;
    score.of += 1;
  }

  print(columns) {
    console.log(`| kind | ${columns.join(' | ')} |\n|${' --- |'.repeat(columns.length + 1)}`);
    for (const [kind, by] of Object.entries(this.#kinds)) {
      const cells = columns.map((who) => (by[who] ? `${by[who].calls} (${by[who].all}) of ${by[who].of}` : 'none'));
      console.log(`| ${kind} | ${cells.join(' | ')} |`);
    }
  }
}

test('the outputs are read as they are meant; what the parsers of @ai-sdk-tool/parser make of them is printed', async () => {
  const inputTools = TOOLS.map(({ name, parameters }) => ({ type: 'function', name, inputSchema: parameters }));
  const score = new Score();
  for (const wanted of outputs()) {
    const own = both(await byTheProgram(wanted, false), await byTheProgram(wanted, true));
    assert(own.all, `${wanted.kind} / ${wanted.title}`);
    score.add(wanted.kind, 'ours', own);
    for (const [name, [protocol, translate]] of Object.entries(PARSERS)) {
      const said = translate(wanted);
      if (said === undefined || isOwnAffair(wanted)) continue;
      const one = judged(wanted, said, whole(protocol, said, inputTools));
      const other = judged(wanted, said, await streamed(protocol, said, inputTools));
      score.add(wanted.kind, name, both(one, other));
      if (process.env.EACH && !(one.all && other.all)) console.log(name, JSON.stringify({ said, one, other }));
    }
  }
  score.print(['ours', ...Object.keys(PARSERS)]);
});
