// Answers on their way, at most one a conversation; they go on while the reader looks at another conversation.
//
// An answer survives the page and the server: the conversation is saved before the question is sent, the server keeps the answer by
// an id (`store: true`), and whoever opens the conversation again follows it by that id. A broken connection is followed the same way.
//
// Events: `change` (detail the document: more text, or another state) and `end` (the same, at the end).

import * as api from './api.js';
import { request } from './conversation.js';

const FOLLOW = 700; // ms between looks at a stored answer
const NAMELESS = 40; // looks at an answer that has no name yet, before nobody counts as asking for it
const LONG_AGO = 60; // s
const PATIENCE = 40; // looks without any answer, seconds apart, before the server counts as gone
const STOPPING = 'server_stopping'; // the server's code for what it will go on with after its next start
const NOT_STORED = 'not_stored'; // nor begun: its disk is full, or not its own
const INTERRUPTED = 'interrupted'; // our own code: nobody knows the rest of this answer

export class Answers extends EventTarget {
  #running = new Map(); // conversation id -> {message, controller, phase}
  #watched = null;
  #store;

  constructor(store) {
    super();
    this.#store = store;
  }

  /** `reading` (nothing has come yet), `writing`, `lost` (no connection), or null where no answer is on its way. */
  phase(id) {
    return this.#running.get(id)?.phase ?? null;
  }

  /** Asks for the last message of the document, an answer to come. */
  ask(document) {
    return this.#run(document, async (message, run) => {
      await this.#store.save(document, { now: true });
      run.controller.signal.throwIfAborted();
      try {
        await this.#stream(document, message, run);
      } catch (error) {
        // Without an id the server never began; with one it goes on writing although nobody listens, a stopped one when it is back.
        const left = error.status === 0 || error.code === STOPPING;
        if (!left || !message.id) throw error;
        await this.#follow(document, message, run);
      }
    });
  }

  /** Follows an answer that this page did not see to its end. */
  resume(document) {
    const save = () => this.#store.saveFollowed(document);
    return this.#run(document, (message, run) => this.#follow(document, message, run), save);
  }

  /** Says whose answer the reader looks at, that of this conversation or null: the server hurries it. */
  watch(id) {
    if (id === this.#watched) return;
    for (const [of, focused] of [[this.#watched, false], [id, true]]) this.#hurry(of, focused);
    this.#watched = id;
  }

  #hurry(id, focused) {
    const answer = this.#running.get(id)?.message.id;
    if (answer) api.focusAnswer(answer, focused).catch(() => {}); // it may have ended just now
  }

  async stop(id) {
    const run = this.#running.get(id);
    run?.controller.abort();
    await run?.ended;
  }

  async #run(document, work, save = () => this.#store.save(document, { now: true })) {
    const message = document.messages.at(-1);
    const run = { message, controller: new AbortController(), phase: 'reading' };
    this.#running.set(document.id, run);
    this.#changed('change', document);
    run.ended = work(message, run).then(
      () => { if (message.state === 'writing') message.state = 'done'; },
      (error) => this.#failed(message, error),
    );
    await run.ended;
    this.#running.delete(document.id);
    this.#changed('end', document);
    await save();
  }

  #failed(message, error) {
    if (error.name === 'AbortError') {
      message.state = 'stopped';
      // Hanging up would not stop it: a stored answer is written to its end.
      if (message.id) api.cancelAnswer(message.id).catch(() => {});
      return;
    }
    if (!(error instanceof api.ApiError)) console.error(error);
    message.state = 'failed';
    message.error = { kind: kindOf(error), detail: error.message };
  }

  async #stream(document, message, run) {
    const began = performance.now();
    let first = 0;
    let last = 0;
    let usage = null;
    for await (const chunk of this.#chat(request(document), run.controller.signal)) {
      if (!message.id && chunk.id) {
        message.id = chunk.id;
        this.#store.save(document, { now: true });
        if (document.id === this.#watched) this.#hurry(document.id, true);
      }
      const choice = chunk.choices?.[0];
      const text = choice?.delta?.content ?? '';
      const thinking = choice?.delta?.reasoning_content ?? '';
      if (text || thinking) {
        last = performance.now();
        first ||= last;
        message.content += text;
        if (thinking) message.thinking = (message.thinking ?? '') + thinking;
        run.phase = 'writing';
        this.#changed('change', document);
      }
      if (choice?.finish_reason) message.finish = choice.finish_reason;
      usage = chunk.usage ?? usage;
    }
    if (usage) {
      const tokens = usage.completion_tokens;
      const speed = tokens > 1 && last > first ? ((tokens - 1) * 1000) / (last - first) : null;
      message.figures = { tokens, speed, first: first ? (first - began) / 1000 : null };
    }
  }

  /** Asks for an answer that is stored; where the server can store none, for one that ends with this page. */
  async *#chat(body, signal) {
    try {
      yield* api.chat(body, signal);
    } catch (error) {
      if (error.code !== NOT_STORED) throw error;
      yield* api.chat({ ...body, store: false }, signal);
    }
  }

  async #follow(document, message, run) {
    const { signal } = run.controller;
    await this.#learnName(document, message, signal);
    if (message.state !== 'writing') return;
    for (let failures = 0; ; ) {
      signal.throwIfAborted();
      try {
        const stored = await api.storedAnswer(message.id, signal);
        failures = 0;
        run.phase = 'writing';
        if (settle(message, stored)) return;
        this.#changed('change', document);
      } catch (error) {
        if (error.name === 'AbortError' || error.status === 401) throw error;
        if (error.status === 404) throw new api.ApiError(404, '', INTERRUPTED);
        if ((failures += 1) > PATIENCE) throw error;
        run.phase = 'lost';
        this.#changed('change', document);
      }
      await pause(failures ? 1500 : FOLLOW, signal);
    }
  }

  /** Whoever asked for an answer is told its name only when it begins: the name, or the answer, is in what they keep then. */
  async #learnName(document, message, signal) {
    const at = document.messages.indexOf(message);
    for (let looks = 0; !message.id; looks += 1) {
      const kept = await this.#store.read(document.id).catch(() => null);
      const theirs = kept?.messages[at];
      if (theirs && (theirs.id || theirs.state !== 'writing')) {
        Object.assign(message, theirs);
        return;
      }
      // One that was asked for long ago and has no name never began.
      if (looks === NAMELESS || Date.now() / 1000 - document.updated > LONG_AGO) throw new api.ApiError(404, '', INTERRUPTED);
      await pause(FOLLOW, signal);
      signal.throwIfAborted();
    }
  }

  #changed(type, document) {
    this.dispatchEvent(new CustomEvent(type, { detail: document }));
  }
}

/** Takes what the server has of an answer into the message. True: nothing more will come. */
function settle(message, stored) {
  const textOf = (kind) =>
    (stored.output ?? []).filter(({ type }) => type === kind).flatMap(({ content }) => content).map((piece) => piece.text ?? '').join('');
  const text = textOf('message');
  if (text.length >= message.content.length) message.content = text;
  const thinking = textOf('reasoning');
  if (thinking) message.thinking = thinking;
  if (stored.usage) message.figures = { tokens: stored.usage.output_tokens, speed: null, first: null };
  switch (stored.status) {
    case 'queued':
    case 'in_progress':
      return false;
    case 'cancelled':
      message.state = 'stopped';
      return true;
    case 'incomplete':
      message.finish = 'length';
      return true;
    case 'failed':
      if (stored.error?.code === STOPPING) return false;
      throw new api.ApiError(500, stored.error?.message, stored.error?.code);
    default:
      return true;
  }
}

/** What an error is to a reader: the name of a text. */
export function kindOf({ status, code }) {
  if (status === 0) return 'errorUnreachable';
  if (status === 401) return 'errorKey';
  if (code === INTERRUPTED) return 'errorInterrupted';
  if (/memory/.test(code)) return 'errorMemory';
  if (status === 404 && /model/.test(code)) return 'errorModel';
  if (status === 413 || /context_length/.test(code)) return 'errorTooLong';
  if (status === 429 || status === 503) return 'errorBusy';
  return status >= 500 || status === undefined ? 'errorServer' : 'errorRequest';
}

/** Waits, while the page is hidden until it is seen again, and ends early when aborted. */
async function pause(milliseconds, signal) {
  const until = (target, event) => new Promise((resolve) => target.addEventListener(event, resolve, { once: true }));
  const aborted = until(signal, 'abort');
  await Promise.race([aborted, new Promise((resolve) => setTimeout(resolve, milliseconds))]);
  if (document.hidden) await Promise.race([aborted, until(document, 'visibilitychange')]);
}
