
// ---- the key

// Asks for a key; one that was not accepted stays in its field, where it can be corrected.
function askForKey() {
  keyWanted = true;
  sessionStorage.removeItem(KEY);
  $('inside').hidden = $('more').hidden = $('down').hidden = true;
  $('key-form').hidden = false;
  $('key').value = key;
  $('key').setAttribute('aria-invalid', Boolean(key));
  $('key-error').textContent = key ? 'The server does not accept this key. Check it and try again.' : '';
  show(key ? 'bad' : '', key ? 'Wrong API key' : 'An API key is needed');
  $('key').focus();
}

$('key-form').addEventListener('submit', async (event) => {
  event.preventDefault();
  key = $('key').value.trim();
  $('key-error').textContent = '';
  // It would not fit into a header.
  if (/[^!-~]/.test(key)) return ($('key-error').textContent = 'A key has neither spaces nor letters beyond ASCII.');
  await begin();
  if (!keyWanted) $('message').focus();
});

$('key').addEventListener('input', () => $('key').setAttribute('aria-invalid', false));

function reveal(isShown) {
  $('key').type = isShown ? 'text' : 'password';
  $('reveal').textContent = isShown ? 'Hide' : 'Show';
  $('reveal').setAttribute('aria-pressed', isShown);
}

$('reveal').addEventListener('click', () => reveal($('key').type === 'password'));

$('forget').addEventListener('click', () => {
  running?.abort();
  key = '';
  askForKey();
});

// ---- how the server is

function show(className, text) {
  $('state').className = `pill ${className}`;
  if ($('state-text').textContent !== text) $('state-text').textContent = text;
}

const SESSIONS = { account: 'your account', anonymous: 'anonymous', none: 'not signed in yet' };

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
  const newest = time(times.at(-1));
  return times.length > 1 ? `${newest} (median of the last ${times.length}: ${time(median)})` : newest;
}

// Says why requests fail, unless the last question's answer has just said so.
function tell(problem) {
  $('problem').textContent = problem;
  $('problem').hidden = !problem || Boolean(last?.error);
}

async function look() {
  if (document.hidden || keyWanted || $('inside').hidden) return;
  let status;
  try {
    const answer = await request('status');
    if (answer.status === 401) return askForKey();
    if (!answer.ok) throw new Error(await words(answer));
    status = await answer.json();
  } catch (error) {
    tell(error.message);
    return show('bad', 'Not available');
  }
  $('version').textContent = `${status.version}, up ${duration(status.uptime_s)}`;
  $('session').textContent = SESSIONS[status.session] ?? status.session;
  $('socket').textContent = status.socket === 'closed' ? 'closed until needed' : status.socket;
  $('under-way').textContent = status.under_way;
  $('answers').textContent = status.answers;
  $('first').textContent = plot(status.first_token_ms);
  tell(status.problem ?? '');
  if (status.problem) show('bad', status.spent_quota ? 'Quota spent' : 'Requests fail');
  else if (status.session === 'none') show('good', 'Ready');
  else show('good', 'It works');
}

// Where there is no room for both, the state and the code stand in place of the conversation.
function showSide(isShown) {
  $('inside').classList.toggle('side-shown', isShown);
  $('more').setAttribute('aria-expanded', isShown);
}

$('more').addEventListener('click', () => showSide(!$('inside').classList.contains('side-shown')));

// ---- models

let models = [];

// One that is not listed: the server tries it, unless it is set to refuse such names.
const OTHER = { numbers: [], words: {}, streams: true };

const chosen = () => $('model').value || $('other').value.trim();

function lasts({ is_shut_down, shutdown_date, replacement }) {
  if (!shutdown_date) return '';
  const instead = replacement ? `, and names ${replacement} in its place` : '';
  return `OpenAI ${is_shut_down ? 'has shut' : 'shuts'} it down on ${shutdown_date}${instead}.`;
}

function option(model) {
  const { id, is_shut_down, shutdown_date } = model;
  const mark = shutdown_date ? ` (${is_shut_down ? 'shut down' : 'until'} ${shutdown_date})` : '';
  return new Option(`${id}${mark}`, id);
}

function choose() {
  const model = models.find((model) => model.id === $('model').value) ?? OTHER;
  $('other-field').hidden = model !== OTHER;
  $('leaves').textContent = lasts(model);
  $('leaves').hidden = !model.shutdown_date;
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
    most && `up to ${most.toLocaleString('en')} tokens`,
    model.streams ? 'streamed' : 'comes in one piece',
  ];
  $('accepts').textContent = `It accepts: ${[...about, ...model.numbers, ...words].filter(Boolean).join(' · ')}`;
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

$('model').addEventListener('change', choose);
