// Conversations as the server keeps them: the list, the open documents, saving. One PUT of a conversation at a time, so that an older
// version never overtakes a newer one, and only over the version that was seen here: where somebody else has written another, both are put
// together. Other tabs are told.
//
// Events: `list` (the list changed), `merged` (detail the document: it has now what somebody else wrote), `elsewhere` (detail {id, document}: the one on the screen was changed by another tab; null: deleted),
// `trouble` and `relief` (saving fails, saving works again).

import * as api from './api.js';
import { merge, same, touch } from './conversation.js';

const PAUSE = 600; // ms of quiet before a change is written
const LONGEST = 30_000; // ms between tries while the server does not answer

export class Store extends EventTarget {
  list = [];
  watched = null; // the id of the conversation on the screen, the one that is compared with the server's
  #open = new Map(); // id -> document
  #versions = new WeakMap(); // document just read -> name of that version
  #kept = new Map(); // id -> {version, document}: what the server was last seen to have
  #saving = new Map(); // id -> {timer, busy, again, wait}
  #removed = new Set(); // deleted here: a late write must not bring them back
  #changes = 0; // counts what was done to the list here
  #channel = new BroadcastChannel('pouch.conversations');
  #failing = false;

  constructor() {
    super();
    this.#channel.onmessage = () => this.refresh().catch(() => {});
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** Reads the list, and with it whether the conversation on the screen changed elsewhere. */
  async refresh() {
    let changes;
    let list;
    do { // a list that was on its way meanwhile does not know of them
      changes = this.#changes;
      list = await api.conversations();
    } while (changes !== this.#changes);
    const unsaved = this.list.filter(({ id }) => this.#saving.has(id));
    this.#show([...unsaved, ...list.filter(({ id }) => !this.#saving.has(id))]);
    const document = this.#open.get(this.watched);
    if (document) await this.#compare(document);
  }

  #show(list) {
    this.list = list.sort((a, b) => b.updated - a.updated);
    this.#emit('list');
  }

  async #compare(document) {
    if (this.#saving.has(document.id) || this.#removed.has(document.id) || document.updated === 0) return;
    const listed = this.list.find(({ id }) => id === document.id);
    if (!listed) {
      this.#emit('elsewhere', { id: document.id, document: null });
      return;
    }
    const now = await this.read(document.id).catch(() => null);
    if (!now || this.#saving.has(document.id)) return;
    if (!same(now, document)) this.#emit('elsewhere', { id: document.id, document: now });
    if (same(now, document)) this.#see(now); // or it was taken over
  }

  /** What the server has by this id. */
  async read(id) {
    const [document, version] = await api.getConversation(id);
    this.#versions.set(document, version);
    return document;
  }

  /** The document as it was read is what changes are made to from now on. */
  #see(document) {
    this.#kept.set(document.id, { version: this.#versions.get(document), document: structuredClone(document) });
    this.#versions.delete(document); // it is not that version any more once it is changed
  }

  /** The document of this id; always the same object while it is open. */
  async open(id) {
    if (!this.#open.has(id)) this.adopt(await this.read(id));
    return this.#open.get(id);
  }

  /** Keeps the end of an answer that somebody else may have asked for, unless they have kept it themselves, or gone on. */
  async saveFollowed(document) {
    const mine = document.messages.at(-1);
    for (;;) {
      const kept = await this.read(document.id).catch(() => null);
      if (!kept) return this.save(document, { now: true });
      const last = kept.messages.at(-1);
      if (last?.state !== 'writing' || last.id !== mine.id) return this.#emit('elsewhere', { id: document.id, document: kept });
      const version = this.#versions.get(kept);
      kept.messages.splice(-1, 1, structuredClone(mine));
      try {
        this.#versions.set(kept, await api.putConversation(kept, version));
      } catch (error) {
        if (error.status === 412) continue; // look again
        return this.save(document, { now: true });
      }
      this.#see(kept);
      this.#channel.postMessage(document.id);
      return;
    }
  }

  /** Takes this as the open document of its id, in the place of one there was. */
  adopt(document) {
    this.#removed.delete(document.id);
    this.#open.set(document.id, document);
    if (this.#versions.has(document)) this.#see(document);
  }

  /** Lets go of a document that nobody looks at. */
  close(id) {
    if (!this.#saving.has(id)) this.#open.delete(id);
  }

  /** Writes the document soon, or at once; then the promise ends with the first try, whatever came of it. */
  save(document, { now = false } = {}) {
    if (this.#removed.has(document.id)) return Promise.resolve();
    const entry = this.#saving.get(document.id) ?? { timer: 0, busy: null, again: false, wait: 0 };
    this.#saving.set(document.id, entry);
    this.#note(document);
    clearTimeout(entry.timer);
    if (now) return this.#write(document, entry);
    if (entry.busy) entry.again = true;
    else entry.timer = setTimeout(() => this.#write(document, entry), PAUSE);
    return Promise.resolve();
  }

  #note({ id, title, model, updated }) {
    this.#changes += 1;
    this.#show([{ id, title, model, updated }, ...this.list.filter((entry) => entry.id !== id)]);
  }

  async #write(document, entry) {
    if (entry.busy) {
      entry.again = true;
      return entry.busy;
    }
    entry.busy = this.#put(document, entry).finally(() => (entry.busy = null));
    return entry.busy;
  }

  async #put(document, entry) {
    do {
      entry.again = false;
      if (this.#removed.has(document.id)) break;
      try {
        await this.#send(document);
      } catch (error) {
        const passing = error.code !== 'no_data_folder' && (error.status === 0 || error.status === 429 || error.status >= 500);
        if (!this.#failing || !passing) this.#emit('trouble', error);
        if (!passing) break; // the same document would be refused again
        this.#failing = true;
        entry.wait = Math.min(Math.max(entry.wait * 2, 1000), LONGEST);
        entry.timer = setTimeout(() => this.#write(document, entry), entry.wait);
        return;
      }
      entry.wait = 0;
      if (this.#failing) this.#emit('relief');
      this.#failing = false;
    } while (entry.again);
    this.#saving.delete(document.id);
    this.#changes += 1;
    this.#channel.postMessage(document.id);
  }

  async #send(document) {
    const { id } = document;
    for (;;) {
      const written = structuredClone(document);
      try {
        const version = await api.putConversation(written, this.#kept.get(id)?.version ?? null);
        this.#kept.set(id, { version, document: written });
        return;
      } catch (error) {
        if (error.status !== 412) throw error;
      }
      const theirs = await this.read(id).catch((error) => {
        if (error.status === 404) return null; // deleted elsewhere: it is kept again
        throw error;
      });
      if (!theirs) {
        this.#kept.delete(id);
        continue;
      }
      merge(document, this.#kept.get(id)?.document, structuredClone(theirs));
      this.#see(theirs);
      this.#note(document);
      this.#emit('merged', document);
    }
  }

  /** Sends what is not written yet while the page goes away. Browsers carry at most 64 KB so; longer ones were written before. */
  flush() {
    for (const [id, { busy }] of this.#saving) {
      const document = this.#open.get(id);
      // Nobody learns any more what comes of a write that is under way.
      const over = busy ? undefined : this.#kept.get(id)?.version ?? null;
      if (document && !this.#removed.has(id)) api.putConversation(document, over, true).catch(() => {});
    }
  }

  /** Deletes it and returns the document, for `restore`. */
  async remove(id) {
    const document = await this.open(id);
    const entry = this.#saving.get(id);
    clearTimeout(entry?.timer);
    this.#removed.add(id);
    try {
      await entry?.busy;
      await api.deleteConversation(id);
    } catch (error) {
      this.#removed.delete(id);
      throw error;
    }
    this.#saving.delete(id);
    this.#open.delete(id);
    this.#kept.delete(id);
    this.#changes += 1;
    this.#show(this.list.filter((listed) => listed.id !== id));
    this.#channel.postMessage(id);
    return document;
  }

  async restore(document) {
    this.adopt(document);
    await this.save(document, { now: true });
  }

  async rename(id, title) {
    const document = await this.open(id);
    document.title = title;
    touch(document);
    await this.save(document, { now: true });
  }
}
