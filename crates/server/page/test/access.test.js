// The page for everyone: by keyboard, by screen reader, in both languages and colours, on small screens.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { readFile } from 'node:fs/promises';
import { ask, DESKTOP, eventually, lastReply, onPage, PHONE, say, settled, useBrowser } from './harness.js';

useBrowser();

const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** No rule of axe-core is broken, those of the best practices included. */
async function sound(page, where) {
  // What moves is judged where it ends: a half-open drawer has half its contrast.
  await page.evaluate(() => Promise.all(document.getAnimations().filter(({ effect }) => effect.getTiming().iterations === 1).map(({ finished }) => finished)));
  await page.evaluate(AXE);
  const violations = await page.evaluate(async () => (await window.axe.run()).violations.map(({ id, nodes }) =>
    `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('; ')}`));
  assert.deepEqual(violations, [], where);
}

for (const [name, options] of Object.entries({
  'phone, light': { device: PHONE },
  'phone, dark, Chinese': { device: PHONE, colorScheme: 'dark', locale: 'zh-CN' },
  'desktop, dark': { device: DESKTOP, colorScheme: 'dark' },
  'desktop, light, Chinese': { device: DESKTOP, locale: 'zh-TW' },
})) {
  test(`axe-core finds nothing: ${name}`, () => onPage(options, async (page, mock) => {
    await sound(page, 'empty');
    await ask(page, 'code please');
    await sound(page, 'an answer with code and table');
    await ask(page, 'think');
    await lastReply(page).locator('summary').click();
    await ask(page, 'busy');
    await sound(page, 'thoughts and an error');
    if (options.device === PHONE) await page.locator('#menu').click();
    await page.locator('#conversations [data-does=remove]').first().click();
    await page.locator('.notice').waitFor();
    await sound(page, 'drawer and notice');
    if (options.device === PHONE) await page.keyboard.press('Escape');
    await page.locator('#open-settings').click();
    await sound(page, 'settings');
    await page.keyboard.press('Escape');
    mock.key = 'right';
    await say(page, 'hello');
    await page.locator('#key').waitFor();
    await sound(page, 'key');
  }));
}

test('everything is reached and done by keyboard alone', () => onPage({}, async (page, mock) => {
  const focused = () => page.evaluate(() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent.trim());
  const tabTo = async (name, key = 'Tab') => {
    for (let presses = 0; presses < 60; presses += 1) {
      if ((await focused()).startsWith(name)) return;
      await page.keyboard.press(key);
    }
    assert.fail(`${name} is not reached; the focus is at ${await focused()}`);
  };
  assert.equal(await focused(), 'Your message', 'writing is possible at once');
  await page.keyboard.type('first line');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('second line');
  await page.keyboard.press('Enter');
  await settled(page);
  await eventually(() => mock.requests[0]?.messages[0].content === 'first line\nsecond line', 'not sent');
  await eventually(async () => (await lastReply(page).textContent()).includes('second line.'), 'no answer');
  assert.equal(await focused(), 'Your message', 'the focus stays for the next message');

  await tabTo('Edit', 'Shift+Tab');
  await page.keyboard.press('Enter');
  assert.equal(await focused(), 'Edit your message');
  await page.keyboard.press('Escape');
  assert.equal(await focused(), 'Edit', 'and back to where it was');

  await tabTo('Rename first line', 'Shift+Tab');
  await page.keyboard.press('Enter');
  await page.keyboard.type('By keyboard');
  await page.keyboard.press('Enter');
  await tabTo('Delete By keyboard');
  await page.keyboard.press('Enter');
  await page.locator('.notice').waitFor();
  await tabTo('Undo');
  await page.keyboard.press('Enter');
  await eventually(() => mock.conversations.size === 1, 'not brought back');

  await tabTo('Settings');
  await page.keyboard.press('Enter');
  await page.locator('#settings').waitFor();
  for (let presses = 0; presses < 20; presses += 1) {
    await page.keyboard.press('Tab');
    assert.ok(await page.evaluate(() => document.activeElement === document.body || Boolean(document.activeElement.closest('#settings'))), 'the focus left the dialog');
  }
  await page.keyboard.press('Escape');
  assert.equal(await focused(), 'Settings');

  await page.keyboard.press('/');
  assert.equal(await focused(), 'Your message');
  assert.equal(await page.locator('#message').inputValue(), '');
  await page.keyboard.press('Alt+n');
  await page.locator('#welcome').waitFor();
  await tabTo('Skip to your message', 'Shift+Tab');
  await page.keyboard.press('Enter');
  assert.equal(await focused(), 'Your message');
}));

test('the drawer of a phone keeps the focus, and gives it back', () => onPage({ device: PHONE }, async (page) => {
  assert.ok(await page.locator('#drawer').evaluate((drawer) => drawer.inert), 'closed, it is out of reach');
  await page.locator('#menu').press('Enter');
  assert.equal(await page.locator('#menu').getAttribute('aria-expanded'), 'true');
  assert.ok(await page.locator('#page').evaluate((page) => page.inert), 'what lies under it is out of reach');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'drawer-new');
  await page.keyboard.press('Escape');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'menu');
  await page.locator('#menu').click();
  await page.locator('#backdrop').click({ position: { x: 370, y: 400 } });
  await eventually(async () => (await page.locator('#menu').getAttribute('aria-expanded')) === 'false', 'a press beside it closes it');
}));

test('an answer is read out by sentences, not by tokens', () => onPage({}, async (page) => {
  await page.evaluate(() => {
    window.spoken = [];
    new MutationObserver((changes) => changes.forEach(({ addedNodes }) => addedNodes.forEach((node) => window.spoken.push(node.textContent))))
      .observe(document.getElementById('speech'), { childList: true });
  });
  assert.equal(await page.locator('#speech').getAttribute('aria-live'), 'polite');
  await ask(page, 'slow story');
  const spoken = await eventually(() => page.evaluate(() => window.spoken.at(-1) === 'Answer finished' && window.spoken), 'the end is not told');
  assert.ok(spoken.length <= 16, `${spoken.length} announcements for 15 sentences`);
  assert.ok(spoken.slice(0, -1).every((text) => text.endsWith('.')), spoken.join('\n'));
  assert.equal(spoken.slice(0, -1).join(' ').split(/\s+/).length, 150, 'every word once');
  await page.evaluate(() => (window.spoken = []));
  await ask(page, 'code please');
  const code = await eventually(() => page.evaluate(() => window.spoken.at(-1) === 'Answer finished' && window.spoken.join(' ')), 'the end is not told');
  assert.ok(!code.includes('let middle') && !code.includes('**'), 'code is named, not read out');
}));

test('the language is that of the browser, or the one chosen', () => onPage({ locale: 'zh-CN' }, async (page) => {
  assert.equal(await page.locator('html').getAttribute('lang'), 'zh-Hans');
  await page.getByText('想聊点什么？').waitFor();
  await ask(page, '二分查找');
  await lastReply(page).getByRole('button', { name: '重新回答' }).waitFor();
  await page.getByRole('button', { name: '设置' }).click();
  await page.getByRole('radio', { name: 'English' }).check();
  await page.getByRole('heading', { name: 'Settings' }).waitFor();
  await page.keyboard.press('Escape');
  await lastReply(page).getByRole('button', { name: 'Answer again' }).waitFor();
  await page.reload();
  await eventually(async () => (await page.locator('#message').getAttribute('placeholder')) === 'Write a message', 'the choice is forgotten');
}));

test('both languages have every text', () => onPage({}, async (page) => {
  const [en, zh] = await page.evaluate(async () => {
    const texts = await Promise.all(['/en.js', '/zh.js'].map((path) => import(path)));
    return texts.map(({ default: texts }) => Object.entries(texts).map(([name, text]) => `${name} ${typeof text}`));
  });
  assert.deepEqual(zh, en);
  const unknown = await page.evaluate(async () => {
    const { default: texts } = await import('/en.js');
    const named = [...document.querySelectorAll('*')].flatMap(({ dataset }) => [dataset.t, dataset.tLabel, dataset.tPlaceholder]);
    return named.filter((name) => name && !(name in texts));
  });
  assert.deepEqual(unknown, []);
}));

test('the colours are those of the device, or the ones chosen', () => onPage({ colorScheme: 'dark' }, async (page) => {
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await ground();
  await page.emulateMedia({ colorScheme: 'light' });
  await eventually(async () => (await ground()) !== dark, 'the device is not followed');
  await page.getByRole('button', { name: 'Settings' }).click();
  await page.getByRole('radio', { name: 'Dark' }).check();
  assert.equal(await ground(), dark);
  assert.equal(await page.locator('meta[name=theme-color]').getAttribute('content'), '#171714');
  await page.reload();
  assert.equal(await ground(), dark, 'the choice is forgotten');
}));

test('nothing moves for those who asked for that', () => onPage({ device: PHONE }, async (page) => {
  const moving = () => page.evaluate(() => document.getAnimations().length);
  await say(page, 'wait');
  await lastReply(page).locator('.dots').waitFor();
  assert.ok((await moving()) > 0);
  await page.emulateMedia({ reducedMotion: 'reduce' });
  assert.equal(await moving(), 0);
}));

test('what is pressed is large enough for a thumb', () => onPage({ device: PHONE }, async (page) => {
  await ask(page, 'code please');
  await page.locator('#menu').click();
  const small = () => page.evaluate(() => [...document.querySelectorAll('button, select, input, textarea, summary, #conversations a')]
    .filter((element) => element.checkVisibility({ visibilityProperty: true }) && element.id !== 'skip' && !element.closest('[inert]'))
    .map((element) => [element.type === 'radio' ? element.parentElement : element, element])
    .filter(([area]) => area.getBoundingClientRect().height < 40 || area.getBoundingClientRect().width < 40)
    .map(([, element]) => element.outerHTML.slice(0, 100)));
  assert.deepEqual(await small(), []);
  await page.keyboard.press('Escape');
  assert.deepEqual(await small(), []);
  await page.locator('#open-settings').click();
  assert.deepEqual(await small(), []);
}));

for (const width of [320, 390, 768, 1280]) {
  test(`nothing is wider than a screen of ${width}`, () => onPage({ device: { viewport: { width, height: 640 } } }, async (page) => {
    const wide = () => page.evaluate(() => {
      const scrolls = (element) => element && (/auto|scroll|hidden/.test(getComputedStyle(element).overflowX) || scrolls(element.parentElement));
      return [...document.querySelectorAll('body *')]
        .filter((element) => element.getBoundingClientRect().right > innerWidth + 1 && !scrolls(element.parentElement === document.body ? null : element.parentElement))
        .map((element) => element.outerHTML.slice(0, 100));
    });
    await ask(page, `code please ${'unbroken'.repeat(60)}`);
    await ask(page, 'hostile');
    await ask(page, '中文');
    assert.deepEqual(await wide(), []);
    const thread = await page.locator('#thread').evaluate(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth);
    assert.ok(thread <= 0, `the messages scroll sideways by ${thread}`);
    await page.locator('#open-settings').click();
    const settings = await page.locator('#settings').evaluate(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth);
    assert.ok(settings <= 0, `the settings scroll sideways by ${settings}`);
  }));
}

test('the Enter that ends a Chinese word does not send', () => onPage({}, async (page, mock) => {
  await page.locator('#message').focus();
  const client = await page.context().newCDPSession(page);
  await client.send('Input.imeSetComposition', { text: '你好', selectionStart: 2, selectionEnd: 2 });
  await page.locator('#message').evaluate((field) =>
    field.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true, cancelable: true })));
  assert.equal(await page.locator('#message').inputValue(), '你好');
  assert.equal(mock.requests.length, 0);
  await client.send('Input.insertText', { text: '你好' });
  await page.locator('#message').press('Enter');
  await eventually(() => mock.requests[0]?.messages[0].content === '你好', 'not sent');
}));
