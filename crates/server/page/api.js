// The server's HTTP interface: plain requests, server-sent events, the API key. Nothing else in the page calls fetch.

const KEY = 'pouch.key';

/** A refusal. `status` is HTTP's, 0 where no server answered; `message` is the server's own; `code` its error code or type. */
export class ApiError extends Error {
  constructor(status, message = '', code = '') {
    super(message);
    this.status = status;
    this.code = code;
  }
}

let askForKey = async () => null;
let asking = null;
let declined = false;

/** `ask(wrong)` gets the key from the reader, or null if they decline; `wrong`: there was one and it was refused. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}
/** The reader does something that needs the key: they may be asked again although they declined. */
export const mayAskForKey = () => (declined = false);
export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const forgetKey = () => sessionStorage.removeItem(KEY);

/** Asks once however many requests were refused meanwhile, and not for those sent before the present key was known. */
async function newKey(used) {
  if (sessionStorage.getItem(KEY) !== used) return true;
  if (declined) return false;
  asking ??= askForKey(used !== null).finally(() => (asking = null));
  const key = await asking;
  if (key) sessionStorage.setItem(KEY, key);
  declined = !key;
  return !declined;
}

async function refusal(response) {
  let message = '';
  let code = '';
  try {
    const { error } = await response.json();
    message = typeof error === 'string' ? error : error.message ?? '';
    code = error.code ?? error.type ?? '';
  } catch {
    // Not the API's own answer: the status says enough.
  }
  return new ApiError(response.status, message, code);
}

async function request(method, path, { body, signal, keepalive = false, headers: more } = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...more };
    if (key) headers.authorization = `Bearer ${key}`;
    if (body !== undefined) headers['content-type'] = 'application/json';
    let response;
    try {
      response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal, keepalive, cache: 'no-store' });
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new ApiError(0);
    }
    if (response.ok) return response;
    if (response.status !== 401 || !(await newKey(key))) throw await refusal(response);
  }
}

const json = async (...call) => (await request(...call)).json();
const conversation = (id) => `/pouch/v1/conversations/${encodeURIComponent(id)}`;
const response = (id) => `/v1/responses/${encodeURIComponent(id)}`;

/** The names of the models, the first one is the default. */
export const models = async () => (await json('GET', '/v1/models')).data.map(({ id }) => id);
export const status = () => json('GET', '/pouch/v1/status');

export const conversations = async () => (await json('GET', '/pouch/v1/conversations')).conversations;

/** A conversation and the name of this version of it. */
export async function getConversation(id) {
  const response = await request('GET', conversation(id));
  return [await response.json(), response.headers.get('etag')];
}

/**
 * Keeps a conversation over the version of this name, null: over none, undefined: over whatever is there. Returns the new version's name;
 * where another version is there by now nothing is kept, and it throws an ApiError of status 412.
 */
export async function putConversation(document, over, keepalive) {
  const headers = over === undefined ? {} : over === null ? { 'if-none-match': '*' } : { 'if-match': over };
  return (await request('PUT', conversation(document.id), { body: document, headers, keepalive })).headers.get('etag');
}

export const deleteConversation = (id) => request('DELETE', conversation(id));

/** A stored answer, finished or not: the Responses API's object. */
export const storedAnswer = (id, signal) => json('GET', response(id), { signal });
export const cancelAnswer = (id) => request('POST', `${response(id)}/cancel`);

/** Tells whether the reader looks at an answer that is on its way. */
export const focusAnswer = (id, focused) => request('POST', `/pouch/v1/requests/${encodeURIComponent(id)}/focus`, { body: { focused } });

/**
 * Asks for an answer and yields its chunks as they come. Ends when the server says that it is whole; a connection that ends before
 * throws an ApiError of status 0, and an error in the stream throws with the server's message.
 */
export async function* chat(body, signal) {
  const answer = await request('POST', '/v1/chat/completions', { body, signal });
  for await (const data of events(answer.body)) {
    if (data === '[DONE]') return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.status ?? 500, chunk.error.message, chunk.error.code ?? chunk.error.type);
    yield chunk;
  }
  throw new ApiError(0);
}

/** The data of server-sent events, https://html.spec.whatwg.org/multipage/server-sent-events.html */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let data = [];
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new ApiError(0);
    }
    if (part.done) return;
    const lines = (rest + part.value).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === '' && data.length > 0) {
        yield data.join('\n');
        data = [];
      } else if (line.startsWith('data:')) {
        data.push(line.slice(5).replace(/^ /, ''));
      }
    }
  }
}
