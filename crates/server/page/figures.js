// Live figures of the server: speed, memory, queue. Asked for only while somebody can see them.

import * as api from './api.js';
import { $, h } from './dom.js';
import { bytes, number, t } from './i18n.js';

const BUSY = 1000; // ms between looks while an answer is on its way
const IDLE = 5000;

export class Figures {
  queued = 0;
  #last = null;
  #timer = 0;
  #busy;
  #looked;

  /** `busy()` tells whether an answer is on its way, `looked(status)` gets after each look what the server answered, or null. */
  constructor(busy, looked) {
    this.#busy = busy;
    this.#looked = looked;
    document.addEventListener('visibilitychange', () => this.look());
    this.look();
  }

  /** Looks now, and from now on as often as there is something to see. */
  async look() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    if (document.hidden) return;
    try {
      this.#last = await api.status();
      this.queued = this.#last.queued ?? 0;
    } catch {
      this.#last = null; // the figures vanish; what fails is told where it was wanted
    }
    this.show();
    this.#looked(this.#last);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.look(), this.#busy() ? BUSY : IDLE);
  }

  show() {
    const entries = this.#last ? entriesOf(this.#last) : [];
    $('figures').replaceChildren(...entries.flatMap(({ name, text }) => [h('dt', {}, name), h('dd', {}, text)]));
    $('strip').replaceChildren(...entries.filter(({ short }) => short).map(({ short }) => h('span', {}, short)));
  }
}

function entriesOf(status) {
  const rate = (speed) => t('perSecond', { speed: number(speed, speed < 10 ? 1 : 0) });
  const entries = [];
  if (status.decode_tok_s > 0) entries.push({ name: t('writing'), text: rate(status.decode_tok_s), short: rate(status.decode_tok_s) });
  if (status.prefill_tok_s > 0) entries.push({ name: t('readingSpeed'), text: rate(status.prefill_tok_s) });
  if (status.memory_bytes > 0) {
    const used = bytes(status.memory_bytes);
    const text = status.memory_limit_bytes > 0 ? t('memoryOf', { used, limit: bytes(status.memory_limit_bytes) }) : used;
    entries.push({ name: t('memory'), text, short: text });
  }
  const running = Object.values(status.running ?? {}).reduce((sum, count) => sum + count, 0);
  entries.push({ name: t('running'), text: number(running) });
  entries.push({ name: t('queue'), text: number(status.queued), short: t('inQueue', { count: number(status.queued) }) });
  if (status.version) entries.push({ name: t('version'), text: status.version });
  return entries;
}
