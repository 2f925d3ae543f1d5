// A small server that speaks the API the page uses, so that the page is tested without a model. It says what the last message asks for:
// see `ANSWERS`. Like the real one it goes on writing a stored answer after the connection is gone, and keeps conversations.

import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ANSWERS } from './answers.js';

const PAGE = fileURLToPath(new URL('..', import.meta.url));
const TYPES = {
  '.html': 'text/html; charset=utf-8', '.css': 'text/css', '.js': 'text/javascript', '.svg': 'image/svg+xml',
  '.webmanifest': 'application/manifest+json',
};
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; manifest-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

export class Mock {
  conversations = new Map();
  answers = new Map(); // id -> {text, status, usage, listeners}
  requests = []; // bodies of the chats asked for
  log = []; // "METHOD path" of each request
  focused = []; // [id of the answer, whether it is looked at]
  key = null; // the API key wanted, if any
  down = false; // refuse conversations and answers, as a server that is starting again would
  full = false; // answers cannot be stored
  pace = 4; // ms between tokens
  status = {
    models: ['qwen2.5-coder-0.5b', 'smollm2-135m'], decode_tok_s: 72.4, prefill_tok_s: 731, memory_bytes: 912e6,
    memory_limit_bytes: 2e9, queued: 0, running: { interactive: 0, normal: 0, background: 1 }, conversations: 1,
    version: '0.1.0',
  };
  #server;
  #count = 0;

  static async start(port = 0) {
    const mock = new Mock();
    mock.#server = createServer((request, response) =>
      mock.#serve(request, response).catch((error) => {
        if (!response.headersSent) response.writeHead(500);
        response.end(String(error));
      }));
    await new Promise((resolve) => mock.#server.listen(port, '127.0.0.1', resolve));
    mock.url = `http://127.0.0.1:${mock.#server.address().port}`;
    return mock;
  }

  stop() {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(resolve));
  }

  /** Cuts all connections, as a killed process does; stored answers are written on. */
  cut() {
    this.#server.closeAllConnections();
  }

  async #serve(request, response) {
    const { pathname } = new URL(request.url, 'http://mock');
    this.log.push(`${request.method} ${pathname}`);
    if (!/^\/(v1|pouch)\//.test(pathname)) return this.#file(pathname, response);
    const body = await read(request);
    if (this.key && request.headers.authorization !== `Bearer ${this.key}`) {
      return refuse(response, 401, 'Incorrect API key provided', 'invalid_api_key');
    }
    const [area, id, verb] = pathname.replace(/^(\/pouch)?\/v1\//, '').split('/').map(decodeURIComponent);
    switch (area) {
      case 'models':
        return send(response, { object: 'list', data: this.status.models.map((name) => ({ id: name, object: 'model' })) });
      case 'status': return send(response, this.status);
      case 'chat': return this.#chat(JSON.parse(body), response);
      case 'responses': return this.#response(id, verb, response);
      case 'requests': {
        this.focused.push([id, JSON.parse(body).focused]);
        return send(response, { id });
      }
      case 'conversations': return this.#conversation(request, id, body, response);
      default: return refuse(response, 404, 'no such route', 'not_found');
    }
  }

  async #file(pathname, response) {
    const path = normalize(pathname === '/' ? '/index.html' : pathname);
    const type = TYPES[extname(path)];
    const data = type && !path.startsWith('/test') && (await readFile(join(PAGE, path)).catch(() => null));
    if (!data) return refuse(response, 404, 'no such file', 'not_found');
    response.writeHead(200, { 'content-type': type, 'content-security-policy': POLICY, 'x-content-type-options': 'nosniff' });
    response.end(data);
  }

  #conversation({ method, headers }, id, body, response) {
    if (this.down) return refuse(response, 503, 'starting', 'starting');
    if (!id) {
      const conversations = [...this.conversations.values()].map(({ title, model, updated, ...rest }) => ({ id: rest.id, title, model, updated }));
      return send(response, { conversations });
    }
    if (method === 'PUT') {
      const document = JSON.parse(body);
      if (document.id !== id) return refuse(response, 400, 'id differs', 'invalid_request_error');
      const now = this.conversations.has(id) ? tag(this.conversations.get(id)) : null;
      const isMeant = headers['if-match'] ? headers['if-match'] === now : !headers['if-none-match'] || now === null;
      if (!isMeant) return refuse(response, 412, 'changed meanwhile', 'conversation_changed');
      this.conversations.set(id, document);
      this.status.conversations += 1;
      return send(response, { id }, { etag: tag(document) });
    }
    if (!this.conversations.has(id)) return refuse(response, 404, 'no such conversation', 'not_found');
    if (method === 'DELETE') {
      this.conversations.delete(id);
      this.status.conversations += 1;
      return send(response, {});
    }
    return send(response, this.conversations.get(id), { etag: tag(this.conversations.get(id)) });
  }

  #response(id, verb, response) {
    const answer = this.answers.get(id);
    if (this.down) return refuse(response, 503, 'starting', 'starting');
    if (!answer) return refuse(response, 404, 'no such response', 'not_found');
    if (verb === 'cancel' && answer.status === 'in_progress') answer.status = 'cancelled';
    return send(response, {
      id, object: 'response', status: answer.status,
      output: [{ type: 'message', role: 'assistant', content: [{ type: 'output_text', text: answer.text }] }],
      usage: answer.status === 'completed' ? { input_tokens: 10, output_tokens: answer.tokens.length } : null,
    });
  }

  async #chat(body, response) {
    this.requests.push(body);
    if (body.store && this.full) return refuse(response, 507, 'the disk is full', 'not_stored');
    const said = body.messages.at(-1).content;
    const { status = 200, error, text = `You said: ${said}.`, thinking, breaks, finish = 'stop', wait = 0 } =
      ANSWERS.find(([pattern]) => pattern.test(said))?.[1] ?? {};
    if (error && status !== 200) return refuse(response, status, error.message, error.code);
    const id = `chatcmpl-${(this.#count += 1)}`;
    const answer = { text: '', status: 'in_progress', tokens: text.match(/\s*\S+|\s+$/g) ?? [] };
    if (body.store) this.answers.set(id, answer);
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const event = (data) => response.destroyed || response.writableEnded || response.write(`data: ${JSON.stringify(data)}\n\n`);
    const chunk = (delta, finish_reason = null) =>
      event({ id, object: 'chat.completion.chunk', choices: [{ index: 0, delta, finish_reason }] });
    chunk({ role: 'assistant', content: '' });
    await pause(wait);
    if (thinking) chunk({ reasoning_content: thinking });
    for (const [at, token] of answer.tokens.entries()) {
      if (answer.status !== 'in_progress' || (response.destroyed && !body.store)) break;
      if (at === breaks && error) {
        event({ error });
        response.end();
        if (error.code !== 'server_stopping') {
          answer.status = 'failed';
          return;
        }
      } else if (at === breaks) {
        response.destroy();
      }
      answer.text += token;
      chunk({ content: token });
      await pause(/^slow/.test(said) ? 40 : this.pace);
    }
    if (answer.status === 'in_progress') answer.status = 'completed';
    chunk({}, finish);
    event({ id, choices: [], usage: { prompt_tokens: 10, completion_tokens: answer.tokens.length } });
    if (!response.writableEnded) response.end('data: [DONE]\n\n');
  }
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function read(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

const tag = (document) => `"${createHash('sha256').update(JSON.stringify(document)).digest('hex')}"`;

function send(response, value, headers = {}) {
  response.writeHead(200, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(value));
}

function refuse(response, status, message, code) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ error: { message, type: 'error', code } }));
}

// node mock.js PORT: for looking at the page by hand
if (process.argv[1] === fileURLToPath(import.meta.url)) console.log((await Mock.start(Number(process.argv[2] ?? 8080))).url);
