// Blocks of Markdown: headings, paragraphs, lists, quotes, code, tables, rules. Text in, plain objects out; `prose.js` shows them.
// CommonMark as models write it: an unfinished block (the text is still arriving) reads as if it ended here, and text indented by four
// is no code, since models indent for other reasons and mark code with fences. HTML stays text.

const FENCE = /^( {0,3})(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?=\s|$)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?: |$)/;
const DELIMITERS = /^ {0,3}\|? *:?-+:? *(?:\| *:?-+:? *)*\|? *$/;
const MOST_NESTED = 8;

const blank = (line) => line.trim() === '';
const indent = (line) => line.length - line.trimStart().length;

/**
 * Reads a text. Blocks, each with `raw`, its lines as they stand:
 * {kind: 'heading', level, text}, {kind: 'paragraph', text}, {kind: 'code', language, text}, {kind: 'rule'}, {kind: 'quote', blocks},
 * {kind: 'list', ordered, start, loose, items: [{checked, blocks}]} (checked: true, false, or undefined where there is no box),
 * {kind: 'table', align, header: [text], rows: [[text]]}.
 */
export const blocks = (text) => read(text.replaceAll('\r\n', '\n').replaceAll('\t', '    ').split('\n'), 0);

function read(lines, depth) {
  const out = [];
  let at = 0;
  while (at < lines.length) {
    if (blank(lines[at])) {
      at += 1;
      continue;
    }
    const [block, end] = blockAt(lines, at, depth);
    block.raw = lines.slice(at, end).join('\n');
    out.push(block);
    at = end;
  }
  return out;
}

function blockAt(lines, at, depth) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return code(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading) {
    const text = line.slice(heading[0].length).trim().replace(/(^|\s)#+$/, '').trim();
    return [{ kind: 'heading', level: heading[1].length, text }, at + 1];
  }
  if (RULE.test(line)) return [{ kind: 'rule' }, at + 1];
  if (depth < MOST_NESTED) {
    if (QUOTE.test(line)) return quote(lines, at, depth);
    if (ITEM.test(line)) return list(lines, at, depth);
  }
  if (tableAt(lines, at)) return table(lines, at);
  return paragraph(lines, at, depth);
}

const tableAt = (lines, at) =>
  lines[at].includes('|') &&
  DELIMITERS.test(lines[at + 1] ?? '') &&
  lines[at + 1].includes('-') &&
  cells(lines[at]).length === cells(lines[at + 1]).length;

/** Whether a paragraph ends before this line. A numbered item does so only with 1: "in\n1984. Then" is a sentence. */
function interrupts(lines, at, depth) {
  const line = lines[at];
  if (blank(line) || FENCE.test(line) || HEADING.test(line) || RULE.test(line)) return true;
  if (depth < MOST_NESTED) {
    if (QUOTE.test(line)) return true;
    const item = ITEM.exec(line);
    if (item && !blank(line.slice(item[0].length)) && (!/\d/.test(item[2]) || parseInt(item[2], 10) === 1)) return true;
  }
  return tableAt(lines, at);
}

function paragraph(lines, at, depth) {
  let end = at + 1;
  while (end < lines.length && !interrupts(lines, end, depth)) end += 1;
  const text = lines.slice(at, end).map((line) => line.trimStart()).join('\n').trimEnd();
  return [{ kind: 'paragraph', text }, end];
}

function code(lines, at, [, margin, marks, info]) {
  const close = (line) => {
    const trimmed = line.trim();
    return trimmed.length >= marks.length && trimmed === marks[0].repeat(trimmed.length) && indent(line) <= margin.length + 3;
  };
  let end = at + 1;
  while (end < lines.length && !close(lines[end])) end += 1;
  const text = lines.slice(at + 1, end).map((line) => line.slice(Math.min(indent(line), margin.length))).join('\n');
  return [{ kind: 'code', language: info.trim().split(/\s/)[0], text }, Math.min(end + 1, lines.length)];
}

function quote(lines, at, depth) {
  const inside = [];
  let end = at;
  while (end < lines.length && (QUOTE.test(lines[end]) || (end > at && !interrupts(lines, end, depth)))) {
    inside.push(lines[end].replace(QUOTE, ''));
    end += 1;
  }
  return [{ kind: 'quote', blocks: read(inside, depth + 1) }, end];
}

function list(lines, at, depth) {
  const [, , first] = ITEM.exec(lines[at]);
  const ordered = /\d/.test(first);
  const kind = first.at(-1);
  const block = { kind: 'list', ordered, start: ordered ? parseInt(first, 10) : undefined, loose: false, items: [] };
  const margin = indent(lines[at]);
  const nextItem = (line) => {
    const item = ITEM.exec(line);
    return item && item[1].length < margin + 2 && item[2].at(-1) === kind && !RULE.test(line);
  };
  let end = at;
  while (end < lines.length && nextItem(lines[end])) {
    const [mark, space] = ITEM.exec(lines[end]);
    const width = mark.trimEnd().length + 1;
    const inside = [lines[end].slice(mark.length).trimStart()];
    end += 1;
    let gap = false;
    while (end < lines.length) {
      const line = lines[end];
      if (blank(line)) {
        gap = true;
        inside.push('');
        end += 1;
        continue;
      }
      // Two deeper than the mark is enough, though CommonMark wants the width of the mark: models do not count.
      const belongs = indent(line) >= Math.min(width, space.length + 2) && indent(line) >= margin + 2;
      const lazy = !gap && !nextItem(line) && !interrupts(lines, end, depth);
      if (!belongs && !lazy) break;
      if (gap) block.loose = true;
      gap = false;
      inside.push(line.slice(Math.min(indent(line), width)));
      end += 1;
    }
    if (gap && end < lines.length && nextItem(lines[end])) block.loose = true;
    const box = /^\[([ xX])\] /.exec(inside[0]);
    if (box) inside[0] = inside[0].slice(4);
    block.items.push({ checked: box ? box[1] !== ' ' : undefined, blocks: read(inside, depth + 1) });
  }
  while (end > at && blank(lines[end - 1])) end -= 1;
  return [block, end];
}

/** The cells of a table's line; `\|` is a bar inside a cell. */
function cells(line) {
  const inside = line.trim().replace(/^\|/, '').replace(/(^|[^\\])\|$/, '$1');
  return inside.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll('\\|', '|'));
}

function table(lines, at) {
  const header = cells(lines[at]);
  const align = cells(lines[at + 1]).map((mark) =>
    mark.endsWith(':') ? (mark.startsWith(':') ? 'center' : 'right') : 'left');
  const rows = [];
  let end = at + 2;
  while (end < lines.length && !blank(lines[end]) && lines[end].includes('|')) {
    const row = cells(lines[end]);
    rows.push(header.map((_, column) => row[column] ?? ''));
    end += 1;
  }
  return [{ kind: 'table', align, header, rows }, end];
}
