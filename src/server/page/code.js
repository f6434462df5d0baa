
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

$('copy').addEventListener('click', async () => {
  $('copied').textContent = await copy($('code').textContent, $('code'));
});

['other', 'temperature', 'reasoning_effort', 'verbosity', 'message', 'languages'].forEach((id) =>
  $(id).addEventListener('input', code),
);
