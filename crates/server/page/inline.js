// Spans of Markdown: emphasis, code, links, breaks. Text in, a tree of plain objects out; no part of it touches the document.
// Follows CommonMark with GitHub's strike-through and bare addresses where answers of models need it, in time linear in the text.
// Three things differ, because chat reads better so: a line's end is a break, an image becomes a link (nothing is ever fetched), and
// `*` needs no space around punctuation, which Chinese text does not have.

const SCHEMES = ['http:', 'https:', 'mailto:'];
const ENTITIES = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: '\u00a0' };
const MOST_NESTED = 16;

const DESTINATION = /\(\s*(<[^<>\n]*>|[^\s()<>]*(?:\([^\s()]*\)[^\s()]*)*)(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/y;
const AUTOLINK = /<((?:https?:\/\/|mailto:)[^\s<>]+)>/iy;
const BREAK = /<br\s*\/?>/iy;
const ENTITY = /&(amp|lt|gt|quot|apos|nbsp|#\d{1,6});/y;
// Not the full stops, brackets and commas of Chinese: no space parts an address from them.
const BARE = /https?:\/\/[^\s<>"'`\u3000-\u303f\uff00-\uffef]+/iy;
const PUNCTUATION = /[!-/:-@[-`{-~]/;
const WORD = /[\p{L}\p{N}_]/u;

/** The address if it may become a link, else null: only http, https and mailto. */
export function safeAddress(text) {
  try {
    const url = new URL(text);
    return SCHEMES.includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

const match = (pattern, source, at) => {
  pattern.lastIndex = at;
  return pattern.exec(source);
};

const leaf = (node) => (node.kind === 'delimiter' ? { kind: 'text', text: node.character.repeat(node.count) } : node);

/** Pairs runs of `*`, `_` and `~~`. */
function emphasise(nodes) {
  const out = [];
  const open = []; // where in `out` the runs are that may still be closed
  const waiting = { '*': 0, _: 0, '~': 0 };
  for (const node of nodes) {
    if (node.kind !== 'delimiter') {
      out.push(node);
      continue;
    }
    let left = node.count;
    while (node.closes && left > 0 && waiting[node.character] > 0) {
      // `waiting` says that there is one, so what is searched here is also taken away: the whole stays linear.
      while (out[open.at(-1)].character !== node.character) waiting[out[open.pop()].character] -= 1;
      const at = open.at(-1);
      const opener = out[at];
      const used = Math.min(2, left, opener.count);
      const children = out.splice(at + 1).map(leaf);
      opener.count -= used;
      left -= used;
      if (opener.count === 0) {
        out.pop();
        open.pop();
        waiting[node.character] -= 1;
      }
      out.push({ kind: node.character === '~' ? 'strike' : used === 2 ? 'strong' : 'emphasis', children });
    }
    if (left === 0) continue;
    if (node.opens && open.length < MOST_NESTED) {
      open.push(out.length);
      waiting[node.character] += 1;
      out.push({ ...node, count: left });
    } else {
      out.push(leaf({ ...node, count: left }));
    }
  }
  return out.map(leaf);
}

function delimiter(source, at) {
  const character = source[at];
  let end = at;
  while (source[end] === character) end += 1;
  const count = end - at;
  const before = source[at - 1] ?? ' ';
  const after = source[end] ?? ' ';
  let opens = !/\s/.test(after);
  let closes = !/\s/.test(before);
  if (character === '_') {
    opens &&= !WORD.test(before);
    closes &&= !WORD.test(after);
  }
  if (character === '~' && count !== 2) opens = closes = false;
  return { kind: 'delimiter', character, count, opens, closes };
}

/** Takes from a bare address what belongs to the sentence around it. */
function trimAddress(text) {
  let end = text.length;
  for (; end > 0; end -= 1) {
    const last = text[end - 1];
    if (last === ')') {
      const inside = text.slice(0, end);
      if (inside.split(')').length <= inside.split('(').length) break;
    } else if (!'.,:;!?*_~'.includes(last)) {
      break;
    }
  }
  return text.slice(0, end);
}

/**
 * Reads one paragraph's text. Nodes: {kind: 'text', text}, {kind: 'code', text}, {kind: 'break'}, {kind: 'link', address, children},
 * and {kind: 'strong' | 'emphasis' | 'strike', children}.
 */
export function inline(source) {
  const out = [];
  const brackets = []; // where in `out` the `[` are that may still become a link
  const unclosed = new Set(); // lengths of backtick runs known to have no end
  let text = '';
  const push = (node) => {
    if (text) out.push({ kind: 'text', text });
    text = '';
    if (node) out.push(node);
  };
  const link = (address, children) => {
    const safe = safeAddress(address);
    if (safe) push({ kind: 'link', address: safe, children });
    else {
      push();
      for (const child of children) out.push(child);
    }
  };

  let at = 0;
  while (at < source.length) {
    const character = source[at];
    let found;
    if (character === '\\' && PUNCTUATION.test(source[at + 1] ?? '')) {
      text += source[at + 1];
      at += 2;
    } else if (character === '\n') {
      text = text.replace(/[ \\]+$/, '');
      push({ kind: 'break' });
      at += 1;
    } else if (character === '`') {
      let run = 1;
      while (source[at + run] === '`') run += 1;
      const end = unclosed.has(run) ? -1 : closing(source, at + run, run);
      if (end < 0) {
        unclosed.add(run);
        text += '`'.repeat(run);
        at += run;
      } else {
        const code = source.slice(at + run, end).replaceAll('\n', ' ');
        push({ kind: 'code', text: /^ .*\S.* $/.test(code) ? code.slice(1, -1) : code });
        at = end + run;
      }
    } else if (character === '[' || (character === '!' && source[at + 1] === '[')) {
      push();
      brackets.push(out.length);
      text = character === '[' ? '[' : '![';
      at += text.length;
      push();
    } else if (character === ']' && brackets.length > 0) {
      push();
      const opener = brackets.pop();
      if ((found = match(DESTINATION, source, at + 1))) {
        const children = emphasise(out.splice(opener).slice(1)).flatMap((node) => (node.kind === 'link' ? node.children : [node]));
        const address = found[1].replace(/^<|>$/g, '');
        link(address, children.length > 0 ? children : [{ kind: 'text', text: address }]);
        brackets.length = 0; // no link inside a link
        at += 1 + found[0].length;
      } else {
        text = ']';
        at += 1;
      }
    } else if (character === '<' && (found = match(AUTOLINK, source, at))) {
      link(found[1], [{ kind: 'text', text: found[1] }]);
      at += found[0].length;
    } else if (character === '<' && (found = match(BREAK, source, at))) {
      push({ kind: 'break' });
      at += found[0].length;
    } else if (character === '&' && (found = match(ENTITY, source, at))) {
      text += found[1][0] === '#' ? String.fromCodePoint(Number(found[1].slice(1))) : ENTITIES[found[1]];
      at += found[0].length;
    } else if ('*_~'.includes(character)) {
      const node = delimiter(source, at);
      push(node);
      at += node.count;
    } else if (/h/i.test(character) && !WORD.test(source[at - 1] ?? ' ') && (found = match(BARE, source, at))) {
      const address = trimAddress(found[0]);
      link(address, [{ kind: 'text', text: address }]);
      at += address.length;
    } else {
      text += character;
      at += 1;
    }
  }
  push();
  return emphasise(out);
}

/** Where the run of exactly `run` backticks begins that ends a code span, or -1. */
function closing(source, from, run) {
  for (let at = source.indexOf('`', from); at >= 0; at = source.indexOf('`', at)) {
    let length = 0;
    while (source[at + length] === '`') length += 1;
    if (length === run) return at;
    at += length;
  }
  return -1;
}
