// Shows Markdown in the document, built node by node: what a model writes can never become markup or script.

import { blocks } from './markdown.js';
import { inline } from './inline.js';
import { highlight } from './highlight.js';
import { h, icon } from './dom.js';
import { t } from './i18n.js';
import { copy } from './clipboard.js';

const TAGS = { strong: 'strong', emphasis: 'em', strike: 's' };

const spans = (text) => inline(text).map(span);

function span(node) {
  switch (node.kind) {
    case 'text': return document.createTextNode(node.text);
    case 'code': return h('code', {}, node.text);
    case 'break': return h('br');
    case 'link':
      return h('a', { href: node.address, target: '_blank', rel: 'noopener noreferrer' }, node.children.map(span));
    default: return h(TAGS[node.kind], {}, node.children.map(span));
  }
}

function show(block) {
  switch (block.kind) {
    case 'heading': return h(`h${block.depth ?? Math.min(block.level + 1, 6)}`, {}, spans(block.text));
    case 'paragraph': return h('p', {}, spans(block.text));
    case 'rule': return h('hr');
    case 'quote': return h('blockquote', {}, block.blocks.map(show));
    case 'code': return code(block);
    case 'list':
      return h(block.ordered ? 'ol' : 'ul', { start: block.ordered ? String(block.start) : null },
        block.items.map((item) => listItem(item, block.loose)));
    default: return table(block);
  }
}

function listItem(item, loose) {
  const parts = item.blocks.flatMap((block) => (block.kind === 'paragraph' && !loose ? spans(block.text) : [show(block)]));
  if (item.checked === undefined) return h('li', {}, parts);
  return h('li', { class: 'task' },
    h('span', { class: item.checked ? 'box checked' : 'box', role: 'img', 'aria-label': t(item.checked ? 'done' : 'notDone') }),
    h('div', {}, parts));
}

function table(block) {
  const row = (tag, texts) => h('tr', {}, texts.map((text, column) =>
    h(tag, { class: `to-${block.align[column]}`, scope: tag === 'th' ? 'col' : null }, spans(text))));
  // Wide tables scroll by themselves; the box can be reached by keyboard for that.
  return h('div', { class: 'table', tabindex: '0', role: 'group', 'aria-label': t('table') },
    h('table', {}, h('thead', {}, row('th', block.header)), h('tbody', {}, block.rows.map((texts) => row('td', texts)))));
}

function code(block) {
  const button = h('button', { type: 'button', class: 'copy', onclick: () => copy(block.text, button) },
    icon('copy'), h('span', {}, t('copy')));
  const parts = highlight(block.text, block.language).map(({ kind, text }) =>
    kind === 'plain' ? text : h('span', { class: kind }, text));
  return h('figure', { class: 'code' },
    h('figcaption', {}, h('span', {}, block.language || t('code')), button),
    h('pre', { tabindex: '0', role: 'group', 'aria-label': t('codeIn', { language: block.language || t('code') }) }, h('code', {}, parts)));
}

const shown = new WeakMap(); // element -> the source of each of its blocks

/**
 * Makes `element` show this Markdown. Only blocks that differ from what it showed before are built again: while text arrives these are
 * the last one or two, so that a long answer costs no more than a short one and selections in its finished part stay.
 */
export function update(element, text) {
  const before = shown.get(element) ?? [];
  const now = blocks(text);
  // Level 1 is the conversation's title. Models begin at any level; an outline that skips none is easier to hear.
  let depth = 1;
  for (const block of now) if (block.kind === 'heading') depth = block.depth = Math.min(block.level + 1, depth + 1, 6);
  let same = 0;
  while (same < now.length && same < before.length && before[same] === now[same].raw) same += 1;
  while (element.children.length > same) element.lastElementChild.remove();
  for (const block of now.slice(same)) element.append(show(block));
  shown.set(element, now.map((block) => block.raw));
}
