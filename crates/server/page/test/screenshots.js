// node screenshots.js FOLDER: the page in its states, to be looked at. Also tells what is wider than the screen.

import { mkdir } from 'node:fs/promises';
import { chromium } from 'playwright-core';
import { DESKTOP, PHONE, say, settled } from './harness.js';
import { Mock } from './mock.js';

const folder = process.argv[2] ?? 'screenshots';
await mkdir(folder, { recursive: true });
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });

const talk = async (page, ...texts) => {
  for (const text of texts) {
    await say(page, text);
    await page.waitForTimeout(100);
    await settled(page);
  }
};
const titles = ['Why is the sky blue?', 'A letter to the landlord about the broken heating in the hallway', 'Packing list for Lofoten', '二分查找是怎么工作的？'];

/** Each: what is done before the picture. */
const STATES = {
  empty: async () => {},
  code: (page) => talk(page, 'How are you?', 'code: explain binary search with code and a table, please.'),
  top: async (page) => {
    await talk(page, 'code: explain binary search');
    await page.locator('#thread').evaluate((thread) => (thread.scrollTop = 0));
  },
  writing: async (page) => {
    await talk(page, 'A first question, quickly');
    await say(page, 'slow: tell me a longer story');
    await page.waitForTimeout(1500);
  },
  waiting: async (page) => {
    await say(page, 'wait for it');
    await page.waitForTimeout(400);
  },
  error: (page) => talk(page, 'hello', 'busy?'),
  editing: async (page) => {
    await talk(page, 'A first question', 'A second question');
    await page.locator('.question').first().hover();
    await page.locator('.question').first().getByRole('button').nth(1).click();
  },
  thinking: async (page) => {
    await talk(page, 'think about it');
    await page.locator('summary').click();
  },
  drawer: async (page) => {
    await talk(page, 'Hello there');
    if (await page.locator('#menu').getAttribute('aria-expanded') === 'false') await page.locator('#menu').click();
    await page.waitForTimeout(400);
  },
  deleted: async (page) => {
    await talk(page, 'Hello there');
    if (await page.locator('#menu').getAttribute('aria-expanded') === 'false') await page.locator('#menu').click();
    await page.locator('li:has([aria-current]) [data-does=remove]').click();
    await page.waitForTimeout(400);
  },
  settings: (page) => page.locator('#open-settings').click(),
  key: async (page, mock) => {
    mock.key = 'right';
    await say(page, 'hello');
    await page.locator('#key').waitFor();
  },
};

async function picture(name, { device, locale = 'en-GB', colorScheme = 'light', state }) {
  const mock = await Mock.start();
  titles.forEach((title, at) => {
    const id = String(at).repeat(32);
    mock.conversations.set(id, { id, title, model: 'smollm2-135m', settings: {}, messages: [{ role: 'user', content: title }], updated: 1_790_000_000 - at * 90_000 });
  });
  const context = await browser.newContext({ ...device, locale, colorScheme });
  const page = await context.newPage();
  await page.goto(mock.url);
  await page.locator('#model option').first().waitFor({ state: 'attached' });
  await state(page, mock);
  await page.waitForTimeout(200);
  await page.screenshot({ path: `${folder}/${name}.png` });
  const wide = await page.evaluate(() => {
    const scrolls = (element) => element && (/auto|scroll|hidden/.test(getComputedStyle(element).overflowX) || scrolls(element.parentElement));
    return [...document.querySelectorAll('body *')]
      .filter((element) => element.getBoundingClientRect().right > innerWidth + 1 && !scrolls(element.parentElement))
      .map((element) => element.outerHTML.slice(0, 80));
  });
  if (wide.length > 0) console.log(name, 'wider than the screen:', wide);
  await context.close();
  await mock.stop();
}

const only = process.argv[3];
for (const [screen, device] of Object.entries({ phone: PHONE, desktop: DESKTOP })) {
  for (const [name, state] of Object.entries({ ...STATES, chinese: (page) => talk(page, '二分查找是怎么工作的？请给出代码。') })) {
    const locale = name === 'chinese' ? 'zh-CN' : 'en-GB';
    if (only && name !== only) continue;
    for (const colorScheme of ['light', 'dark']) await picture(`${screen}-${name}-${colorScheme}`, { device, locale, colorScheme, state });
  }
}
await browser.close();
