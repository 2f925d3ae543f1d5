// The messages of the conversation on the screen.

import { $, h, iconButton } from './dom.js';
import { number, t } from './i18n.js';
import { parts } from './conversation.js';
import { copy } from './clipboard.js';
import { update } from './prose.js';

const NEAR = 80; // px from the end within which the reader counts as following

export class Messages {
  #actions;
  #nodes = new Map(); // message -> its element and parts
  #frame = 0;
  #following = true;

  /** `actions`: {edit(message, text), regenerate(message)} */
  constructor(actions) {
    this.#actions = actions;
    const thread = $('thread');
    thread.addEventListener('scroll', () => {
      this.#following = thread.scrollHeight - thread.scrollTop - thread.clientHeight < NEAR;
      $('latest').hidden = this.#following;
    }, { passive: true });
    new ResizeObserver(() => this.#keepUp()).observe(thread);
    $('latest').addEventListener('click', () => {
      this.toLatest();
      $('message').focus();
    });
  }

  toLatest() {
    this.#following = true;
    this.#keepUp();
  }

  #keepUp() {
    if (this.#following) $('thread').scrollTop = $('thread').scrollHeight;
    $('latest').hidden = this.#following;
  }

  /** Shows this conversation; `phase` and `queued` say how its unfinished answer fares. `anew` builds all elements again. */
  show(document, phase, queued, { anew = false } = {}) {
    const kept = anew ? new Map() : this.#nodes;
    this.#nodes = new Map(document.messages.map((message) => [message, kept.get(message) ?? this.#build(message)]));
    const list = $('messages');
    const elements = [...this.#nodes.values()].map(({ element }) => element);
    elements.forEach((element, at) => { if (list.children[at] !== element) list.insertBefore(element, list.children[at] ?? null); });
    while (list.children.length > elements.length) list.lastElementChild.remove();
    $('welcome').hidden = elements.length > 0;
    for (const message of document.messages) this.#refresh(message, message === document.messages.at(-1), phase, queued);
    this.#keepUp();
  }

  /** More of the last answer came: shown with the next frame, however many tokens came until then. */
  changed(document, phase, queued) {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      const message = document.messages.at(-1);
      if (!this.#nodes.has(message)) return;
      this.#refresh(message, true, phase(), queued());
      this.#keepUp();
    });
  }

  editLast() {
    const mine = [...this.#nodes.keys()].filter(({ role }) => role === 'user').at(-1);
    if (mine) this.#edit(mine);
  }

  #build(message) {
    return message.role === 'user' ? this.#buildQuestion(message) : this.#buildAnswer(message);
  }

  #buildQuestion(message) {
    const bubble = h('div', { class: 'bubble' }, message.content);
    const edit = iconButton('edit', t('edit'), () => this.#edit(message));
    const copying = iconButton('copy', t('copy'), () => copy(message.content, copying));
    const tools = h('div', { class: 'tools' }, copying, edit);
    return { element: h('li', { class: 'question' }, h('article', { 'aria-label': t('youSaid') }, bubble, tools)), bubble, tools, edit };
  }

  #buildAnswer(message) {
    const thoughts = h('div', { class: 'prose' });
    const thinking = h('details', { class: 'thinking' }, h('summary', {}, t('thought')), thoughts);
    const prose = h('div', { class: 'prose' });
    const state = h('div', { class: 'state' });
    const copying = iconButton('copy', t('copy'), () => copy(parts(message).text, copying));
    const again = iconButton('retry', t('regenerate'), () => this.#actions.regenerate(message), { 'data-does': 'regenerate' });
    const figures = h('span', { class: 'figures' });
    const tools = h('div', { class: 'tools' }, copying, again, figures);
    const article = h('article', { 'aria-label': t('answer') }, thinking, prose, state, tools);
    return { element: h('li', { class: 'reply' }, article), article, thinking, thoughts, prose, state, tools, again, figures, shown: '' };
  }

  #refresh(message, last, phase, queued) {
    if (message.role === 'user') return;
    const node = this.#nodes.get(message);
    const { thinking, text } = parts(message);
    const running = last && phase !== null;
    node.thinking.hidden = thinking === '';
    update(node.thoughts, thinking);
    update(node.prose, text);
    node.article.setAttribute('aria-busy', String(running));
    node.tools.hidden = running || (text === '' && message.state === 'failed');
    node.again.hidden = !last;
    node.figures.textContent = figuresOf(message);
    this.#showState(node, message, running ? phase : null, queued, last, text !== '');
  }

  /** Below the text: what is awaited, or how it ended if not well. Built again only when that changes, so that focus stays. */
  #showState(node, message, phase, queued, last, begun) {
    const key = JSON.stringify([phase, phase === 'reading' ? queued : 0, message.state, message.error, message.finish, last, begun]);
    if (node.shown === key) return;
    node.shown = key;
    node.state.replaceChildren(...this.#stateOf(message, phase, queued, last, begun));
  }

  #stateOf(message, phase, queued, last, begun) {
    const dots = () => h('span', { class: 'dots', 'aria-hidden': 'true' }, h('i'), h('i'), h('i'));
    if (phase === 'lost') return [h('p', { class: 'awaited' }, dots(), t('reconnecting'))];
    if (phase === 'writing') return begun ? [] : [h('p', { class: 'awaited' }, dots(), t('thinking'))];
    if (phase === 'reading') return [h('p', { class: 'awaited' }, dots(), queued > 0 ? t('waiting', { count: number(queued) }) : t('reading'))];
    if (message.state === 'failed') {
      const { kind, detail } = message.error;
      const retry = h('button', { type: 'button', class: 'plain', 'data-does': 'retry', onclick: () => this.#actions.regenerate(message) }, t('retry'));
      return [h('div', { class: 'error', role: 'alert' }, h('p', {}, t(kind)), detail && h('p', { class: 'detail' }, detail), last && retry)];
    }
    if (message.state === 'stopped') return [h('p', { class: 'remark' }, t('stopped'))];
    if (message.finish === 'length') return [h('p', { class: 'remark' }, t('cutAtLimit'))];
    return [];
  }

  #edit(message) {
    const node = this.#nodes.get(message);
    const field = h('textarea', { 'aria-label': t('editMessage'), rows: '1' });
    field.value = message.content;
    const close = () => {
      form.replaceWith(node.bubble);
      node.tools.hidden = false;
      node.edit.focus();
    };
    const submit = (event) => {
      event.preventDefault();
      const text = field.value.trim();
      if (text) this.#actions.edit(message, text);
    };
    const follows = [...this.#nodes.keys()].indexOf(message) < this.#nodes.size - 2;
    const form = h('form', { class: 'editing', onsubmit: submit },
      field,
      follows && h('p', { class: 'remark' }, t('editHint')),
      h('div', { class: 'ends' },
        h('button', { type: 'button', class: 'plain', onclick: close }, t('cancel')),
        h('button', { type: 'submit', class: 'strong' }, t('send'))));
    field.addEventListener('keydown', (event) => {
      if (event.isComposing) return;
      if (event.key === 'Escape') {
        event.stopPropagation();
        close();
      } else if (event.key === 'Enter' && !event.shiftKey) {
        submit(event);
      }
    });
    node.bubble.replaceWith(form);
    node.tools.hidden = true;
    field.focus();
  }
}

function figuresOf({ figures }) {
  if (!figures) return '';
  return [
    t('tokens', { count: number(figures.tokens) }),
    figures.speed && t('perSecond', { speed: number(figures.speed, figures.speed < 10 ? 1 : 0) }),
    figures.first && t('firstAfter', { seconds: number(figures.first, figures.first < 1 ? 2 : 1) }),
  ].filter(Boolean).join(' · ');
}
