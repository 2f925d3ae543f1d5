// Copies text and says so on the button that was pressed.

import { icon } from './dom.js';
import { t } from './i18n.js';
import { say } from './notices.js';

/** Without HTTPS and away from localhost browsers have no `navigator.clipboard`: then a selection is copied. */
async function write(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement('textarea');
  area.value = text;
  area.className = 'unseen';
  const focused = document.activeElement;
  (document.querySelector('dialog[open]') ?? document.body).append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  focused?.focus();
  if (!done) throw new Error('copy refused');
}

export async function copy(text, button) {
  try {
    await write(text);
  } catch {
    say(t('copyFailed'));
    return;
  }
  say(t('copied'));
  const glyph = button.querySelector('svg');
  const check = icon('check');
  glyph.replaceWith(check);
  setTimeout(() => check.replaceWith(glyph), 1500);
}
