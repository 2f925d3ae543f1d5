// What this browser remembers of its reader: colours, language, and what new conversations begin with.

const KEY = 'pouch.preferences';
const INITIAL = { theme: 'system', language: 'system', model: null, settings: {} };

/** Browsers that refuse storage (private windows) get a page that forgets, not one that fails. */
function read() {
  try {
    return { ...INITIAL, ...JSON.parse(localStorage.getItem(KEY)) };
  } catch {
    return { ...INITIAL };
  }
}

export const preferences = read();

/** Changes some of them and keeps all. */
export function prefer(changes) {
  Object.assign(preferences, changes);
  try {
    localStorage.setItem(KEY, JSON.stringify(preferences));
  } catch {
    // Forgotten with the tab.
  }
}

const dark = matchMedia('(prefers-color-scheme: dark)');

/** Colours the page as chosen, and the browser's own bars with it. */
export function paint() {
  const root = document.documentElement;
  const now = preferences.theme === 'system' ? (dark.matches ? 'dark' : 'light') : preferences.theme;
  root.dataset.theme = now;
  document.querySelector('meta[name=theme-color]').content = getComputedStyle(root).getPropertyValue('--ground').trim();
}
dark.addEventListener('change', paint);
