// The drawer with the conversations: beside the messages on a wide screen, over them on a phone.

import { $, h, iconButton } from './dom.js';
import { day, t } from './i18n.js';

const wide = matchMedia('(min-width: 56rem)');

export class Drawer {
  #actions;
  #open = wide.matches;

  /** `actions`: {create(), choose(id), rename(id, title), remove(id)} */
  constructor(actions) {
    this.#actions = actions;
    $('menu').addEventListener('click', () => this.#toggle(!this.#open));
    $('backdrop').addEventListener('click', () => this.close());
    for (const id of ['new', 'drawer-new']) {
      $(id).addEventListener('click', () => {
        this.#leave();
        actions.create();
      });
    }
    wide.addEventListener('change', () => this.#toggle(wide.matches, { focus: false }));
    this.#toggle(this.#open, { focus: false });
  }

  /** Closes it where it lies over the messages. True if it did. */
  close() {
    if (wide.matches || !this.#open) return false;
    this.#toggle(false);
    return true;
  }

  /** Closes it for something else that takes the focus. */
  #leave() {
    if (!wide.matches) this.#toggle(false, { focus: false });
  }

  #toggle(open, { focus = true } = {}) {
    this.#open = open;
    document.body.classList.toggle('drawer-open', open);
    $('drawer').inert = !open;
    $('page').inert = open && !wide.matches;
    $('menu').setAttribute('aria-expanded', String(open));
    if (focus) (open ? $('drawer-new') : $('menu')).focus();
  }

  /** Shows the list; `current` is the id on the screen, `running(id)` tells which are being answered. */
  show(list, current, running) {
    const focused = document.activeElement?.closest('#conversations li')?.dataset.id;
    if (focused && document.activeElement.tagName === 'INPUT') return; // being renamed: the list waits
    const does = document.activeElement?.dataset.does;
    const rows = list.map((entry) => this.#row(entry, entry.id === current, running(entry.id)));
    $('conversations').replaceChildren(...(rows.length > 0 ? rows : [h('li', { class: 'none' }, t('none'))]));
    if (focused) this.#find(focused)?.querySelector(`[data-does="${does}"]`)?.focus();
  }

  #find(id) {
    return [...$('conversations').children].find((row) => row.dataset.id === id);
  }

  #row({ id, title, updated }, current, running) {
    const name = title || t('untitled');
    const link = h('a', {
      href: `#${id}`,
      'data-does': 'choose',
      'aria-current': current ? 'page' : null,
      onclick: (event) => {
        event.preventDefault();
        this.#leave();
        this.#actions.choose(id);
      },
    }, h('span', { class: 'title' }, name), h('span', { class: 'when' }, running ? h('span', { class: 'pulse' }, t('beingWritten')) : day(updated)));
    return h('li', { 'data-id': id },
      link,
      h('span', { class: 'does' },
        iconButton('edit', t('rename', { title: name }), () => this.#rename(id, title), { 'data-does': 'rename' }),
        iconButton('trash', t('delete', { title: name }), () => this.#remove(id), { 'data-does': 'remove' })));
  }

  async #remove(id) {
    const row = this.#find(id);
    const next = (row.nextElementSibling ?? row.previousElementSibling)?.dataset.id;
    if (!(await this.#actions.remove(id))) return;
    (this.#find(next)?.querySelector('a') ?? $('drawer-new')).focus();
  }

  #rename(id, title) {
    const row = this.#find(id);
    const field = h('input', { type: 'text', maxlength: '200', 'aria-label': t('newTitle') });
    field.value = title;
    let over = false;
    const end = (keep) => {
      if (over) return;
      over = true;
      const text = field.value.trim();
      field.blur();
      this.#actions.rename(id, keep && text ? text : title);
      this.#find(id)?.querySelector('[data-does=rename]')?.focus();
    };
    field.addEventListener('keydown', (event) => {
      if (event.isComposing) return;
      if (event.key === 'Enter') end(true);
      if (event.key === 'Escape') {
        event.stopPropagation();
        end(false);
      }
    });
    field.addEventListener('blur', () => end(true));
    row.replaceChildren(field);
    field.select();
  }
}
