// What models and titles say stays text; the page runs under a strict policy and talks to its own server only; the API key.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { ask, eventually, lastReply, onPage, say, useBrowser } from './harness.js';

useBrowser();

test('hostile text of a model, a title and a reader stays text', () => {
  const hostile = '<img src=x onerror="window.hurt=20"><script>window.hurt=21</script>';
  const conversations = new Map([['x"><script>window.hurt=22</script>', {
    id: 'x"><script>window.hurt=22</script>', title: hostile, model: hostile, settings: { system: hostile }, updated: 1_790_000_000,
    messages: [{ role: 'user', content: hostile }, { role: 'assistant', content: hostile, state: 'failed', error: { kind: 'errorServer', detail: hostile } }],
  }]]);
  return onPage({ mock: { conversations } }, async (page) => {
    await page.locator('#conversations a').click();
    await page.locator('.reply').first().waitFor();
    await say(page, `hostile ${hostile}`);
    await eventually(async () => (await lastReply(page).textContent()).includes('done.'), 'no answer');
    assert.equal(await page.evaluate(() => window.hurt), undefined);
    assert.ok((await lastReply(page).textContent()).includes('<script>window.hurt = 1</script>'), 'shown as it is');
    assert.equal(await page.locator('.question').last().locator('.bubble').textContent(), `hostile ${hostile}`);
    const found = await page.evaluate(() => ({
      elements: [...document.querySelectorAll('#messages *, #conversations *, #notices *')].filter((element) =>
        ['SCRIPT', 'IMG', 'IFRAME', 'STYLE', 'OBJECT', 'EMBED', 'FORM', 'LINK', 'BASE'].includes(element.tagName)).length,
      handlers: [...document.querySelectorAll('*')].flatMap((element) => element.getAttributeNames()).filter((name) => /^on|^style$|^srcdoc$/.test(name)),
      links: [...document.querySelectorAll('#messages a')].map(({ href, rel, target }) => ({ href, rel, target })),
    }));
    assert.equal(found.elements, 0);
    assert.deepEqual(found.handlers.filter((name) => name !== 'style'), []); // the height of the text field is a style
    assert.deepEqual(found.links.map(({ href }) => href), [
      'http://127.0.0.1:1/pixel.png', 'https://example.org/a?b=c&d=e', 'mailto:me@example.org', 'https://example.com/x_y_z',
    ]);
    assert.ok(found.links.every(({ rel, target }) => /noopener/.test(rel) && target === '_blank'));
  });
});

test('the page fetches from its own server only, under a policy without exceptions', () => onPage({}, async (page, mock) => {
  const elsewhere = [];
  page.on('request', (request) => { if (!request.url().startsWith(mock.url)) elsewhere.push(request.url()); });
  const answer = await page.reload();
  await ask(page, 'hostile');
  assert.deepEqual(elsewhere, []);
  const policy = answer.headers()['content-security-policy'];
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe/);
  const html = await answer.text();
  assert.doesNotMatch(html, /\son\w+=|\sstyle=|<style|<script>|https?:\/\//);
}));

test('a refused key is asked for, kept for the tab, and not sent anywhere else', () => onPage({}, async (page, mock) => {
  // It is the question that is refused: a look at the figures just before would ask for the key while the question is being typed.
  const figures = '**/pouch/v1/status';
  await page.route(figures, () => {});
  mock.key = 'right';
  await say(page, 'hello');
  const dialog = page.getByRole('dialog', { name: 'API key needed' });
  await dialog.waitFor();
  await dialog.getByLabel('API key').fill('wrong');
  await dialog.getByRole('button', { name: 'Use this key' }).click();
  await dialog.getByText('The server did not accept this key.').waitFor();
  await dialog.getByLabel('API key').fill('right');
  await dialog.getByLabel('API key').press('Enter');
  await eventually(async () => (await lastReply(page).textContent()).includes('You said: hello.'), 'no answer');
  assert.equal(await page.evaluate(() => JSON.stringify({ ...localStorage }).includes('right')), false);
  await page.unroute(figures);
  await page.reload();
  await eventually(async () => (await page.locator('.reply').count()) === 1, 'the key is forgotten');
  await page.getByRole('button', { name: 'Settings' }).click();
  await page.getByRole('button', { name: 'Forget the key' }).click();
  await page.keyboard.press('Escape');
  await dialog.waitFor(); // the next look at the figures asks
}));

test('who declines to give a key is told why nothing comes, and may try again', () => onPage({}, async (page, mock) => {
  mock.key = 'right';
  await page.reload();
  const dialog = page.getByRole('dialog', { name: 'API key needed' });
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  const notice = page.locator('.notice', { hasText: 'The server asks for an API key.' });
  await notice.waitFor();
  assert.equal(await dialog.isVisible(), false);
  await notice.getByRole('button', { name: 'Try again' }).click();
  await dialog.getByLabel('API key').fill('right');
  await dialog.getByLabel('API key').press('Enter');
  await eventually(async () => (await page.locator('#model option').count()) === 2, 'the models are not read');
  await ask(page, 'hello');
}));
