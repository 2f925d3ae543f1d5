// Puts the page together: which conversation is on the screen, and what each action does to it.

import * as api from './api.js';
import { Answers, kindOf } from './answers.js';
import { Composer } from './composer.js';
import { catchUp, create, cutFrom, expect, say, touch, unfinished } from './conversation.js';
import { $, drawIcons, h } from './dom.js';
import { Drawer } from './drawer.js';
import { Figures } from './figures.js';
import { speak, t } from './i18n.js';
import { Messages } from './messages.js';
import { Reader, notify, withdraw } from './notices.js';
import { paint, prefer, preferences } from './preferences.js';
import { askForKey, Settings } from './settings.js';
import { Store } from './store.js';

const fine = matchMedia('(pointer: fine)');
const store = new Store();
const answers = new Answers(store);
const reader = new Reader();
let models = [];
let current = fresh();
let revision = null; // the server's, of all conversations
let choosing = 0; // counts choices, so that a slow one does not undo a later one

drawIcons();
speak(preferences.language);
paint();
api.onKeyNeeded(askForKey);

const messages = new Messages({ edit, regenerate });
const drawer = new Drawer({ create: begin, choose, rename, remove });
const composer = new Composer({ send, stop: () => answers.stop(current.id), editLast: () => messages.editLast() });
const settings = new Settings({ read: () => current.settings, changed: configure, appearance });
const figures = new Figures(() => answers.phase(current.id) !== null, lookedAt);

function fresh() {
  const model = models.includes(preferences.model) ? preferences.model : models[0] ?? 'default';
  return create(model, preferences.settings);
}

/** Shows the state of everything; `anew` also words again what is already there. */
function show({ anew = false } = {}) {
  const phase = answers.phase(current.id);
  messages.show(current, phase, figures.queued, { anew });
  composer.running = phase !== null;
  showList();
  showModels();
}

function showList() {
  drawer.show(store.list, current.id, (id) => answers.phase(id) !== null);
  document.title = current.title ? `${current.title} · Pouch` : 'Pouch';
  $('title').textContent = current.title || 'Pouch';
}

function showModels() {
  const names = models.includes(current.model) ? models : [...models, current.model];
  $('model').replaceChildren(...names.map((name) => h('option', { value: name }, name)));
  $('model').value = current.model;
}

/** Puts this conversation on the screen and follows its answer if one was left unfinished. */
function enter(conversation, { address = 'push' } = {}) {
  choosing += 1;
  const left = current;
  current = conversation;
  if (left.id !== current.id && !answers.phase(left.id)) store.close(left.id);
  store.watched = current.id;
  watch();
  withdraw('elsewhere');
  const hash = current.messages.length > 0 ? `#${current.id}` : location.pathname;
  if (address === 'push') history.pushState(null, '', hash);
  if (address === 'replace') history.replaceState(null, '', hash);
  if (unfinished(current) && !answers.phase(current.id)) answers.resume(current);
  show();
  messages.toLatest();
  if (fine.matches) $('message').focus(); // on a phone this would bring up the keyboard
}

/** The answer on the screen is looked at while the page is seen. */
function watch() {
  answers.watch(document.hidden ? null : current.id);
}

function begin() {
  if (current.messages.length > 0) enter(fresh());
  $('message').focus();
}

async function choose(id, options) {
  const mine = (choosing += 1);
  try {
    const conversation = id === current.id ? current : await store.open(id);
    if (mine === choosing) enter(conversation, options);
  } catch (error) {
    notify('open', error.status === 404 ? t('errorGone') : told(error), { alert: true, action: { label: t('retry'), run: () => retried(() => choose(id, options)) } });
  }
}

function retried(run) {
  api.mayAskForKey();
  return run();
}

/** What went wrong, plainly, and the server's own words behind it. */
function told(error) {
  return `${t(kindOf(error))} ${error.message}`.trim();
}

async function rename(id, title) {
  const listed = store.list.find((entry) => entry.id === id);
  if (listed && title !== listed.title) {
    await store.rename(id, title).catch((error) => notify('rename', told(error), { alert: true }));
    if (id !== current.id && !answers.phase(id)) store.close(id);
  }
  show();
}

async function remove(id) {
  await answers.stop(id);
  let removed;
  try {
    removed = await store.remove(id);
  } catch (error) {
    notify('remove', told(error), { alert: true });
    return false;
  }
  if (id === current.id) enter(fresh(), { address: 'replace' });
  else showList();
  const undo = async () => {
    await store.restore(removed);
    enter(removed);
  };
  notify('removed', t('deleted', { title: removed.title || t('untitled') }), { action: { label: t('undo'), run: undo } });
  return true;
}

function send(text) {
  if (answers.phase(current.id)) return;
  say(current, text);
  ask();
}

async function edit(message, text) {
  const conversation = current;
  await answers.stop(conversation.id);
  cutFrom(conversation, message);
  say(conversation, text);
  ask();
}

function regenerate(message) {
  cutFrom(current, message);
  expect(current);
  ask();
}

/** Asks for the answer to come at the end of the conversation on the screen. */
function ask() {
  api.mayAskForKey();
  withdraw('elsewhere');
  store.adopt(current);
  store.watched = current.id;
  history.replaceState(null, '', `#${current.id}`);
  answers.ask(current);
  show();
  messages.toLatest();
  $('message').focus();
  figures.look();
}

function configure(changes) {
  current.settings = changes;
  const { seed, system, ...lasting } = changes; // those two belong to one conversation
  prefer({ settings: lasting });
  keep();
}

function keep() {
  if (current.messages.length === 0) return;
  touch(current);
  store.save(current);
}

function appearance(change) {
  prefer(change);
  paint();
  if (!change.language) return;
  speak(preferences.language);
  settings.show();
  figures.show();
  show({ anew: true });
}

function lookedAt(status) {
  if (status && models.length === 0) load();
  if (status && status.conversations !== revision) {
    if (revision !== null) store.refresh().catch(() => {}); // the next change comes, or the next look at the page
    revision = status.conversations;
  }
  if (answers.phase(current.id)) messages.changed(current, () => answers.phase(current.id), () => figures.queued);
}

/** Reads the models and the list; tried again when the server is seen to live. */
async function load() {
  try {
    models = await api.models();
    await store.refresh();
    withdraw('load');
  } catch (error) {
    notify('load', told(error), { alert: true, stays: true, action: { label: t('retry'), run: () => retried(load) } });
  }
  if (current.messages.length === 0 && models.length > 0) current.model = fresh().model;
  show();
}

$('model').addEventListener('change', ({ target }) => {
  current.model = target.value;
  prefer({ model: target.value });
  keep();
});

answers.addEventListener('change', ({ detail }) => {
  if (detail !== current) return;
  messages.changed(current, () => answers.phase(current.id), () => figures.queued);
  reader.follow(detail.messages.at(-1), false);
});
answers.addEventListener('end', ({ detail }) => {
  if (detail !== current) return showList();
  show();
  if (detail.messages.at(-1).state === 'done') reader.follow(detail.messages.at(-1), true);
  figures.look();
});

store.addEventListener('list', showList);
store.addEventListener('merged', ({ detail }) => detail === current && show());
store.addEventListener('trouble', ({ detail }) =>
  notify('save', detail.status === 0 ? t('notSaved') : told(detail), { alert: true, stays: true }));
store.addEventListener('relief', () => notify('save', t('savedAgain')));
store.addEventListener('elsewhere', ({ detail: { id, document } }) => {
  if (id !== current.id || answers.phase(id)) return;
  if (!document) return notify('elsewhere', t('deletedElsewhere'), { stays: true });
  if (catchUp(current, document)) {
    withdraw('elsewhere');
    if (unfinished(current)) answers.resume(current);
    return show();
  }
  const run = () => {
    store.adopt(document);
    enter(document, { address: 'replace' });
  };
  notify('elsewhere', t('changedElsewhere'), { stays: true, action: { label: t('reload'), run } });
});

document.addEventListener('keydown', (event) => {
  if (event.defaultPrevented || document.querySelector('dialog[open]')) return;
  const writing = event.target.closest('input, textarea, select');
  if (event.key === 'Escape' && !event.isComposing) {
    if (!drawer.close()) answers.stop(current.id);
  } else if (event.key === '/' && !writing) {
    event.preventDefault();
    $('message').focus();
  } else if (event.altKey && event.code === 'KeyN') {
    event.preventDefault();
    begin();
  }
});

const addressed = () => location.hash.slice(1);
addEventListener('popstate', () => (addressed() ? choose(addressed(), { address: 'keep' }) : enter(fresh(), { address: 'keep' })));
addEventListener('pagehide', () => store.flush());
document.addEventListener('visibilitychange', () => {
  watch();
  if (!document.hidden) store.refresh().catch(() => {});
});

// The on-screen keyboard of iOS covers the page instead of shrinking it.
window.visualViewport?.addEventListener('resize', () => {
  const { height, scale } = window.visualViewport;
  document.documentElement.style.setProperty('--height', `${height * scale}px`);
});

enter(current, { address: 'keep' });
await load();
if (addressed()) await choose(addressed(), { address: 'keep' });
