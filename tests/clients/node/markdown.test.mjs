// How the page shows Markdown, in a real browser: by its own functions, which are called in the page.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { skip, startBrowser } from './browser.mjs';
import { Simulator, startGateway } from './gateway.mjs';

const CASES = Number(process.env.FUZZ_CASES ?? 3000);

describe('Markdown in the page', { skip }, () => {
  let browser, end, page, url;
  const requests = [];

  before(async () => {
    url = (await startGateway(await Simulator.start())).replace('/v1', '/');
    ({ browser, end } = await startBrowser());
    page = await browser.newPage();
    await page.goto(url);
    await page.locator('#log').waitFor();
    page.on('request', (request) => requests.push(request.url()));
    page.on('dialog', (dialog) => dialog.dismiss().then(() => requests.push('a dialog')));
    await page.evaluate(() => {
      // The nodes in a notation of their own: `p[a b strong[c]]`.
      globalThis.shape = (node) => {
        if (node.nodeType === Node.TEXT_NODE) return node.data;
        const name = node.localName + (node.className ? `.${node.className}` : '');
        return `${name}[${[...node.childNodes].map(shape).join('')}]`;
      };
      globalThis.shown = (text, open = false) => {
        const host = document.createElement('div');
        new Markdown(host).show(text, open);
        return host;
      };
    });
  });

  after(() => end?.());

  const shown = (text, open) =>
    page.evaluate(([text, open]) => [...globalThis.shown(text, open).childNodes].map(globalThis.shape).join(' '), [text, open]);

  const is = async (text, wanted, open) => assert.equal(await shown(text, open), wanted, text);

  test('emphasis, code and breaks are shown', async () => {
    await is('a **b** *c* ***d*** __e__ _f_ ~~g~~ `h`', 'p[a strong[b] em[c] em[strong[d]] strong[e] em[f] del[g] code[h]]');
    await is('snake_case_name 2 * 3 * 4 \\*a\\* `` `a` ``', 'p[snake_case_name 2 * 3 * 4 *a* code[`a`]]');
    await is('**中文：**后面', 'p[strong[中文：]后面]');
    await is('a\nb<br>c &lt;&#65;&amp;', 'p[a\nbbr[]c <A&]');
    await is('**a *b** c*', 'p[em[em[a em[b]] c]]');
    await is('\\(a_1*b*c\\)', 'p[code.math[\\(a_1*b*c\\)]]');
  });

  test('headings are all of the level below the page\'s own', async () => {
    await is('# A\n###### *b* ##\n#c', 'h4.level-1[A] h4.level-6[em[b]] p[#c]');
  });

  test('lists nest, also where they are set in by too little', async () => {
    await is('- a\n- b\n  - c\n\n    d\n- e', 'ul[li[p[a]]li[p[b]ul[li[p[c]p[d]]]]li[p[e]]]');
    await is('1. a\n  - b\n2. c\nd', 'ol[li[p[a]ul[li[p[b]]]]li[p[c\nd]]]');
    await is('- [x] a\n- [ ] b', 'ul[li[p[☑ a]]li[p[☐ b]]]');
    await is('3. a\n\ntext\n2. no list', 'ol[li[p[a]]] p[text\n2. no list]');
    const start = await page.evaluate(() => globalThis.shown('3. a\n4. b').firstChild.start);
    assert.equal(start, 3);
  });

  test('code keeps its tabs and its lines, and can be scrolled by keyboard', async () => {
    const code = (text, language = 'code') => `div.code[div.bar[span[${language}]button.quiet[Copy]]pre.scroller[code[${text}]]]`;
    await is('```go\nfunc a() {\n\tb < c\n}\n```\nafter', `${code('func a() {\n\tb < c\n}', 'go')} p[after]`);
    await is('1. a\n   ```\n   b\n     c\n   ```', `ol[li[p[a]${code('b\n  c')}]]`);
    await is('~~~\n```\n~~~', code('```'));
    await is('a\n\n    b\n\n    c', `p[a] ${code('b\n\nc')}`);
    const [tab, role] = await page.evaluate(() => {
      const pre = globalThis.shown('```\na\n```').querySelector('pre');
      return [pre.tabIndex, pre.role];
    });
    assert.deepEqual([tab, role], [0, 'group']);
  });

  test('tables, quotations, rules and formulas are shown', async () => {
    const table = (body) => `div.scroller[table[thead[tr[th[a]th.right[b]]]tbody[${body}]]]`;
    await is('| a | b |\n|---|--:|\n| `c\\|d` | **e** |\nx', `${table('tr[td[code[c|d]]td.right[strong[e]]]')} p[x]`);
    await is('text\na | b\n- | -:\nc | d | e', `p[text] ${table('tr[td[c]td.right[d]td[e]]')}`);
    await is('> a\n> - b\n\n---\n$$\na_1\n$$', 'blockquote[p[a]ul[li[p[b]]]] hr[] pre.scroller[code.math[$$\na_1\n$$]]');
  });

  test('links lead to pages and mail alone, and tell nobody where they stand', async () => {
    const links = (text) =>
      page.evaluate((text) => [...globalThis.shown(text).querySelectorAll('a')].map((a) => [a.textContent, a.href, a.rel, a.target, a.title]), text);
    const to = (text, href) => [text, href, 'noopener noreferrer', '_blank', href];
    assert.deepEqual(await links('[a **b**](https://x.test/(1) "t") <https://y.test> me@x.test <me@x.test>'), [
      to('a b', 'https://x.test/(1)'),
      to('https://y.test', 'https://y.test/'),
      to('me@x.test', 'mailto:me@x.test'),
    ]);
    assert.deepEqual(await links('(see https://x.test/a_(b).) **https://y.test/c**，[https://z.test](https://z.test)'), [
      to('https://x.test/a_(b)', 'https://x.test/a_(b)'),
      to('https://y.test/c', 'https://y.test/c'),
      to('https://z.test', 'https://z.test/'),
    ]);
    // An image is a link: it is not loaded.
    assert.deepEqual(await links('![a cat](https://x.test/cat.png)'), [to('Image: a cat', 'https://x.test/cat.png')]);
    for (const url of ['javascript:alert(1)', 'JaVaScRiPt:alert(1)', ' javascript:alert(1)', 'java\tscript:alert(1)',
      'data:text/html,<script>alert(1)</script>', 'vbscript:x', 'file:///etc/passwd', 'blob:x', '//x.test', '/v1/models',
      'status', '#a', 'https:', 'https://', '&#106;avascript:alert(1)'])
      assert.deepEqual(await links(`[a](${url}) <${url}> ![a](<${url}>)`), [], url);
  });

  test('while more is to come, what is not closed looks as if it were, and half a mark is held back', async () => {
    await is('a **b', 'p[a strong[b]]', true);
    await is('a **b *', 'p[a strong[b]]', true);
    await is('a `b c', 'p[a code[b c]]', true);
    await is('a [b](https://x', 'p[a b]', true);
    await is('a\n-', 'p[a\n]'.replace('\n', ''), true);
    await is('```\na\n``', 'div.code[div.bar[span[code]button.quiet[Copy]]pre.scroller[code[a\n]]]', true);
  });

  test('what is shown already stays the same nodes when more comes', async () => {
    const kept = await page.evaluate(() => {
      const host = document.createElement('div');
      const markdown = new Markdown(host);
      const text = 'a **b**\n\n```\nc\nd\n```\n\n- e\n- f\n- g';
      const seen = new Map();
      let lost = 0;
      for (let to = 1; to <= text.length; to++) {
        markdown.show(text.slice(0, to), true);
        for (const name of ['p', 'strong', 'pre', 'ul', 'li']) {
          const first = host.querySelector(name);
          if (seen.has(name) && seen.get(name) !== first) lost++;
          if (first) seen.set(name, first);
        }
      }
      markdown.show(text, false);
      return [lost, seen.size, [...host.childNodes].indexOf(markdown.last)];
    });
    assert.deepEqual(kept, [0, 5, 1]);
  });

  test(`of ${CASES} texts made by chance none becomes anything but text, and each grows to what it is at once`, async () => {
    const seed = Number(process.env.FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));
    requests.length = 0;
    const found = await page.evaluate(fuzz, [seed, CASES]);
    assert.deepEqual(found.problems, [], `FUZZ_SEED=${seed}`);
    // The texts were worth something.
    for (const name of ['a', 'strong', 'em', 'del', 'code', 'pre', 'table', 'ul', 'ol', 'blockquote', 'h4', 'hr', 'br'])
      assert(found.seen.includes(name), `${name} of ${found.seen}`);
    assert.deepEqual(requests.filter((request) => !/\/status$/.test(request)), [], 'nothing was loaded');
  });

  test('texts that are meant to take long do not', async () => {
    const texts = ['*a ', '**a', '*a* ', '_a', '[', '[a](', '![', '`'.repeat(3) + ' ', '<', '&', '\\(', '\\[\n', '$$\n', '- ', '> ', '| ', '|-',
      '~~a', 'https://a', '((', '](', '*_', '    ', '\t', '# ', '1. ', '\n- a', '\n> ', '\n  ', '|\n|-\n', '[a](https://x.test) ', '**a*b', '`a``b```c'];
    for (const text of texts) {
      const depth = await page.evaluate((text) => {
        const host = globalThis.shown(text.repeat(Math.ceil(100000 / text.length)));
        let depth = 0;
        for (let nodes = [...host.children]; nodes.length; nodes = nodes.flatMap((node) => [...node.children])) depth++;
        document.body.append(host);
        host.getBoundingClientRect();
        host.remove();
        return depth;
      }, text);
      assert(depth < 60, `${JSON.stringify(text)} nests ${depth} deep`);
    }
  });
});

// Runs in the page.
function fuzz([seed, cases]) {
  const random = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let value = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
  const upTo = (most) => Math.floor(random() * most);
  const pick = (list) => list[upTo(list.length)];
  const MARKS = ['*', '**', '***', '_', '__', '~~', '`', '``', '```', '~~~', '\n', '\n', '\n\n', '\n\n', ' ', ' ', '  ', '\t', '    ', '- ', '* ', '+ ', '1. ', '2) ',
    '10. ', '# ', '## ', ' #', '> ', '>', '---', '***', '|', ' | ', '|---|---|', '\n| a | b |\n|:--|--:|\n| c | d |', '[', ']', '(', ')', '](', '![', '<', '>', '\\', '\\(', '\\)',
    '\\[', '\\]', '$$', '&', ';', '"', "'", ':', '!', '[x] ', '[ ] ', '<br>', '&lt;', '&#x6a;', '&#0;', '&#xD800;', '\r\n', '\u0000', '\u2028', '\ufeff', '　', '。', '：', '😀', '\ud83d', '=', '\n```js\n', '\n```\n', 'c\na | b\n|--|--', ' x'];
  const EVIL = ['<script>pwned=1</script>', '<img src=x onerror=pwned=1>', '<svg onload=pwned=1>', '<iframe src="javascript:pwned=1">', '<a href="javascript:pwned=1">', '</code></pre></div>',
    '"><b onclick=pwned=1>', "' onmouseover='pwned=1", '<style>*{display:none}</style>', '<!--', ']]>', '<base href=https://evil.test>', '<meta http-equiv=refresh content=0>',
    '[a](javascript:pwned=1)', '[a](JAVASCRIPT:pwned=1)', '[a](java\nscript:pwned=1)', '[a](data:text/html,x)', '![a](https://evil.test/x.png)', '![a](javascript:pwned=1)', '<javascript:pwned=1>',
    '[a](https://x.test/" onclick="pwned=1)', '[a](<https://x.test/>")', 'https://x.test/"onclick="pwned=1', 'https://x.test/<script>', '[a](https://x.test@evil.test)', '[https://a.test](https://b.test)', '[[a](https://x.test)](https://y.test)',
    'javascript:pwned=1', 'https://x.test/a_b', '<https://x.test>', '<a@b.test>', '[a](mailto:a@b.test)', '{script}', '{nonce}', '__proto__', 'constructor', '```"><img src=x onerror=pwned=1>\nx\n```', '|<img src=x onerror=pwned=1>|b|\n|-|-|\n'];
  const LETTERS = ['a', 'b', 'word', 'one two', 'ż', '中文', '5'];
  const text = () => Array.from({ length: 1 + upTo(40) }, () => pick(pick([MARKS, MARKS, MARKS, LETTERS, LETTERS, EVIL]))).join('');

  const ALLOWED = {
    p: [], h4: ['class'], ul: [], ol: ['start'], li: [], blockquote: [], hr: [], br: [], strong: [], em: [], del: [], span: [], thead: [], tbody: [], tr: [], table: [],
    td: ['class'], th: ['class'], code: ['class'], button: ['class', 'type', 'aria-label'], a: ['href', 'title', 'rel', 'target'],
    div: ['class', 'tabindex', 'role', 'aria-label'], pre: ['class', 'tabindex', 'role', 'aria-label'],
  };
  const CLASSES = /^(?:level-[1-6]|math|scroller|code|bar|quiet|right|center)$/;
  const problems = [];
  const seen = new Set();
  const check = (node, source) => {
    const allowed = ALLOWED[node.localName];
    seen.add(node.localName);
    const bad = !allowed || [...node.attributes].some(({ name, value }) => !allowed.includes(name) || (name === 'class' && !CLASSES.test(value)));
    const badLink = node.localName === 'a' && (!/^(?:https?:\/\/|mailto:)/.test(node.getAttribute('href')) || node.rel !== 'noopener noreferrer' || node.parentNode.closest('a'));
    if (bad || badLink) problems.push([source, node.cloneNode(false).nodeName, [...node.attributes].map(({ name, value }) => `${name}=${value}`).join()]);
  };
  // No word is lost: it stands in the text, or in where a link leads. Only a link's title is left out.
  const words = (text) => text.split('word').length;
  for (let at = 0; at < cases && problems.length < 3; at++) {
    const source = text();
    const whole = shown(source);
    document.body.append(whole);
    whole.querySelectorAll('*').forEach((node) => check(node, source));
    whole.querySelectorAll('a').forEach((node) => node.dispatchEvent(new Event('mouseover', { bubbles: true })));
    const host = document.createElement('div');
    const markdown = new Markdown(host);
    for (let to = upTo(4); to < source.length; to += 1 + upTo(random() < 0.5 ? 3 : 20)) {
      markdown.show(source.slice(0, to), true);
      host.querySelectorAll('*').forEach((node) => check(node, source));
    }
    markdown.show(source, false);
    if (!host.isEqualNode(whole)) problems.push([source, 'grown:', host.innerHTML, 'at once:', whole.innerHTML]);
    const links = [...whole.querySelectorAll('a')].map((node) => node.href);
    const isWhole = words(source) <= words([whole.textContent, ...links].join());
    if (!isWhole && !/\]\([^"]*"/.test(source)) problems.push([source, 'lost:', whole.innerHTML]);
    whole.remove();
  }
  if (globalThis.pwned) problems.push('a script of the text has run');
  return { problems, seen: [...seen] };
}
