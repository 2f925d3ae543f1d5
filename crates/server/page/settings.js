// The dialogs: settings of the conversation and of the page, and the API key.

import * as api from './api.js';
import { $, h } from './dom.js';
import { t } from './i18n.js';
import { preferences } from './preferences.js';

const NUMBERS = ['temperature', 'top_p', 'max_tokens', 'seed'];
const SLIDERS = { temperature: 1, top_p: 1 }; // where the slider stands while nothing is set

const KEYS = [['Enter', 'keySend'], ['Shift Enter', 'keyLine'], ['Esc', 'keyStop'], ['↑', 'keyEditLast'], ['/', 'keyFocus'], ['Alt N', 'keyNew']];

export class Settings {
  #read;
  #changed;

  /** `read()` gives the settings shown, `changed(settings)` takes new ones, `appearance({theme} or {language})` what the page wears. */
  constructor({ read, changed, appearance }) {
    this.#read = read;
    this.#changed = changed;
    $('open-settings').addEventListener('click', () => this.open());
    $('sampling').addEventListener('input', ({ target }) => this.#input(target));
    $('reset').addEventListener('click', () => {
      this.#changed({});
      this.show();
    });
    for (const name of ['theme', 'language']) {
      $(name).addEventListener('change', ({ target }) => appearance({ [name]: target.value }));
    }
    $('forget').addEventListener('click', () => {
      api.forgetKey();
      $('access').hidden = true;
    });
    closeOutside($('settings'));
  }

  open() {
    this.show();
    $('settings').showModal();
  }

  show() {
    const settings = this.#read();
    $('system').value = settings.system ?? '';
    for (const name of NUMBERS) $(name).value = settings[name] ?? '';
    for (const name of Object.keys(SLIDERS)) this.#slide(name, settings[name]);
    for (const name of ['theme', 'language']) $(name).querySelector(`[value=${preferences[name]}]`).checked = true;
    $('access').hidden = !api.hasKey();
    $('shortcuts').replaceChildren(...KEYS.flatMap(([keys, does]) =>
      [h('dt', {}, ...keys.split(' ').map((key) => h('kbd', {}, key))), h('dd', {}, t(does))]));
  }

  #slide(name, value) {
    const slider = $(`${name}-range`);
    slider.value = value ?? SLIDERS[name];
    slider.classList.toggle('unset', value === undefined);
  }

  #input(target) {
    if (target.type === 'range') {
      const name = target.id.replace('-range', '');
      $(name).value = target.value;
      target.classList.remove('unset');
    }
    const settings = {};
    const system = $('system').value.trim();
    if (system) settings.system = system;
    for (const name of NUMBERS) {
      const field = $(name);
      if (field.value !== '' && field.checkValidity()) settings[name] = Number(field.value);
      if (name in SLIDERS && target === field) this.#slide(name, settings[name]);
    }
    this.#changed(settings);
  }
}

/** Asks for the API key: the key, or null if the reader declines. */
export function askForKey(wrong) {
  const dialog = $('key');
  $('key-wrong').hidden = !wrong;
  $('key-value').value = '';
  dialog.returnValue = '';
  $('key-cancel').onclick = () => dialog.close('');
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'use' ? $('key-value').value.trim() : null), { once: true }));
}

/** A press beside a dialog closes it. */
function closeOutside(dialog) {
  dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
}
