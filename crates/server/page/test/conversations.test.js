// Several conversations, kept by the server: they survive a reload, are renamed, deleted and brought back, and tabs do not lose
// each other's.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { ask, eventually, lastReply, onPage, PHONE, say, settled, useBrowser } from './harness.js';

useBrowser();

const titles = (page) => page.locator('#conversations .title').allTextContents();
const row = (page, title) => page.locator('#conversations li', { hasText: title });
const begin = (page) => page.locator('#drawer-new').click();
const saved = (mock) => [...mock.conversations.values()];
const message = (role, content) => ({ role, content, ...(role === 'assistant' && { state: 'done' }) });
const kept = (id, title, ...messages) => [id, { id, title, model: 'smollm2-135m', settings: {}, messages, updated: 1_790_000_000 }];

test('a conversation is there again after a reload', () => onPage({}, async (page, mock) => {
  await ask(page, 'code of the first');
  await begin(page);
  await ask(page, 'the second');
  const order = ['the second', 'code of the first'];
  assert.deepEqual(await titles(page), order, 'the latest question is not first');
  await eventually(() => saved(mock).length === 2 && saved(mock).every(({ messages }) => messages.at(-1).state === 'done'), 'not saved');
  await page.reload();
  await eventually(async () => (await page.locator('.question').allInnerTexts()).join().includes('the second'), 'not shown again');
  assert.deepEqual(await titles(page), order, 'the server has the list in another order');
  await row(page, 'code of the first').getByRole('link').click();
  await lastReply(page).locator('figure').waitFor();
  assert.equal(await page.title(), 'code of the first · Pouch');
  await page.goBack();
  await eventually(async () => (await page.title()) === 'the second · Pouch', 'back leads to the one before');
}));

test('the page asks for the conversation before the question: it is saved first', () => onPage({}, async (page, mock) => {
  await ask(page, 'hello');
  const put = mock.log.findIndex((line) => line.startsWith('PUT'));
  assert.ok(put >= 0 && put < mock.log.indexOf('POST /v1/chat/completions'), mock.log.join('\n'));
}));

test('changes made at once are written once they rest', () => onPage({}, async (page, mock) => {
  await ask(page, 'hello');
  await eventually(() => saved(mock)[0].messages.at(-1).state === 'done', 'not saved');
  const puts = () => mock.log.filter((line) => line.startsWith('PUT')).length;
  const before = puts();
  await page.getByRole('button', { name: 'Settings' }).click();
  await page.locator('#system').pressSequentially('Answer in rhymes.');
  await eventually(() => saved(mock)[0].settings.system === 'Answer in rhymes.', 'not saved');
  assert.ok(puts() - before < 9, `${puts() - before} writes for 17 letters`);
}));

test('a conversation is renamed', () => onPage({}, async (page, mock) => {
  await ask(page, 'hello');
  await row(page, 'hello').getByRole('button', { name: 'Rename hello' }).click();
  const field = page.getByRole('textbox', { name: 'New title' });
  await field.fill('never');
  await field.press('Escape');
  assert.deepEqual(await titles(page), ['hello']);
  await row(page, 'hello').getByRole('button', { name: 'Rename hello' }).click();
  await field.fill('Greetings');
  await field.press('Enter');
  await eventually(() => saved(mock)[0].title === 'Greetings', 'not saved');
  assert.deepEqual(await titles(page), ['Greetings']);
  await eventually(async () => (await page.title()) === 'Greetings · Pouch', 'the tab has the old title');
}));

test('one that is not on the screen is renamed and deleted too', () => onPage({ mock: { conversations: new Map([kept('a', 'Alpha', message('user', 'x'), message('assistant', 'y')), kept('b', 'Beta')]) } },
  async (page, mock) => {
    await row(page, 'Alpha').hover();
    await row(page, 'Alpha').getByRole('button', { name: 'Rename Alpha' }).click();
    await page.getByRole('textbox', { name: 'New title' }).fill('Omega');
    await page.keyboard.press('Enter');
    await eventually(() => mock.conversations.get('a').title === 'Omega', 'not saved');
    assert.equal(mock.conversations.get('a').messages.length, 2);
    await row(page, 'Beta').hover();
    await row(page, 'Beta').getByRole('button', { name: 'Delete Beta' }).click();
    await eventually(() => !mock.conversations.has('b'), 'not deleted');
    assert.deepEqual(await titles(page), ['Omega']);
  }));

test('a deleted conversation comes back by undo', () => onPage({ device: PHONE }, async (page, mock) => {
  await ask(page, 'keep me');
  await page.locator('#menu').click();
  await row(page, 'keep me').getByRole('button', { name: 'Delete keep me' }).click();
  await page.getByText('“keep me” deleted').waitFor();
  assert.equal(mock.conversations.size, 0);
  assert.deepEqual(await titles(page), []);
  await page.locator('.notice').getByRole('button', { name: 'Undo' }).click();
  await eventually(() => saved(mock)[0]?.messages.length === 2, 'not brought back');
  assert.deepEqual(await titles(page), ['keep me']);
  await page.locator('.question').getByText('keep me').waitFor({ state: 'attached' });
}));

test('deleting one that is being answered stops the answer and leaves nothing behind', () => onPage({}, async (page, mock) => {
  await say(page, 'slow story');
  await eventually(async () => /word3/.test(await lastReply(page).textContent()), 'no words');
  await row(page, 'slow story').getByRole('button', { name: 'Delete slow story' }).click();
  await page.getByText('“slow story” deleted').waitFor();
  const [answer] = mock.answers.values();
  await eventually(() => answer.status === 'cancelled', 'the server goes on');
  assert.equal(mock.conversations.size, 0);
  assert.equal(await page.locator('.reply').count(), 0);
}));

test('an answer goes on while another conversation is read, and is complete on return', () => onPage({}, async (page, mock) => {
  await say(page, 'slow story');
  await eventually(async () => /word3/.test(await lastReply(page).textContent()), 'no words');
  await begin(page);
  await row(page, 'slow story').getByText('being answered').waitFor();
  await ask(page, 'meanwhile');
  await eventually(() => saved(mock).every(({ messages }) => messages.at(-1).state === 'done'), 'not complete');
  assert.deepEqual(await titles(page), ['meanwhile', 'slow story'], 'the end of an answer is no news of the reader');
  await row(page, 'slow story').getByRole('link').click();
  assert.match(await lastReply(page).locator('.prose').last().textContent(), /word1 .* word150\.$/);
  assert.equal(mock.requests.length, 2);
}));

test('the server is told which answer is looked at', () => onPage({}, async (page, mock) => {
  await say(page, 'slow story');
  await eventually(() => mock.focused.length === 1, 'not told');
  await begin(page);
  await eventually(() => mock.focused.length === 2, 'not told that it is left');
  await row(page, 'slow story').getByRole('link').click();
  await eventually(() => mock.focused.length === 3, 'not told of the return');
  const [id] = mock.answers.keys();
  assert.deepEqual(mock.focused, [[id, true], [id, false], [id, true]]);
}));

test('what is said elsewhere appears, an answer being written there is followed, and nothing is written over it', () => onPage({}, async (page, mock) => {
  await ask(page, 'hello');
  await eventually(() => saved(mock)[0].messages.at(-1).state === 'done', 'not saved');
  const question = page.locator('.question').first();
  await question.getByRole('button', { name: 'Edit' }).click();
  await question.getByRole('textbox').fill('half a thought');
  // As another program writes it: straight to the server.
  const [before] = saved(mock);
  const answer = { text: 'It goes', status: 'in_progress', tokens: ['a', 'b'] };
  mock.answers.set('chatcmpl-other', answer);
  const put = (message) => {
    mock.conversations.set(before.id, { ...before, messages: [...before.messages, { role: 'user', content: 'from elsewhere' }, message] });
    mock.status.conversations += 1;
  };
  put({ role: 'assistant', content: '', state: 'writing', id: 'chatcmpl-other' });
  await page.locator('.question').getByText('from elsewhere').waitFor();
  await eventually(async () => (await lastReply(page).textContent()).includes('It goes'), 'not followed');
  assert.equal(await question.getByRole('textbox').inputValue(), 'half a thought', 'what the reader does goes on');
  const puts = () => mock.log.filter((line) => line.startsWith('PUT')).length;
  const written = puts();
  answer.text = 'It goes on.';
  put({ role: 'assistant', content: 'It goes on.', state: 'done', id: 'chatcmpl-other', figures: { tokens: 4, speed: 9, first: 0.5 } });
  answer.status = 'completed';
  await lastReply(page).locator('.figures').getByText('4 tokens').waitFor();
  assert.equal(puts(), written, 'who asked keeps the answer');
  assert.equal(await page.locator('.notice').count(), 0);
}));

test('what somebody else writes in the same moment is not lost', () => onPage({}, async (page, mock) => {
  await ask(page, 'hello');
  await eventually(() => saved(mock)[0].messages.at(-1).state === 'done', 'not saved');
  await say(page, 'slow story');
  await eventually(async () => /word3/.test(await lastReply(page).textContent()), 'no words');
  // Straight to the server, by somebody who has not seen the second question.
  const [now] = saved(mock);
  const theirs = [message('user', 'from elsewhere'), message('assistant', 'indeed')];
  mock.conversations.set(now.id, { ...now, title: 'Theirs', messages: [...now.messages.slice(0, 2), ...theirs] });
  await settled(page);
  await eventually(() => saved(mock)[0].messages.length === 6, 'not put together');
  const [{ title, messages }] = saved(mock);
  assert.deepEqual(messages.slice(0, 5).map(({ content }) => content), ['hello', 'You said: hello.', 'from elsewhere', 'indeed', 'slow story']);
  assert.deepEqual([title, messages[5].state], ['Theirs', 'done']);
  assert.match(messages[5].content, /word150\.$/);
  await page.locator('.question').getByText('from elsewhere').waitFor();
  assert.equal(await page.locator('.reply').count(), 3);
}));

test('what two did to a conversation is put together', () => onPage({}, async (page) => {
  const one = ['one', '1', '1.'];
  const two = ['two', '2', '2.'];
  const ours = (id, content) => ['ours', id, content];
  const cases = [
    // Both went on.
    [[one], [one, ours('', '')], [one, two], [one, two, ours('', '')]],
    [[one, ours('3', '')], [one, ours('3', '3.')], [one, ours('3', ''), two], [one, ours('3', '3.'), two]],
    // They wrote what they had read before our question was kept, or named.
    [[one, ours('3', '')], [one, ours('3', '3.')], [one, two], [one, two, ours('3', '3.')]],
    [[one, ours('', '')], [one, ours('3', '3.')], [one, ours('', '')], [one, ours('3', '3.')]],
    // We changed a question; meanwhile they have kept the answer to the one before, or gone on.
    [[one, two], [one, ours('', '')], [one, ['two', '2', '2!']], [one, ours('', '')]],
    [[one], [ours('', '')], [one, two], [two, ours('', '')]],
    [[], [ours('', '')], [two], [two, ours('', '')]],
    [[one], [one], [one, two], [one, two]],
  ];
  const merged = await page.evaluate(async (cases) => {
    const { merge } = await import('/conversation.js');
    const conversation = (title, said) => ({
      title,
      messages: said.flatMap(([question, id, content]) =>
        [{ role: 'user', content: question }, { role: 'assistant', content, state: content ? 'done' : 'writing', ...(id && { id }) }]),
    });
    return cases.map(([base, mine, theirs, expected]) => {
      const document = conversation('t', mine);
      const kept = [...document.messages];
      merge(document, base.length > 0 ? conversation('t', base) : null, conversation('theirs', theirs));
      const ours = conversation('theirs', expected);
      return [JSON.stringify(document), JSON.stringify({ ...ours, title: base.length > 0 ? 'theirs' : 't' }), document.messages.at(-1).id !== kept.at(-1).id || document.messages.includes(kept.at(-1))];
    });
  }, cases);
  for (const [at, [is, expected, isSame]] of merged.entries()) {
    assert.equal(is, expected, `case ${at}`);
    assert.ok(isSame, `case ${at}: the answer being written is another object`);
  }
}));

test('an answer that has no name yet is waited for, not called interrupted', () => {
  const [id, conversation] = kept('a', 'Alpha', message('user', 'x'), { role: 'assistant', content: '', state: 'writing' });
  conversation.updated = Date.now() / 1000;
  return onPage({ mock: { conversations: new Map([[id, conversation]]) }, hash: '#a' }, async (page, mock) => {
    const looks = () => mock.log.filter((line) => line === 'GET /pouch/v1/conversations/a').length;
    await eventually(() => looks() > 3, 'not looked for');
    const answer = { text: 'It goes', status: 'in_progress', tokens: ['a', 'b'] };
    mock.answers.set('chatcmpl-other', answer);
    mock.conversations.set(id, { ...conversation, messages: [message('user', 'x'), { ...conversation.messages[1], id: 'chatcmpl-other' }] });
    await eventually(async () => (await lastReply(page).textContent()).includes('It goes'), 'not followed');
    Object.assign(answer, { text: 'It goes on.', status: 'completed' });
    // Whoever asked has gone: who follows keeps the end.
    await eventually(() => mock.conversations.get(id).messages[1].content === 'It goes on.', 'not kept');
    assert.equal(mock.conversations.get(id).messages[1].state, 'done');
  });
});

test('two tabs keep each other’s conversations, and a change elsewhere is told', () => onPage({}, async (page, mock, context) => {
  await ask(page, 'shared');
  const other = await context.newPage();
  await other.goto(page.url());
  await eventually(async () => (await other.locator('.reply').count()) === 1, 'not open in the other tab');
  await other.locator('#drawer-new').click();
  await ask(other, 'mine alone');
  await eventually(async () => (await titles(page)).includes('mine alone'), 'the list of the first tab does not know');
  await row(other, 'shared').getByRole('link').click();
  await ask(other, 'more');
  await eventually(async () => (await page.locator('.question').count()) === 2, 'what was added does not appear');
  await eventually(() => saved(mock).every(({ messages }) => messages.at(-1).state === 'done'), 'not complete');
  const question = other.locator('.question').last();
  await question.getByRole('button', { name: 'Edit' }).click();
  await question.getByRole('textbox').fill('changed');
  await question.getByRole('textbox').press('Enter');
  await page.getByText('This conversation was changed in another tab or on another device.').waitFor();
  await settled(other);
  assert.equal(await page.locator('.question').last().innerText(), 'more', 'nothing changes under the reader');
  await eventually(() => saved(mock).every(({ messages }) => messages.at(-1).state === 'done'), 'not complete');
  await page.locator('.notice').getByRole('button', { name: 'Reload' }).click();
  await page.locator('.question').getByText('changed').waitFor();
  assert.equal(await other.locator('.notice').count(), 0, 'the tab that wrote is told nothing');
  await row(other, 'shared').getByRole('button', { name: 'Delete shared' }).click();
  await page.getByText('This conversation was deleted in another tab').waitFor();
  assert.deepEqual(saved(mock).map(({ title }) => title), ['mine alone']);
}));

test('a second tab follows an answer that the first one asked for', () => onPage({}, async (page, mock, context) => {
  await say(page, 'slow story');
  await eventually(() => saved(mock)[0]?.messages.at(-1).id, 'the id is not saved');
  const other = await context.newPage();
  await other.goto(page.url());
  await eventually(async () => /word150\.$/.test(await lastReply(other).locator('.prose').last().textContent()), 'not followed');
  await settled(page);
  assert.equal(mock.requests.length, 1);
  assert.equal(await page.locator('.notice').count(), 0);
}));

test('what cannot be saved is told, and saved once the server answers again', () => onPage({}, async (page, mock) => {
  await ask(page, 'hello');
  await eventually(() => saved(mock)[0].messages.at(-1).state === 'done', 'not saved');
  mock.down = true;
  await row(page, 'hello').getByRole('button', { name: 'Rename hello' }).click();
  await page.getByRole('textbox', { name: 'New title' }).fill('Later');
  await page.keyboard.press('Enter');
  await page.locator('.notice').getByRole('alert').waitFor();
  mock.down = false;
  await eventually(() => saved(mock)[0].title === 'Later', 'not saved');
  await page.locator('.notice').getByText('Saved').waitFor();
}));

test('what is not written yet when the page goes is written on its way out', () => onPage({}, async (page, mock) => {
  await ask(page, 'hello');
  await eventually(() => saved(mock)[0].messages.at(-1).state === 'done', 'not saved');
  await page.getByRole('button', { name: 'Settings' }).click();
  await page.locator('#seed').fill('5');
  await page.goto('about:blank');
  await eventually(() => saved(mock)[0].settings.seed === 5, 'lost');
}));

test('an unsent message survives a reload', () => onPage({}, async (page) => {
  await page.locator('#message').fill('half a thou');
  await page.reload();
  await eventually(async () => (await page.locator('#message').inputValue()) === 'half a thou', 'lost');
}));

test('an address of a conversation that is gone says so', () => onPage({ hash: '#nowhere' }, async (page) => {
  await page.getByText('This conversation is no longer there.').waitFor();
  await ask(page, 'hello');
}));
