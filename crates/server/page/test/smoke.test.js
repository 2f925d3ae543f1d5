// What holds for any server, with whatever model: against POUCH_URL if it is set, else against the mock. Nothing here depends on what
// the model says. It deletes the conversations that it makes.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { ask, DESKTOP, eventually, lastReply, onServer, PHONE, say, settled, useBrowser } from './harness.js';
import { Mock } from './mock.js';

useBrowser();

const key = process.env.POUCH_API_KEY;
const LONG = 600_000; // ms; a slow machine with a large model may take its time

async function onAnyServer(device, work) {
  const mock = process.env.POUCH_URL ? null : await Mock.start();
  try {
    await onServer(process.env.POUCH_URL?.replace(/\/$/, '') ?? mock.url, { device, key }, work);
  } finally {
    await mock?.stop();
  }
}

const shorten = async (page, tokens) => {
  await page.locator('#open-settings').click();
  await page.locator('#max_tokens').fill(String(tokens));
  await page.locator('#seed').fill('1');
  await page.keyboard.press('Escape');
};
const words = (page) => lastReply(page).locator('.prose').last().textContent();
const remove = async (page, title) => {
  await page.locator('#conversations li', { hasText: title }).locator('[data-does=remove]').click();
  await page.locator('.notice[data-name=removed]').waitFor();
};

test('the page arrives whole, under a strict policy, and talks to its own server only', () => onAnyServer(DESKTOP, async (page) => {
  const own = new URL(page.url()).origin;
  const seen = [];
  page.on('response', (response) => seen.push(response));
  const answer = await page.reload();
  await page.locator('#model option').first().waitFor({ state: 'attached' });
  const { 'content-security-policy': policy, 'content-type': type, 'x-content-type-options': sniff } = answer.headers();
  for (const directive of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self' data:", "manifest-src 'self'"]) {
    assert.ok(policy.includes(directive), `${directive} is not in ${policy}`);
  }
  assert.doesNotMatch(policy, /unsafe|https?:/);
  assert.match(type, /text\/html/);
  assert.equal(sniff, 'nosniff');
  for (const response of seen) {
    assert.equal(new URL(response.url()).origin, own);
    assert.ok(response.status() < 400, `${response.status()} ${response.url()}`);
  }
  for (const [path, wanted] of [['manifest.webmanifest', /manifest\+json/], ['icon.svg', /svg\+xml/], ['app.js', /javascript/], ['style.css', /css/]]) {
    const response = await page.request.get(`${own}/${path}`);
    assert.equal(response.status(), 200, path);
    assert.match(response.headers()['content-type'], wanted);
  }
}));

test('a talk of two turns, kept over a reload', { timeout: LONG }, () => onAnyServer(PHONE, async (page) => {
  await shorten(page, 24);
  await ask(page, 'Smoke: name a colour.');
  assert.ok((await words(page)).length > 0);
  assert.match(await lastReply(page).locator('.figures').textContent(), /\d+ tokens/);
  await ask(page, 'Smoke: and another one.');
  const shown = await page.locator('#messages').innerText();
  await page.reload();
  await eventually(async () => (await page.locator('#messages').innerText()) === shown, 'the conversation is not the same after a reload');
  await page.locator('#menu').click();
  await page.locator('#figures dd').first().waitFor();
  await remove(page, 'Smoke: name a colour.');
  await page.reload();
  await page.locator('#model option').first().waitFor({ state: 'attached' });
  assert.equal(await page.locator('#conversations', { hasText: 'Smoke: name a colour.' }).count(), 0);
}));

test('an answer is stopped, asked for again and edited', { timeout: LONG }, () => onAnyServer(DESKTOP, async (page) => {
  await shorten(page, 400);
  await say(page, 'slow, please: tell a very long story about the sea. Smoke.');
  await eventually(async () => (await words(page)).length > 5, 'no words');
  await page.keyboard.press('Escape');
  await settled(page);
  await lastReply(page).getByText('Stopped').waitFor();
  const stopped = await words(page);
  assert.ok(stopped.length > 5);
  await shorten(page, 16);
  await page.locator('.question').last().hover();
  await page.getByRole('button', { name: 'Edit' }).click();
  await page.locator('.editing textarea').fill('Smoke, edited: say hello.');
  await page.keyboard.press('Enter');
  await eventually(async () => (await page.locator('.bubble').allTextContents()).join() === 'Smoke, edited: say hello.', 'not edited');
  await settled(page);
  await eventually(async () => (await words(page)).length > 0, 'no answer');
  await lastReply(page).getByRole('button', { name: 'Answer again' }).click();
  await eventually(async () => (await page.locator('#stop').isHidden()) && (await words(page)).length > 0, 'no second answer');
  assert.equal(await page.locator('.error').count(), 0);
  await remove(page, 'slow, please');
}));

test('an answer outlives the page that asked for it', { timeout: LONG }, () => onAnyServer(DESKTOP, async (page) => {
  await shorten(page, 150);
  await say(page, 'slow, please: count from one to fifty in words. Smoke.');
  await eventually(async () => (await words(page)).length > 5, 'no words');
  const before = await words(page);
  await page.waitForURL(/#./);
  await page.reload();
  await eventually(async () => (await words(page)).length >= before.length, 'what was written is lost');
  await page.locator('#stop').waitFor({ state: 'hidden', timeout: LONG });
  assert.equal(await page.locator('.error').count(), 0, 'it was not found again');
  assert.ok((await words(page)).startsWith(before.slice(0, 5)));
  await remove(page, 'slow, please');
}));
