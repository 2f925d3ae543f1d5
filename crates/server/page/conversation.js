// A conversation as a document, and what may be done to it. Nothing here knows of the screen or the network.
//
// {id, title, model, settings: {system, temperature, top_p, max_tokens, seed}, messages, updated}, `updated` being when the user last said or
// changed something, in seconds since 1970, to the millisecond: of two conversations of one second the later one is first.
// A user's message: {role: 'user', content}. An answer: {role: 'assistant', content, thinking?, state, id?, error?, finish?, figures?}:
// `state` is writing, done, stopped or failed; `id` is the server's, by which an unfinished answer is found again; `error` is
// {kind, detail}; `finish` the reason as the API gives it; `figures` is {tokens, speed (tok/s), first (s)}.

const TITLE = 60;

/** Not crypto.randomUUID, which browsers have only on HTTPS and localhost. */
export const newId = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');

export const create = (model, settings) => ({ id: newId(), title: '', model, settings: { ...settings }, messages: [], updated: 0 });

export const touch = (document) => (document.updated = Date.now() / 1000);

/** The first line of the first message, cut at a word. */
export function titleOf(text) {
  const line = text.trim().split('\n')[0].trim();
  if (line.length <= TITLE) return line;
  const cut = line.slice(0, TITLE);
  return `${cut.slice(0, Math.max(cut.lastIndexOf(' '), TITLE / 2))}…`;
}

/** Adds what the user says and the answer to come, which is returned. */
export function say(document, text) {
  if (document.messages.length === 0 && !document.title) document.title = titleOf(text);
  document.messages.push({ role: 'user', content: text });
  return expect(document);
}

/** Adds an answer to come. */
export function expect(document) {
  const answer = { role: 'assistant', content: '', state: 'writing' };
  document.messages.push(answer);
  touch(document);
  return answer;
}

/** Takes away this message and all that follow. */
export function cutFrom(document, message) {
  document.messages.length = document.messages.indexOf(message);
}

/** The answer that is still being written, or was when the page or the server went away. */
export function unfinished(document) {
  const last = document.messages.at(-1);
  return last?.state === 'writing' ? last : null;
}

/** Thoughts and answer apart: some servers send thoughts by themselves, some models write them between tags. */
export function parts(message) {
  const tagged = /^\s*<think>([^]*?)(?:<\/think>\s*|$)/.exec(message.content);
  if (!tagged) return { thinking: message.thinking ?? '', text: message.content };
  return { thinking: tagged[1].trim(), text: message.content.slice(tagged[0].length) };
}

/** The request that asks for the last message, an answer to come. Settings that are not set are left to the server. */
export function request(document) {
  const { system, ...sampling } = document.settings;
  const said = document.messages.slice(0, -1).map(({ role, content }) => ({ role, content }));
  // A failed answer of which nothing came would be an empty turn.
  const turns = said.filter(({ content }) => content !== '');
  return {
    model: document.model,
    messages: system ? [{ role: 'system', content: system }, ...turns] : turns,
    ...sampling,
    stream: true,
    stream_options: { include_usage: true },
    store: true,
    pouch: { priority: 'interactive' },
  };
}

/** Whether two messages are one: by what they say, or by the name that the server has for an answer. */
const sameMessage = (one, other) =>
  one.role === other.role && ((one.id && one.id === other.id) || (one.content === other.content && one.state === other.state));

/**
 * Takes over what was said after all that stands here, or how an answer that stands here ended; what stands here stays the same
 * objects. False if something else was changed.
 */
export function catchUp(document, later) {
  const { messages } = document;
  if (later.messages.length < messages.length || !messages.every((message, at) => sameMessage(message, later.messages[at]))) return false;
  messages.forEach((message, at) => { if (later.messages[at].state !== 'writing') Object.assign(message, later.messages[at]); });
  messages.push(...later.messages.slice(messages.length));
  Object.assign(document, later, { messages });
  return true;
}

const text = JSON.stringify;

/**
 * Puts what was done here since `base` together with what others made of it, `theirs`; `base` is null where there was none. Where both
 * changed a field ours holds; of the messages nothing is lost, and what was said here stands last. Messages that stay are the same objects.
 */
export function merge(document, base, theirs) {
  const mine = document.messages;
  const before = base?.messages ?? [];
  const changed = mine.findIndex((message, at) => text(message) !== text(before[at]));
  const same = changed < 0 ? mine.length : changed;
  // What has become of a message that was there: itself, the same answer further on, or nothing.
  const lasts = (old, at) => mine.some((message) => text(message) === text(old) || (old.id && message.id === old.id)) ||
    (old.role === 'assistant' && !old.id && at === same && mine[at]?.role === 'assistant');
  const gone = before.slice(same).filter((old, at) => !lasts(old, at + same));
  const isGone = (message) => gone.some((old) => text(old) === text(message) || (old.id && old.id === message.id));
  const ours = mine.slice(mine[same]?.role === 'assistant' ? Math.max(same - 1, 0) : same); // an answer goes with its question

  let messages = (theirs.messages ?? []).filter((message) => !isGone(message));
  const answer = ours.at(-1);
  const there = messages.findIndex(({ id }) => id && id === answer?.id);
  if (there >= 0) {
    messages[there] = answer;
  } else {
    // The question may be there, with an answer to come that had no name yet.
    const [question, open] = messages.slice(-2);
    if (open && !open.id && open.state !== 'done' && ours.length > 0 && text(ours[0]) === text(question)) messages.splice(-2);
    messages.push(...ours);
  }
  messages = messages.map((message) => mine.find((own) => own === message || text(own) === text(message)) ?? message);
  mine.splice(0, mine.length, ...messages);
  for (const [name, value] of Object.entries(theirs)) {
    if (name !== 'messages' && text(document[name]) === text(base?.[name])) document[name] = value;
  }
}

const essence = ({ title, model, settings, messages }) =>
  JSON.stringify([title, model, Object.entries(settings ?? {}).sort(), messages.map(({ role, content, state }) => [role, content, state])]);

/** Whether two documents say the same to a reader. */
export const same = (one, other) => essence(one) === essence(other);
