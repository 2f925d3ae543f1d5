// OpenAI's and Ollama's JavaScript clients against a running `pouch serve`, whose address is in POUCH_URL.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Ollama } from 'ollama';
import OpenAI from 'openai';

const { POUCH_URL: url, POUCH_API_KEY: key } = process.env;
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const messages = [{ role: 'user', content: 'Hello' }];
const asked = { model: 'tiny', messages, temperature: 0, max_tokens: 12 };
const parameters = {
  type: 'object',
  properties: { colour: { enum: ['red', 'blue'] }, count: { type: 'integer', minimum: 0, maximum: 99 } },
  required: ['colour', 'count'],
  additionalProperties: false,
};

test('models', async () => {
  assert.deepEqual((await client.models.list()).data.map(({ id }) => id), ['tiny']);
});

test('chat, whole and streamed', async () => {
  const whole = await client.chat.completions.create(asked);
  assert.equal(whole.usage.completion_tokens, 12);
  let text = '';
  for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
    text += chunk.choices[0]?.delta?.content ?? '';
  }
  assert.equal(text, whole.choices[0].message.content);
  const helped = client.chat.completions.stream(asked);
  assert.equal(await helped.finalContent(), text);
});

test('tools and forms', async () => {
  const tools = [{ type: 'function', function: { name: 'paint', parameters } }];
  const options = { tools, tool_choice: 'required', parallel_tool_calls: false, max_tokens: 400 };
  const answer = await client.chat.completions.create({ ...asked, ...options });
  const [call] = answer.choices[0].message.tool_calls;
  assert.equal(call.function.name, 'paint');
  assert.match(JSON.parse(call.function.arguments).colour, /red|blue/);
  const format = { type: 'json_schema', json_schema: { name: 'paint', schema: parameters } };
  const fitted = await client.chat.completions.create({ ...asked, response_format: format, max_tokens: 400 });
  assert.match(JSON.parse(fitted.choices[0].message.content).colour, /red|blue/);
});

test('completions and embeddings', async () => {
  const completion = await client.completions.create({ model: 'tiny', prompt: 'Once', max_tokens: 4 });
  assert.equal(completion.usage.completion_tokens, 4);
  const embedded = await client.embeddings.create({ model: 'tiny', input: 'a' });
  assert.equal(embedded.data[0].embedding.length, 64);
});

test('responses', async () => {
  const wish = { model: 'tiny', input: 'Hello', temperature: 0, max_output_tokens: 8 };
  const response = await client.responses.create(wish);
  assert.equal((await client.responses.retrieve(response.id)).output_text, response.output_text);
  let text = '';
  for await (const event of await client.responses.create({ ...wish, stream: true })) {
    if (event.type === 'response.output_text.delta') text += event.delta;
  }
  assert.equal(text, response.output_text);
  const begun = await client.responses.create({ ...wish, background: true, max_output_tokens: 3500 });
  assert.equal((await client.responses.cancel(begun.id)).status, 'cancelled');
  await client.responses.delete(response.id);
});

test('errors', async () => {
  await assert.rejects(client.chat.completions.create({ ...asked, model: 'none' }), { status: 404, code: 'model_not_found' });
  await assert.rejects(client.chat.completions.create({ ...asked, temperature: 9 }), { status: 400, param: 'temperature' });
  const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'wrong-key-here', maxRetries: 0 });
  await assert.rejects(stranger.models.list(), { status: 401 });
});

test('leaving a stream', async () => {
  const stream = await client.chat.completions.create({ ...asked, stream: true, max_tokens: 3500 });
  for await (const _ of stream) break;
});

test('Ollama', async () => {
  const ollama = new Ollama({ host: url, headers: { Authorization: `Bearer ${key}` } });
  const options = { temperature: 0, num_predict: 8 };
  const whole = await ollama.chat({ model: 'tiny', messages, options });
  let text = '';
  for await (const piece of await ollama.chat({ model: 'tiny', messages, options, stream: true })) text += piece.message.content;
  assert.equal(text, whole.message.content);
  assert.deepEqual((await ollama.list()).models.map(({ name }) => name), ['tiny']);
  assert.equal((await ollama.generate({ model: 'tiny', prompt: 'Hello', options })).done, true);
});
