// What the page says aside: notices that go away, and words for screen readers only.

import { $, h, iconButton } from './dom.js';
import { t } from './i18n.js';
import { parts } from './conversation.js';

const STAYS = 10_000; // ms; longer while it is pointed at or holds the focus

/** Says something to screen readers only. */
export function say(text) {
  const line = h('p', {}, text);
  $('speech').append(line);
  setTimeout(() => line.remove(), STAYS);
}

/**
 * Shows a notice, with a button for `action` {label, run} if given. Notices of the same `name` replace each other; one that `stays`
 * waits to be closed. Returns the function that takes it away.
 */
export function notify(name, text, { action, stays = false, alert = false } = {}) {
  withdraw(name);
  let timer = 0;
  const close = () => {
    clearTimeout(timer);
    notice.remove();
  };
  const notice = h('div', { class: 'notice', 'data-name': name },
    h('p', { role: alert ? 'alert' : 'status' }),
    action && h('button', { type: 'button', class: 'plain', onclick: () => { close(); action.run(); } }, action.label),
    iconButton('close', t('close'), close));
  const start = () => { if (!stays) timer = setTimeout(close, STAYS); };
  const hold = () => clearTimeout(timer);
  for (const event of ['pointerenter', 'focusin']) notice.addEventListener(event, hold);
  for (const event of ['pointerleave', 'focusout']) notice.addEventListener(event, start);
  $('notices').append(notice);
  // Filled once it stands there: screen readers speak what changes inside such an element.
  notice.firstElementChild.textContent = text;
  start();
  return close;
}

export const withdraw = (name) => $('notices').querySelector(`[data-name="${name}"]`)?.remove();

/** Reads an answer out sentence by sentence while it is written, instead of token by token. */
export class Reader {
  #message = null;
  #at = 0;

  /** Says the sentences of this answer that are complete and not said yet; with `whole` the rest too. */
  follow(message, whole) {
    if (this.#message !== message) {
      this.#message = message;
      this.#at = 0;
    }
    const fresh = parts(message).text.slice(this.#at);
    const end = whole ? fresh.length : lastSentence(fresh);
    if (end > 0) {
      this.#at += end;
      const spoken = plain(fresh.slice(0, end));
      if (spoken) say(spoken);
    }
    if (whole) say(t('finished'));
  }
}

/** Where the last complete sentence ends, or 0. Code counts as complete at its end only. */
function lastSentence(text) {
  const fences = text.split('```').length - 1;
  const open = fences % 2 === 1 ? text.lastIndexOf('```') : text.length;
  let end = 0;
  for (const found of text.slice(0, open).matchAll(/[.!?](?=\s)|[。！？]|\n/g)) end = found.index + found[0].length;
  return end;
}

const plain = (text) => text.replace(/```(\w*)\n[^]*?(```|$)/g, ` ${t('code')} $1. `).replace(/[*_`#>|~]+|\]\([^)]*\)|\[/g, '').trim();
