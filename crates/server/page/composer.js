// Where the reader writes.

import { $ } from './dom.js';

const DRAFT = 'pouch.draft';

export class Composer {
  /** `actions`: {send(text), stop(), editLast()} */
  constructor(actions) {
    const field = $('message');
    const send = () => {
      const text = field.value.trim();
      if (!text || !$('stop').hidden) return;
      this.text = '';
      actions.send(text);
    };
    field.value = sessionStorage.getItem(DRAFT) ?? ''; // phones throw tabs away and load them again
    field.addEventListener('input', () => this.#fit());
    field.addEventListener('keydown', (event) => {
      // The Enter that ends the input of a Chinese word is not meant for us.
      if (event.isComposing) return;
      if (event.key === 'Enter' && !event.shiftKey) {
        event.preventDefault();
        send();
      } else if (event.key === 'ArrowUp' && field.value === '') {
        event.preventDefault();
        actions.editLast();
      }
    });
    $('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      send();
      field.focus();
    });
    $('stop').addEventListener('click', () => {
      actions.stop();
      field.focus();
    });
    $('skip').addEventListener('click', () => field.focus());
    this.#fit();
  }

  set text(text) {
    $('message').value = text;
    this.#fit();
  }

  /** Offers to stop while an answer is on its way, else to send. */
  set running(running) {
    const focused = document.activeElement === $('send') || document.activeElement === $('stop');
    $('send').hidden = running;
    $('stop').hidden = !running;
    if (focused) $('message').focus();
  }

  /** As high as its text, up to what the style allows. */
  #fit() {
    const field = $('message');
    field.style.height = 'auto';
    field.style.height = `${field.scrollHeight}px`;
    $('send').disabled = field.value.trim() === '';
    sessionStorage.setItem(DRAFT, field.value);
  }
}
