// ---- Markdown, as nodes of the document
//
// What a model writes becomes text nodes, and elements of the few kinds that are created here: HTML in
// it stays text. Work grows with the length of the text, whatever the text is: no search is repeated
// that has failed, and nothing nests deeper than DEEPEST.

const DEEPEST = 12;

// The URL, if a link may lead there: pages and mail, and nothing that runs or belongs to this server.
function safe(text) {
  if (!/^(?:https?:\/\/|mailto:)/i.test(text)) return null;
  try {
    const url = new URL(text);
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

function link(url) {
  const made = element('a', '');
  Object.assign(made, { href: url, title: url, rel: 'noopener noreferrer', target: '_blank' });
  return made;
}

// Where it ends a sentence, a character at the end of a bare URL is no part of it.
function bareUrl(text, at) {
  const found = /https?:\/\/[^\s<>[\]`*|"\u3000-\u303f\uff00-\uffef]{1,2000}/y;
  found.lastIndex = at;
  const url = found.exec(text)?.[0] ?? '';
  let unopened = url.split(')').length - url.split('(').length;
  let end = url.length;
  while (".,;:!?'~_}".includes(url[end - 1]) || (url[end - 1] === ')' && unopened-- > 0)) end--;
  return url.slice(0, end);
}

const ENTITIES = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: '\u00a0' };

function entity(name) {
  if (!name.startsWith('#')) return ENTITIES[name];
  const code = Number(name.replace('#', '').replace(/^x/i, '0x'));
  return code > 0 && code < 0x110000 && (code < 0xd800 || code > 0xdfff) ? String.fromCodePoint(code) : '\ufffd';
}

const isWord = (sign) => /[\p{L}\p{N}_]/u.test(sign);
const isSpace = (sign) => !sign || /\s/.test(sign);

// Reads what stands within a line: emphasis, code, links. `open` says that more of the text is to come:
// what is not closed yet looks as if it were.
class Inline {
  constructor(text, into, open) {
    this.text = text;
    this.into = into;
    this.open = open;
    this.openers = []; // runs of signs that may begin an emphasis
    this.brackets = []; // and those that may begin a link
    this.bottoms = new Map(); // below which no opener is for this kind of closer
    this.depths = new Map(); // how deep an element's own emphasis goes
    this.missing = new Set(); // ends that do not come any more
  }

  read() {
    const sign = /\\|`+|\*+|_+|~~+|!?\[|\]|<|&|https?:\/\//g;
    let at = 0;
    for (let found; (found = sign.exec(this.text)); ) {
      const from = found.index;
      const step = this.token(found[0], from);
      if (!step) continue;
      this.into.append(this.text.slice(at, from));
      at = step();
      sign.lastIndex = at;
    }
    this.into.append(this.text.slice(at));
    if (this.open) this.closeAll();
    this.into.normalize();
  }

  add(made, next) {
    this.into.append(made);
    return next;
  }

  // What is to be done about these signs, as a function that gives where to read on; null if they are text.
  token(sign, at) {
    switch (sign[0]) {
      case '\\': return this.escape(at);
      case '`': return this.code(sign, at);
      case '*': case '_': case '~': return () => this.run(sign, at);
      case '!': case '[': return () => this.bracket(sign, at);
      case ']': return this.brackets.length ? () => this.closeBracket(at) : null;
      case '<': return this.angle(at);
      case '&': return this.entity(at);
      default: return this.url(at);
    }
  }

  match(pattern, at) {
    pattern.lastIndex = at;
    return pattern.exec(this.text);
  }

  // Where this end stands next, or -1: then it is not looked for again.
  find(end, at) {
    if (this.missing.has(end)) return -1;
    const found = this.text.indexOf(end, at);
    if (found < 0) this.missing.add(end);
    return found;
  }

  // TeX is shown as it is written, so that its signs are not taken for others.
  escape(at) {
    const next = this.text[at + 1];
    const end = { '(': '\\)', '[': '\\]' }[next];
    const to = end ? this.find(end, at + 2) : -1;
    if (to >= 0) return () => this.add(element('code', this.text.slice(at, to + 2), 'math'), to + 2);
    if (!next || !/[!-/:-@[-`{-~\n]/.test(next)) return null;
    return () => this.add(next, at + 2);
  }

  code(ticks, at) {
    const from = at + ticks.length;
    const to = this.closingTicks(ticks, from);
    if (to < 0 && !this.open) return () => this.add(ticks, from);
    const inner = this.text.slice(from, to < 0 ? undefined : to).replaceAll('\n', ' ');
    const bare = /^ .* $/.test(inner) && inner.trim() ? inner.slice(1, -1) : inner;
    return () => this.add(element('code', bare), to < 0 ? this.text.length : to + ticks.length);
  }

  closingTicks(ticks, from) {
    if (this.missing.has(ticks)) return -1;
    const run = /`+/g;
    run.lastIndex = from;
    for (let found; (found = run.exec(this.text)); ) if (found[0] === ticks) return found.index;
    this.missing.add(ticks);
    return -1;
  }

  angle(at) {
    const line = this.match(/<br *\/?>/iy, at);
    if (line) return () => this.add(element('br', ''), at + line[0].length);
    const found = this.match(/<((?:https?:\/\/|mailto:)?[^\s<>]{1,2000})>/iy, at);
    const isMail = found && /^[^\s@:/]+@[^\s@:/]+\.[^\s@:/]+$/.test(found[1]);
    const url = found && safe(isMail ? `mailto:${found[1]}` : found[1]);
    if (!url) return null;
    return () => this.linked(url, found[1], at + found[0].length);
  }

  linked(url, text, next) {
    const made = link(url);
    made.textContent = text;
    return this.add(made, next);
  }

  entity(at) {
    const found = this.match(/&(amp|lt|gt|quot|apos|nbsp|#\d{1,7}|#[xX][\da-fA-F]{1,6});/y, at);
    return found && (() => this.add(entity(found[1]), at + found[0].length));
  }

  url(at) {
    if (at && isWord(this.text[at - 1])) return null;
    const text = bareUrl(this.text, at);
    const url = safe(text);
    return url && (() => this.linked(url, text, at + text.length));
  }

  // A run of signs ends an emphasis, begins one, or both. Chinese has no spaces around what is emphasised:
  // so punctuation beside a star says nothing, as it does in CommonMark.
  run(signs, at) {
    const before = this.text[at - 1];
    const after = this.text[at + signs.length];
    const sign = signs[0];
    const within = sign === '_' && before && after && isWord(before) && isWord(after);
    const run = {
      sign,
      count: signs.length,
      opens: !isSpace(after) && !within && !(sign === '_' && before && isWord(before)),
      closes: !isSpace(before) && !within && !(sign === '_' && after && isWord(after)),
      node: document.createTextNode(signs),
    };
    this.into.append(run.node);
    if (run.closes) this.close(run);
    if (run.opens && run.count) this.openers.push(run);
    return at + signs.length;
  }

  close(run) {
    for (let at; run.count && (at = this.opener(run)) >= 0; ) {
      const opener = this.openers[at];
      const count = Math.min(2, opener.count, run.count);
      if (!this.wrap(opener, run.node, count)) return this.forget(0);
      run.count -= count;
      run.node.data = run.node.data.slice(count);
      this.forget(opener.count ? at + 1 : at);
    }
    if (!run.count) run.node.remove();
  }

  opener(run) {
    const kind = `${run.sign}${run.count % 3}${run.opens}`;
    const bottom = this.bottoms.get(kind) ?? 0;
    for (let at = this.openers.length - 1; at >= bottom; at--) if (fits(this.openers[at], run)) return at;
    this.bottoms.set(kind, this.openers.length);
    return -1;
  }

  // What was opened behind this place cannot be closed any more.
  forget(length) {
    this.openers.length = length;
    while (this.brackets.at(-1)?.behind > length) this.brackets.pop();
    for (const [kind, bottom] of this.bottoms) if (bottom > length) this.bottoms.set(kind, length);
  }

  // Puts what stands between the opener and `end` into an element.
  wrap(opener, end, count) {
    const made = element(opener.sign === '~' ? 'del' : count === 2 ? 'strong' : 'em', '');
    const inside = between(opener.node, end);
    const depth = 1 + inside.reduce((most, node) => Math.max(most, this.depths.get(node) ?? 0), 0);
    if (depth > DEEPEST) return false;
    move(inside, made);
    this.depths.set(made, depth);
    opener.node.after(made);
    opener.count -= count;
    opener.node.data = opener.node.data.slice(count);
    if (!opener.count) opener.node.remove();
    return true;
  }

  // While text is still to come, what is strong so far is shown so.
  closeAll() {
    const end = this.into.appendChild(document.createTextNode(''));
    for (const opener of this.openers.reverse())
      if (opener.count === 2 && opener.sign !== '_' && opener.node.nextSibling !== end) this.wrap(opener, end, 2);
    end.remove();
  }

  bracket(sign, at) {
    const node = document.createTextNode(sign);
    this.into.append(node);
    this.brackets.push({ node, behind: this.openers.length, isImage: sign[0] === '!' });
    return at + sign.length;
  }

  // An image is a link to it: nothing is loaded that a model names.
  closeBracket(at) {
    const bracket = this.brackets.pop();
    const found = this.match(/\]\([ \n]*(?:<([^<>\n]{0,2000})>|((?:[^\s()]|\([^\s()]*\)){0,2000}))(?:\s+"[^"]{0,500}")?[ \n]*\)/y, at);
    const url = found && safe(found[1] ?? found[2]);
    if (!url) return this.add(']', at + 1);
    const made = link(url);
    move(between(bracket.node, null), made);
    made.querySelectorAll('a').forEach((inner) => inner.replaceWith(...inner.childNodes));
    if (bracket.isImage) made.prepend(made.textContent ? 'Image: ' : 'Image');
    bracket.node.replaceWith(made);
    this.forget(bracket.behind);
    this.brackets = [];
    return at + found[0].length;
  }
}

// CommonMark's rule: a run that may both open and close takes its counterpart only if three does not divide both
// together.
function fits(opener, run) {
  if (opener.sign !== run.sign) return false;
  if (run.sign === '~') return opener.count === run.count && run.count === 2;
  return !((opener.closes || run.opens) && (opener.count + run.count) % 3 === 0 && (opener.count % 3 || run.count % 3));
}

function between(from, to) {
  const nodes = [];
  for (let node = from.nextSibling; node !== to; node = node.nextSibling) nodes.push(node);
  return nodes;
}

// One by one, since a call takes only so many arguments.
function move(nodes, to) {
  for (const node of nodes) to.append(node);
}

// ---- blocks

const BLANK = /^[ \t]*$/;
const FENCE = /^ {0,3}(`{3,}(?=[^`]*$)|~{3,})(.*)$/;
const HEADING = /^ {0,3}(#{1,6})(?=[ \t]|$)/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])([ \t]+|$)/;
const MATH = /^ {0,3}(?:\$\$|\\\[)/;

// Most lines of a formula: what is longer is none.
const LONGEST_FORMULA = 100;

const tab = (width) => 4 - (width % 4);

function indentation(line) {
  let width = 0;
  for (const sign of /^[ \t]*/.exec(line)[0]) width += sign === '\t' ? tab(width) : 1;
  return width;
}

// A line without so many columns of the space that it begins with.
function outdented(line, most) {
  let [at, width] = [0, 0];
  for (; width < most && (line[at] === ' ' || line[at] === '\t'); at++) width += line[at] === '\t' ? tab(width) : 1;
  return ' '.repeat(Math.max(0, width - most)) + line.slice(at);
}

const trimmed = (line) => outdented(line, Infinity).trimEnd();

function item(line) {
  const found = ITEM.exec(line);
  if (!found) return null;
  const [, indent, mark, space] = found;
  const width = indent.length + mark.length + (space.length > 4 || !space ? 1 : space.length);
  return { indent: indent.length, width, kind: mark.at(-1), number: parseInt(mark, 10), isEmpty: !space };
}

// Whether a paragraph ends where this line begins something else.
function interrupts(lines, at) {
  const line = lines[at];
  if (indentation(line) > 3) return false;
  if ([FENCE, HEADING, RULE, QUOTE, MATH].some((kind) => kind.test(line))) return true;
  const found = item(line);
  return Boolean((found && !found.isEmpty && !(found.number !== 1 && found.number >= 0)) || columns(lines, at));
}

// Reads the lines' blocks, each as one node. Returns the lines in which they begin.
function blocks(lines, into, open, depth = 0) {
  const starts = [];
  for (let at = 0; at < lines.length; ) {
    if (BLANK.test(lines[at])) {
      at++;
      continue;
    }
    starts.push(at);
    const [made, next] = block(lines, at, open, depth);
    into.append(made);
    at = next;
  }
  return starts;
}

// The block that begins in this line, and the line behind it.
function block(lines, at, open, depth) {
  const line = lines[at];
  if (depth > DEEPEST) return paragraph(lines, at, lines.length, open);
  if (indentation(line) > 3) return indented(lines, at);
  if (FENCE.test(line)) return fenced(lines, at);
  if (HEADING.test(line)) return heading(lines, at, open);
  if (RULE.test(line)) return [element('hr', ''), at + 1];
  if (QUOTE.test(line)) return quote(lines, at, open, depth);
  if (item(line)) return list(lines, at, open, depth);
  const math = MATH.test(line) && formula(lines, at, open);
  if (math) return math;
  const aligned = columns(lines, at);
  if (aligned) return table(lines, at, aligned, open);
  let to = at + 1;
  while (to < lines.length && !BLANK.test(lines[to]) && !interrupts(lines, to)) to++;
  return paragraph(lines, at, to, open);
}

function inline(name, text, open) {
  const made = element(name, '');
  new Inline(text, made, open).read();
  return made;
}

function paragraph(lines, at, to, open) {
  const text = lines.slice(at, to).map(trimmed).join('\n');
  return [inline('p', text, open && to === lines.length), to];
}

// The page has headings of its own: a model's are all of the level below them, and look as they are.
function heading(lines, at, open) {
  const marks = HEADING.exec(lines[at])[0];
  const text = lines[at].slice(marks.length).trim().replace(/(^| )#+$/, '').trim();
  const made = inline('h4', text, open && at + 1 === lines.length);
  made.className = `level-${marks.trim().length}`;
  return [made, at + 1];
}

function codeBox(text, language) {
  const box = element('div', '', 'code');
  const bar = element('div', '', 'bar');
  const button = element('button', 'Copy', 'quiet');
  button.type = 'button';
  button.setAttribute('aria-label', 'Copy this code');
  bar.append(element('span', language || 'code'), button);
  box.append(bar, scroller('pre', language ? `Code, ${language}` : 'Code'));
  box.lastChild.append(element('code', text));
  return box;
}

// Whatever may be wider than the page is scrolled by itself, by keyboard too.
function scroller(name, label) {
  const made = element(name, '', 'scroller');
  made.tabIndex = 0;
  made.setAttribute('role', 'group');
  made.setAttribute('aria-label', label);
  return made;
}

function fenced(lines, at) {
  const [, mark, language] = FENCE.exec(lines[at]);
  const indent = indentation(lines[at]);
  const isEnd = (line) => indentation(line) < 4 && line.trim().startsWith(mark) && !line.trim().replaceAll(mark[0], '');
  let to = at + 1;
  while (to < lines.length && !isEnd(lines[to])) to++;
  const text = lines.slice(at + 1, to).map((line) => outdented(line, indent)).join('\n');
  return [codeBox(text, language.trim()), to + 1];
}

function indented(lines, at) {
  let to = at + 1;
  while (to < lines.length && (BLANK.test(lines[to]) || indentation(lines[to]) > 3)) to++;
  const text = lines.slice(at, to).map((line) => outdented(line, 4)).join('\n');
  return [codeBox(text.trimEnd(), ''), to];
}

function quote(lines, at, open, depth) {
  let to = at + 1;
  while (to < lines.length && QUOTE.test(lines[to])) to++;
  const made = element('blockquote', '');
  const inner = lines.slice(at, to).map((line) => line.replace(QUOTE, ''));
  blocks(inner, made, open && to === lines.length, depth + 1);
  return [made, to];
}

// TeX over several lines, as it is written. It ends at a blank line at the latest: else it is none.
function formula(lines, at, open) {
  const end = lines[at].trim().startsWith('$$') ? '$$' : '\\]';
  let to = at;
  const closes = () => lines[to].trim().slice(to === at ? 2 : 0).endsWith(end);
  const most = Math.min(lines.length, at + LONGEST_FORMULA);
  while (to < most && !BLANK.test(lines[to]) && !closes()) to++;
  if (to === lines.length ? !open : to === most || BLANK.test(lines[to])) return null;
  const made = scroller('pre', 'Formula');
  made.append(element('code', lines.slice(at, to + 1).join('\n'), 'math'));
  return [made, to + 1];
}

function list(lines, at, open, depth) {
  const { kind, number } = item(lines[at]);
  const made = element(number >= 0 ? 'ol' : 'ul', '');
  if (number >= 0 && number !== 1) made.start = number;
  for (let mark; at < lines.length && (mark = item(lines[at])) && mark.kind === kind && !RULE.test(lines[at]); ) {
    const to = itemEnd(lines, at, mark);
    const first = lines[at].slice(mark.width);
    const inner = [first, ...lines.slice(at + 1, to).map((line) => outdented(line, mark.width))];
    made.append(listItem(inner, open && to === lines.length, depth));
    at = to;
    while (at < lines.length && BLANK.test(lines[at])) at++;
    if (at < lines.length && indentation(lines[at]) > 3) break;
  }
  return [made, at];
}

// An item goes on over what is set in, be it by less than its text, and over a paragraph's further lines.
function itemEnd(lines, at, mark) {
  const least = Math.min(mark.width, mark.indent + 2);
  let to = at + 1;
  let wasBlank = mark.isEmpty;
  let fence = null;
  for (; to < lines.length; to++) {
    const isBlank = BLANK.test(lines[to]);
    const isInside = isBlank || indentation(lines[to]) >= least;
    if (!isInside && (fence || wasBlank || item(lines[to]) || interrupts(lines, to))) break;
    const found = isInside && FENCE.exec(outdented(lines[to], mark.width));
    if (found) fence = fence && found[1].startsWith(fence) ? null : (fence ?? found[1]);
    wasBlank = isBlank;
  }
  return to;
}

const BOXES = { '[ ]': '☐', '[x]': '☑', '[X]': '☑' };

function listItem(lines, open, depth) {
  const made = element('li', '');
  const box = /^\[[ xX]\](?= )/.exec(lines[0])?.[0];
  if (box) lines[0] = BOXES[box] + lines[0].slice(box.length);
  blocks(lines, made, open, depth + 1);
  return made;
}

// A row's cells: what stands between bars that are not escaped.
function cells(line) {
  const row = line.trim().replaceAll('\\|', '\0');
  const inner = row.slice(row.startsWith('|') ? 1 : 0, row.length > 1 && row.endsWith('|') ? -1 : undefined);
  return inner.split('|').map((cell) => cell.trim().replaceAll('\0', '|'));
}

// How the columns are aligned of a table that begins in this line; null if none does.
function columns(lines, at) {
  const [line, below] = [lines[at], lines[at + 1] ?? ''];
  if (!line.includes('|') || !/^[ \t]*[|:-]/.test(below)) return null;
  const marks = cells(below);
  if (!marks.every((mark) => /^:?-+:?$/.test(mark)) || marks.length !== cells(line).length) return null;
  return marks.map((mark) => (mark.endsWith(':') ? (mark.startsWith(':') ? 'center' : 'right') : ''));
}

function table(lines, at, aligned, open) {
  const box = scroller('div', 'Table');
  const made = element('table', '');
  let to = at + 2;
  while (to < lines.length && lines[to].includes('|') && !interrupts(lines, to)) to++;
  const rows = lines.slice(at + 2, to).map((line, row) => {
    const isLast = open && to === lines.length && at + 3 + row === to;
    return tableRow('td', line, aligned, isLast);
  });
  const [head, body] = [element('thead', ''), element('tbody', '')];
  head.append(tableRow('th', lines[at], aligned, false));
  move(rows, body);
  made.append(head, body);
  box.append(made);
  return [box, to];
}

function tableRow(name, line, aligned, open) {
  const row = element('tr', '');
  for (const [at, text] of cells(line).entries()) {
    const cell = inline(name, text, open);
    if (aligned[at]) cell.className = aligned[at];
    row.append(cell);
  }
  return row;
}

// ---- a text that grows

// Makes a node's children, those behind one of them, the children of another node, and touches only what differs:
// what somebody has marked or scrolled stays so.
function become(parent, made, behind = null) {
  const before = [];
  for (let node = behind ? behind.nextSibling : parent.firstChild; node; node = node.nextSibling) before.push(node);
  const after = [...made.childNodes];
  after.forEach((node, at) => {
    if (!before[at]) parent.append(node);
    else if (isText(before[at]) && isText(node)) grow(before[at], node.data);
    else if (before[at].cloneNode(false).isEqualNode(node.cloneNode(false))) become(before[at], node);
    else before[at].replaceWith(node);
  });
  before.slice(after.length).forEach((node) => node.remove());
}

const isText = (node) => node.nodeType === Node.TEXT_NODE;

function grow(node, data) {
  if (data.startsWith(node.data)) node.appendData(data.slice(node.length));
  else node.data = data;
}

// What is not sure to be shown as it is: the marks that end the text so far, and half a link.
function settled(text) {
  const from = text.lastIndexOf('\n') + 1;
  const line = text.slice(from).replace(/^[ \t]*(?:[-*+#>|`~=]+|\d{1,9}[.)]?)[ \t]*$/, '');
  const marks = /[*_~`]+$/.exec(line.slice(-100))?.[0] ?? '';
  const half = /!?\[([^\][]*)\]\([^()\s]*$/.exec(line.slice(-2000));
  if (half) return text.slice(0, from) + line.slice(0, line.length - half[0].length) + half[1];
  return text.slice(0, from) + line.slice(0, line.length - marks.length);
}

// Shows Markdown in an element. Only the last block is read anew when the text has grown.
class Markdown {
  constructor(host) {
    this.host = host;
    this.last = null; // of the children that are final
    this.from = 0; // where the text of the others begins
  }

  show(text, open) {
    const rest = text.slice(this.from);
    const lines = (open ? settled(rest) : rest).replaceAll('\r\n', '\n').split('\n');
    const made = document.createDocumentFragment();
    const starts = blocks(lines, made, open);
    become(this.host, made, this.last);
    // A line that is not whole, or the one before it, may yet turn out to be something else.
    const final = starts.findLastIndex((start) => start + 2 < lines.length);
    for (let block = 0; block < final; block++) this.last = this.last ? this.last.nextSibling : this.host.firstChild;
    for (let line = 0; line < (starts[final] ?? 0); line++) this.from = text.indexOf('\n', this.from) + 1;
  }
}
