// What all tests share: one browser, a page in a context of its own for each test, and the ways a reader takes.

import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import { Mock } from './mock.js';

export const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };
export const DESKTOP = { viewport: { width: 1280, height: 800 } };

let browser;

/** Call once in a test file: the browser lives as long as the file's tests. */
export function useBrowser() {
  before(async () => {
    browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
  });
  after(() => browser.close());
}

/** Runs `work(page, mock, context)` on a fresh page against a fresh mock server; any error or violated policy in the page fails it. */
export async function onPage(options, work) {
  const mock = await Mock.start();
  Object.assign(mock, options.mock);
  try {
    await onServer(mock.url, options, (page, context) => work(page, mock, context));
  } finally {
    await mock.stop();
  }
}

/** The same on a server that runs already; `key` is its API key, if it wants one. */
export async function onServer(url, { device = DESKTOP, locale = 'en-GB', colorScheme = 'light', hash = '', key }, work) {
  const context = await browser.newContext({ ...device, locale, colorScheme, permissions: ['clipboard-read', 'clipboard-write'] });
  context.setDefaultTimeout(30_000);
  const troubles = [];
  context.on('weberror', (error) => troubles.push(String(error.error())));
  context.on('console', (message) => {
    // Refused requests are part of some tests; the browser logs them as errors of "network".
    if (message.type() === 'error' && !/Failed to load resource|net::ERR/.test(message.text())) troubles.push(message.text());
  });
  if (key) await context.addInitScript((key) => location.protocol.startsWith('http') && sessionStorage.setItem('pouch.key', key), key); // not on the blank page before
  try {
    const page = await context.newPage();
    await page.goto(`${url}/${hash}`);
    await page.locator('#model option').first().waitFor({ state: 'attached' });
    await work(page, context);
    assert.deepEqual(troubles, [], 'the page had errors');
  } finally {
    await context.close();
  }
}

export const say = async (page, text) => {
  await page.locator('#message').fill(text);
  await page.locator('#message').press('Enter');
};

/** Waits until no answer is on its way. */
export const settled = (page) => page.locator('#stop').waitFor({ state: 'hidden' });

/** Says something and waits for the whole answer. */
export const ask = async (page, text) => {
  const before = await page.locator('.reply').count();
  await say(page, text);
  await page.locator('.reply').nth(before).waitFor();
  await settled(page);
};

export const lastReply = (page) => page.locator('.reply').last();

/** Waits until `check` returns something true; it may throw until then. */
export async function eventually(check, what) {
  let last;
  for (const end = Date.now() + 20_000; Date.now() < end; ) {
    try {
      last = await check();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`${what}: ${last instanceof Error ? last.message : JSON.stringify(last)}`);
}
