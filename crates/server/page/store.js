// Conversations as the server keeps them: the list, the open documents, saving. One PUT of a conversation at a time, so that an older
// version never overtakes a newer one; the last write wins, and other tabs are told.
//
// Events: `list` (the list changed), `elsewhere` (detail {id, document}: the one on the screen was changed by another tab; null: deleted),
// `trouble` and `relief` (saving fails, saving works again).

import * as api from './api.js';
import { same, touch } from './conversation.js';

const PAUSE = 600; // ms of quiet before a change is written
const LONGEST = 30_000; // ms between tries while the server does not answer

export class Store extends EventTarget {
  list = [];
  watched = null; // the id of the conversation on the screen, the one that is compared with the server's
  #open = new Map(); // id -> document
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
    const now = await api.getConversation(document.id).catch(() => null);
    if (!now || this.#saving.has(document.id)) return;
    if (!same(now, document)) this.#emit('elsewhere', { id: document.id, document: now });
  }

  /** The document of this id; always the same object while it is open. */
  async open(id) {
    if (!this.#open.has(id)) this.adopt(await api.getConversation(id));
    return this.#open.get(id);
  }

  /** Keeps a document whose answer somebody else may have asked for, unless they have kept the end of it themselves. */
  async saveFollowed(document) {
    const kept = await api.getConversation(document.id).catch(() => null);
    const isTheirs = kept && (kept.messages.length > document.messages.length || kept.messages.at(-1)?.state !== 'writing');
    if (!isTheirs) return this.save(document, { now: true });
    this.#emit('elsewhere', { id: document.id, document: kept });
  }

  /** Takes this as the open document of its id, in the place of one there was. */
  adopt(document) {
    this.#removed.delete(document.id);
    this.#open.set(document.id, document);
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
        await api.putConversation(document);
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

  /** Sends what is not written yet while the page goes away. Browsers carry at most 64 KB so; longer ones were written before. */
  flush() {
    for (const id of this.#saving.keys()) {
      const document = this.#open.get(id);
      if (document && !this.#removed.has(id)) api.putConversation(document, true).catch(() => {});
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
