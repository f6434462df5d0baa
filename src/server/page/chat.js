
// ---- the chat

let messages = [];
let running = null; // the AbortController of the answer under way
let last = null; // the turn that can be asked for again

const isTouched = matchMedia('(pointer: coarse)');

function turn(role, name) {
  $('empty').hidden = true;
  const box = element('article', '', `turn ${role}`);
  const body = element('div', '', 'text');
  box.append(element('h3', name), body);
  $('problem').before(box);
  return { box, body };
}

// Changes the log, and stays at its end unless somebody has scrolled up to read.
function follow(change) {
  const { scrollTop, clientHeight, scrollHeight } = $('log');
  change();
  if (scrollHeight - scrollTop - clientHeight < 40) $('log').scrollTop = $('log').scrollHeight;
}

function cut(error) {
  throw error?.name === 'AbortError' ? error : new Error('The connection ended before the answer did.');
}

// The chunks of a streamed answer; what ends it early is thrown.
async function* chunks(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read().catch(cut);
    if (done) cut();
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith('data: ')) continue;
      if (line === 'data: [DONE]') return;
      const chunk = JSON.parse(line.slice(6));
      if (chunk.error) throw new Error(chunk.error.message);
      yield chunk;
    }
  }
}

// An answer as it comes: shown as often as showing it takes little of the time.
class Reply {
  constructor(body) {
    this.markdown = new Markdown(body);
    this.content = '';
    this.usage = null;
    this.finish = null;
    this.began = performance.now();
    this.first = null;
    this.timer = null;
  }

  take({ choices, usage }) {
    this.usage = usage ?? this.usage;
    this.finish = choices[0]?.finish_reason ?? this.finish;
    const text = choices[0]?.delta.content;
    if (!text) return;
    this.first ??= performance.now();
    this.content += text;
    this.timer ??= setTimeout(() => this.show(true), this.pause ?? 0);
  }

  show(open) {
    clearTimeout(this.timer);
    this.timer = null;
    const began = performance.now();
    follow(() => this.markdown.show(this.content, open));
    this.pause = Math.max(16, 4 * (performance.now() - began));
  }

  // What it took; tokens are an estimate where LangFast tells none.
  cost() {
    const { usage, first, began } = this;
    const tokens = (count) => count.toLocaleString('en');
    const all = time(performance.now() - began);
    return [
      '1 request of the quota',
      usage && `about ${tokens(usage.prompt_tokens)} tokens in, ${tokens(usage.completion_tokens)} out`,
      first === null ? all : `first token after ${time(first - began)}, all after ${all}`,
    ].filter(Boolean).join(' · ');
  }
}

const STOPPED = 'Stopped.';
const ENDINGS = {
  length: 'It ends here because its limit of tokens is reached.',
  content_filter: 'It ends here because a content filter has struck.',
};

async function ask(text) {
  const model = chosen();
  const conversation = messages;
  const at = conversation.length;
  showSide(false);
  last?.again.remove();
  last = null;
  conversation.push({ role: 'user', content: text });
  const question = turn('user', 'You');
  question.body.textContent = text;
  const { box, body } = turn('assistant waiting', model);
  $('log').scrollTop = $('log').scrollHeight;
  busy(new AbortController());
  $('said').textContent = `${model} is answering.`;
  const reply = new Reply(body);
  const { notes, error } = await stream(reply, model, conversation);
  reply.show(false);
  keep(reply.content, error, conversation, at);
  const again = button(error ? 'Try again' : 'Regenerate', 'quiet', askAgain);
  follow(() => {
    box.classList.remove('waiting');
    if (error) box.append(element('p', error, 'error'));
    notes.forEach((note) => box.append(element('p', note, 'note')));
    box.append(actions(reply.content, body, again));
  });
  if (conversation === messages) last = { text, at, boxes: [question.box, box], again, error };
  $('said').textContent = error ? `It failed: ${error}` : notes[0] === STOPPED ? STOPPED : `${model} said: ${body.textContent}`;
  busy(null);
  code();
  look();
}

// Has the conversation answered. Gives what to say below the answer, and why it failed, if it has.
async function stream(reply, model, conversation) {
  const notes = [];
  try {
    const answer = await request('v1/chat/completions', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({
        ...{ model, messages: conversation, stream: true, stream_options: { include_usage: true } },
        ...options(),
      }),
      signal: running.signal,
    });
    if (answer.status === 401) askForKey();
    if (!answer.ok) throw new Error(await words(answer));
    const ignored = answer.headers.get('x-langfast2api-ignored');
    if (ignored) notes.push(`The model does not take ${ignored}: it went without.`);
    for await (const chunk of chunks(answer)) reply.take(chunk);
    if (ENDINGS[reply.finish]) notes.push(ENDINGS[reply.finish]);
    return { notes: [...notes, reply.cost()] };
  } catch (error) {
    return error.name === 'AbortError' ? { notes: [STOPPED] } : { notes, error: error.message };
  }
}

// What was not answered is no part of the conversation: the question can be sent again.
function keep(content, error, conversation, at) {
  if (content && !error) return conversation.push({ role: 'assistant', content });
  const [{ content: question }] = conversation.splice(at);
  if (conversation === messages) $('message').value ||= question;
}

function actions(content, body, again) {
  const bar = element('div', '', 'actions');
  if (content) {
    const made = button('Copy', 'quiet', () => copied(made, content, body));
    made.setAttribute('aria-label', 'Copy this answer');
    bar.append(made);
  }
  bar.append(again);
  return bar;
}

// Asks the last question again, in place of the answer that it got.
function askAgain() {
  if (running) return;
  const { text, at, boxes } = last;
  boxes.forEach((box) => box.remove());
  messages.length = at;
  if ($('message').value === text) $('message').value = '';
  ask(text);
  $('stop').focus();
}

// Says in place of a button's label what has become of copying.
async function copied(made, text, shown) {
  made.textContent = await copy(text, shown);
  $('said').textContent = made.textContent;
  setTimeout(() => (made.textContent = 'Copy'), 2000);
}

$('log').addEventListener('click', ({ target }) => {
  const box = target.closest('.code button') && target.closest('.code');
  if (box) copied(target, box.querySelector('code').textContent, box.querySelector('code'));
});

// The focus goes where one goes on; a screen keyboard does not come up over the answer.
function busy(controller) {
  running = controller;
  const hadFocus = ['send', 'stop'].includes(document.activeElement.id);
  $('send').hidden = Boolean(running);
  $('stop').hidden = !running;
  if (hadFocus) $(running ? 'stop' : isTouched.matches ? 'send' : 'message').focus();
}

$('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = $('message').value.trim();
  if (running) return;
  if (!text) return $('message').focus();
  if (!chosen()) return $('other').focus();
  $('message').value = '';
  ask(text);
});

$('message').addEventListener('keydown', (event) => {
  // Enter that ends the input of a Chinese word, say, is not meant for us; a screen keyboard has no Shift+Enter.
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing || isTouched.matches) return;
  event.preventDefault();
  $('composer').requestSubmit();
});

$('stop').addEventListener('click', () => running?.abort());

$('new').addEventListener('click', () => {
  running?.abort();
  messages = [];
  last = null;
  $('log').replaceChildren($('empty'), $('problem'));
  $('empty').hidden = false;
  showSide(false);
  code();
  $('message').focus();
});
