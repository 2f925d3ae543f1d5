// Talking to a model: streaming, stopping, editing, errors, and answers that outlive connection and page.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { ask, eventually, lastReply, onPage, PHONE, say, settled, useBrowser } from './harness.js';

useBrowser();

const prose = (page) => lastReply(page).locator('.prose').last();

test('an answer streams, with its figures at the end', () => onPage({ device: PHONE }, async (page, mock) => {
  await say(page, 'slow story');
  await eventually(async () => /word5 /.test(await prose(page).textContent()), 'no words while it is written');
  assert.ok(await page.locator('#stop').isVisible());
  assert.equal(await lastReply(page).locator('article').getAttribute('aria-busy'), 'true');
  await settled(page);
  assert.match(await prose(page).textContent(), /word1 .* word150\.$/);
  assert.match(await lastReply(page).locator('.figures').textContent(), /^150 tokens · [\d.,]+ tok\/s · first after [\d.]+ s$/);
  const [body] = mock.requests;
  assert.equal(body.stream, true);
  assert.equal(body.store, true);
  assert.deepEqual(body.stream_options, { include_usage: true });
  assert.deepEqual(body.pouch, { priority: 'interactive' });
  assert.deepEqual(body.messages, [{ role: 'user', content: 'slow story' }]);
}));

test('where no answer can be stored it is asked for without', () => onPage({ mock: { full: true } }, async (page, mock) => {
  await ask(page, 'hello');
  assert.equal(await prose(page).textContent(), 'You said: hello.');
  assert.deepEqual(mock.requests.map(({ store }) => store), [true, false]);
  await say(page, 'slow story');
  await eventually(async () => /word3/.test(await prose(page).textContent()), 'no words');
  await page.locator('#stop').click();
  await lastReply(page).getByText('Stopped').waitFor();
}));

test('the whole conversation is sent along', () => onPage({}, async (page, mock) => {
  await ask(page, 'one');
  await ask(page, 'two');
  assert.deepEqual(mock.requests[1].messages.map(({ role, content }) => `${role}: ${content}`),
    ['user: one', 'assistant: You said: one.', 'user: two']);
}));

for (const [how, press] of Object.entries({
  'the button': (page) => page.locator('#stop').click(),
  Escape: (page) => page.keyboard.press('Escape'),
})) {
  test(`an answer is stopped by ${how}, in the server too`, () => onPage({}, async (page, mock) => {
    await say(page, 'slow story');
    await eventually(async () => /word3/.test(await prose(page).textContent()), 'no words');
    await press(page);
    await settled(page);
    await lastReply(page).getByText('Stopped').waitFor();
    const [answer] = mock.answers.values();
    await eventually(() => answer.status === 'cancelled', 'the server goes on');
    assert.ok(!/word150/.test(await prose(page).textContent()));
    await ask(page, 'and now?');
    assert.equal(await prose(page).textContent(), 'You said: and now?.');
  }));
}

test('an edited message takes the place of it and all that followed', () => onPage({}, async (page, mock) => {
  await ask(page, 'first');
  await ask(page, 'second');
  const question = page.locator('.question').first();
  await question.getByRole('button', { name: 'Edit' }).click();
  await question.getByText('What follows this message will be replaced.').waitFor();
  const field = question.getByRole('textbox');
  assert.equal(await field.inputValue(), 'first');
  await field.press('Escape');
  assert.equal(await page.locator('.question').count(), 2, 'Escape changes nothing');
  await question.getByRole('button', { name: 'Edit' }).click();
  await field.fill('changed');
  await field.press('Enter');
  await eventually(async () => (await page.locator('.reply').allInnerTexts()).join().includes('You said: changed.'), 'no new answer');
  await settled(page);
  assert.equal(await page.locator('.question').count(), 1);
  assert.deepEqual(mock.requests.at(-1).messages, [{ role: 'user', content: 'changed' }]);
  const [saved] = mock.conversations.values();
  await eventually(() => [...mock.conversations.values()][0].messages.at(-1).content === 'You said: changed.', 'not saved');
  assert.equal(saved.title, 'first');
}));

test('the last message is edited from the empty field with the up key', () => onPage({}, async (page) => {
  await ask(page, 'mine');
  await page.locator('#message').press('ArrowUp');
  assert.equal(await page.locator('.editing textarea').inputValue(), 'mine');
}));

test('the last answer is written again', () => onPage({}, async (page, mock) => {
  await ask(page, 'one');
  await lastReply(page).getByRole('button', { name: 'Answer again' }).click();
  await eventually(() => mock.requests.length === 2, 'not asked again');
  await settled(page);
  assert.deepEqual(mock.requests[1].messages, mock.requests[0].messages);
  assert.equal(await page.locator('.reply').count(), 1);
}));

test('messages and code are copied', () => onPage({}, async (page) => {
  const pasted = () => page.evaluate(() => navigator.clipboard.readText());
  await ask(page, 'code please');
  await page.locator('figure .copy').click();
  await eventually(async () => (await pasted()).startsWith('/// The position of'), 'code');
  await lastReply(page).locator('.tools').getByRole('button', { name: 'Copy' }).click();
  await eventually(async () => (await pasted()).startsWith('A **binary search**'), 'the answer as it was written');
  await page.locator('.question').first().hover();
  await page.locator('.question').first().getByRole('button', { name: 'Copy' }).click();
  await eventually(async () => (await pasted()) === 'code please', 'the question');
  await page.evaluate(() => Object.defineProperty(navigator, 'clipboard', { value: undefined })); // as over plain HTTP in a network
  await page.locator('figure .copy').click();
  await page.locator('#message').fill('');
  await page.locator('#message').press('Control+v');
  assert.match(await page.locator('#message').inputValue(), /^\/\/\/ The position of/);
}));

test('sampling settings and the system prompt are sent; what is not set is left to the server', () => onPage({}, async (page, mock) => {
  await page.getByRole('button', { name: 'Settings' }).click();
  await page.locator('#system').fill('Be brief.');
  await page.locator('#temperature').fill('0.3');
  await page.locator('#top_p-range').fill('0.8');
  await page.locator('#max_tokens').fill('99');
  await page.locator('#seed').fill('7');
  assert.equal(await page.locator('#temperature-range').inputValue(), '0.3');
  assert.equal(await page.locator('#top_p').inputValue(), '0.8');
  await page.keyboard.press('Escape');
  await ask(page, 'one');
  const [{ messages, temperature, top_p, max_tokens, seed }] = mock.requests;
  assert.deepEqual({ temperature, top_p, max_tokens, seed }, { temperature: 0.3, top_p: 0.8, max_tokens: 99, seed: 7 });
  assert.deepEqual(messages[0], { role: 'system', content: 'Be brief.' });
  await page.getByRole('button', { name: 'New conversation' }).first().click();
  await page.getByRole('button', { name: 'Settings' }).click();
  assert.equal(await page.locator('#temperature').inputValue(), '0.3', 'new conversations begin with the last settings');
  assert.equal(await page.locator('#seed').inputValue(), '', 'but for the seed');
  await page.locator('#temperature').fill('9'); // out of range
  await page.keyboard.press('Escape');
  await ask(page, 'two');
  assert.ok(!('temperature' in mock.requests[1]), 'what is out of range is not sent');
  await page.getByRole('button', { name: 'Settings' }).click();
  await page.getByRole('button', { name: 'Back to the defaults' }).click();
  await page.keyboard.press('Escape');
  await ask(page, 'three');
  assert.ok(['temperature', 'top_p', 'max_tokens', 'seed'].every((name) => !(name in mock.requests[2])));
}));

test('the model is chosen, kept with the conversation and for the next one', () => onPage({}, async (page, mock) => {
  await page.locator('#model').selectOption('smollm2-135m');
  await ask(page, 'one');
  assert.equal(mock.requests[0].model, 'smollm2-135m');
  await page.getByRole('button', { name: 'New conversation' }).first().click();
  assert.equal(await page.locator('#model').inputValue(), 'smollm2-135m');
  await page.locator('#model').selectOption('qwen2.5-coder-0.5b');
  await page.getByRole('link', { name: 'one' }).click();
  await eventually(async () => (await page.locator('#model').inputValue()) === 'smollm2-135m', 'the conversation keeps its own');
}));

test('live figures are shown, and asked for only while the page is seen', () => onPage({ device: PHONE }, async (page, mock) => {
  await page.locator('#strip').getByText('72 tok/s').waitFor();
  assert.equal(await page.locator('#strip').innerText().then((text) => text.replace(/\s+/g, ' ')), '72 tok/s 912 MB of 2 GB queue 0');
  mock.status = { ...mock.status, queued: 3 };
  await say(page, 'wait');
  await lastReply(page).getByText('Waiting, 3 in the queue').waitFor();
  await settled(page);
  const looks = () => mock.log.filter((line) => line === 'GET /pouch/v1/status').length;
  const hide = (hidden) => page.evaluate((hidden) => {
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);
  await page.clock.install();
  await hide(true);
  await page.evaluate(() => fetch('/v1/models').then((answer) => answer.text())); // a look that was on its way has arrived before this
  const before = looks();
  await page.clock.runFor(60_000);
  await page.evaluate(() => fetch('/v1/models').then((answer) => answer.text()));
  assert.equal(looks(), before);
  await hide(false);
  await eventually(() => looks() > before, 'looks again when seen again');
}));

test('thoughts stand apart from the answer', () => onPage({}, async (page) => {
  for (const [text, thought] of [['think', /Six times nine/], ['tagged', /Six times seven/]]) {
    await ask(page, text);
    const reply = lastReply(page);
    assert.equal(await prose(page).textContent(), 'The answer is 42.');
    assert.ok(!(await reply.getByText(thought).isVisible()));
    await reply.getByText('Thoughts before the answer').click();
    await reply.getByText(thought).waitFor();
  }
}));

test('an answer that ended at the token limit says so', () => onPage({}, async (page) => {
  await ask(page, 'short');
  await lastReply(page).getByText('Ended at the token limit').waitFor();
}));

for (const [text, plain, detail] of [
  ['busy', 'The server is busy. Try again in a moment.', 'The queue is full: 64 requests wait.'],
  ['huge', 'The message is too long for the server.', 'needs 9,000 of 4,096 positions'],
  ['break', 'Something went wrong in the server.', 'The sampler lost its way.'],
]) {
  test(`an error is said plainly and can be tried again: ${text}`, () => onPage({}, async (page, mock) => {
    await ask(page, text);
    const error = lastReply(page).getByRole('alert');
    assert.match(await error.innerText(), new RegExp(`^${plain}\\s+${detail}\\s+Try again$`));
    await error.getByRole('button', { name: 'Try again' }).click();
    await eventually(() => mock.requests.length === 2, 'not asked again');
    await settled(page);
    assert.equal(await page.locator('.reply').count(), 1);
    assert.equal(mock.requests[1].messages.length, 1);
  }));
}

test('a server that is not there is said plainly, and found again', () => onPage({}, async (page, mock) => {
  await page.context().setOffline(true);
  await say(page, 'hello');
  await lastReply(page).getByText('The server cannot be reached. Is it still running?').waitFor();
  await page.context().setOffline(false);
  await lastReply(page).getByRole('button', { name: 'Try again' }).click();
  await eventually(async () => (await prose(page).textContent()) === 'You said: hello.', 'no answer');
  await eventually(() => [...mock.conversations.values()][0]?.messages.at(-1).state === 'done', 'not saved');
}));

test('a lost connection is followed to the end of the answer', () => onPage({}, async (page) => {
  await ask(page, 'cut here');
  assert.match(await prose(page).textContent(), /word1 .* word60\.$/);
}));

test('an answer whose page was loaded again meanwhile is found and finished', () => onPage({}, async (page, mock) => {
  await say(page, 'slow story');
  await eventually(() => [...mock.conversations.values()][0]?.messages.at(-1).id, 'the id is not saved');
  await page.reload();
  await eventually(async () => /word\d/.test(await prose(page).textContent()), 'it is not shown again');
  await settled(page);
  assert.match(await prose(page).textContent(), /word1 .* word150\.$/);
  await eventually(() => [...mock.conversations.values()][0].messages.at(-1).state === 'done', 'not saved');
  assert.equal(mock.requests.length, 1, 'asked only once');
}));

test('a killed server finishes the answer once it is back', () => onPage({}, async (page, mock) => {
  await say(page, 'slow story');
  await eventually(async () => /word3/.test(await prose(page).textContent()), 'no words');
  mock.down = true;
  mock.cut();
  await lastReply(page).getByText('Connection lost. Waiting for the server …').waitFor();
  mock.down = false;
  await settled(page);
  assert.match(await prose(page).textContent(), /word150\.$/);
}));

test('a server that stops is waited for: it finishes the answer after its next start', () => onPage({}, async (page) => {
  await ask(page, 'halt');
  assert.match(await prose(page).textContent(), /word1 .* word60\.$/);
}));

test('an answer that nobody knows any more is called interrupted, and what came of it stays', () => onPage({}, async (page, mock) => {
  await say(page, 'slow story');
  await eventually(async () => /word9/.test(await prose(page).textContent()), 'no words');
  mock.answers.clear();
  mock.cut();
  await lastReply(page).getByText('This answer was interrupted before it was complete.').waitFor();
  assert.match(await prose(page).textContent(), /word9/);
  await lastReply(page).getByRole('button', { name: 'Try again' }).waitFor();
}));

test('the reader who scrolled away is not pulled along, and is led back', () => onPage({ device: PHONE }, async (page) => {
  await ask(page, 'long');
  const thread = page.locator('#thread');
  const fromEnd = () => thread.evaluate((thread) => thread.scrollHeight - thread.scrollTop - thread.clientHeight);
  await eventually(async () => (await fromEnd()) < 2, 'not at the end');
  await say(page, 'slow story');
  await eventually(async () => /word5/.test(await prose(page).textContent()), 'no words');
  await thread.evaluate((thread) => (thread.scrollTop = 100));
  await page.locator('#latest').waitFor();
  await settled(page);
  assert.equal(await thread.evaluate((thread) => thread.scrollTop), 100);
  await page.locator('#latest').click();
  await eventually(async () => (await fromEnd()) < 2, 'not led back');
  await page.locator('#latest').waitFor({ state: 'hidden' });
}));
