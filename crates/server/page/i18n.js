// The page's language: English and Chinese, by the browser's wish or by the reader's choice.

import en from './en.js';
import zh from './zh.js';

const LANGUAGES = { en, zh };
let current = 'en';

/** The first language of the browser that the page knows. */
const wished = () =>
  (navigator.languages ?? [navigator.language]).map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => tag in LANGUAGES) ?? 'en';

/** Speaks `en` or `zh`, or with `system` what the browser wishes, and words the elements of the page that name a text. */
export function speak(choice) {
  current = choice in LANGUAGES ? choice : wished();
  document.documentElement.lang = current === 'zh' ? 'zh-Hans' : 'en';
  for (const element of document.querySelectorAll('[data-t]')) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll('[data-t-placeholder]')) element.placeholder = t(element.dataset.tPlaceholder);
  for (const element of document.querySelectorAll('[data-t-label]')) {
    element.setAttribute('aria-label', t(element.dataset.tLabel));
    if (element.tagName === 'BUTTON') element.title = t(element.dataset.tLabel);
  }
}

/** The text of this name, in the language now spoken. */
export function t(name, values) {
  const text = LANGUAGES[current][name];
  return typeof text === 'function' ? text(values) : text;
}

/** A number as the language writes it. */
export const number = (value, digits = 0) =>
  new Intl.NumberFormat(document.documentElement.lang, { maximumFractionDigits: digits }).format(value);

/** Bytes in GB or MB of powers of ten, as phones state their memory. */
export const bytes = (value) => (value >= 1e9 ? `${number(value / 1e9, 1)} GB` : `${number(value / 1e6)} MB`);

/** A time (seconds since 1970) as a day, or as an hour if it is of today. */
export function day(seconds) {
  const date = new Date(seconds * 1000);
  const form = date.toDateString() === new Date().toDateString()
    ? { hour: '2-digit', minute: '2-digit' }
    : { day: 'numeric', month: 'short' };
  return new Intl.DateTimeFormat(document.documentElement.lang, form).format(date);
}
