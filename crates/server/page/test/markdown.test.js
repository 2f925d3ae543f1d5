// The readers of Markdown and code, run in the browser as the page runs them.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { onPage, useBrowser } from './harness.js';

useBrowser();

/** What the page shows for each text, as HTML without the copy buttons. */
const shown = (page, texts) => page.evaluate(async (texts) => {
  const { update } = await import('/prose.js');
  return texts.map((text) => {
    const element = document.createElement('div');
    update(element, text);
    element.querySelectorAll('figcaption').forEach((caption) => caption.remove());
    element.querySelectorAll('*').forEach((inner) => ['tabindex', 'role', 'aria-label', 'target', 'rel', 'class', 'scope'].forEach((name) => inner.removeAttribute(name)));
    return element.innerHTML;
  });
}, texts);

const CASES = [
  ['plain & <b>', '<p>plain &amp; &lt;b&gt;</p>'],
  ['# One\n## Two\n###### Six #\n# One', '<h2>One</h2><h3>Two</h3><h4>Six</h4><h2>One</h2>'],
  ['### First', '<h2>First</h2>'],
  ['#no heading', '<p>#no heading</p>'],
  ['**bold** *it* __bold__ _it_ ~~gone~~ ***both***',
    '<p><strong>bold</strong> <em>it</em> <strong>bold</strong> <em>it</em> <s>gone</s> <em><strong>both</strong></em></p>'],
  ['snake_case_name and 2 * 3 * 4', '<p>snake_case_name and 2 * 3 * 4</p>'],
  ['**注意（重要）**后面', '<p><strong>注意（重要）</strong>后面</p>'],
  ['**open and *nested* on', '<p>**open and <em>nested</em> on</p>'],
  ['`a *b*` and ``c ` d``', '<p><code>a *b*</code> and <code>c ` d</code></p>'],
  ['un`closed', '<p>un`closed</p>'],
  ['\\*no\\* \\`no\\`', '<p>*no* `no`</p>'],
  ['one\ntwo  \nthree<br>four', '<p>one<br>two<br>three<br>four</p>'],
  ['a &amp; b &lt;c&gt; &#65; &nosuch;', '<p>a &amp; b &lt;c&gt; A &amp;nosuch;</p>'],
  ['[text](https://a.example/x(y)z "t") <https://b.example> https://c.example/d_e_f.',
    '<p><a href="https://a.example/x(y)z">text</a> <a href="https://b.example/">https://b.example</a> ' +
    '<a href="https://c.example/d_e_f">https://c.example/d_e_f</a>.</p>'],
  ['见 https://zh.example/二分查找。', '<p>见 <a href="https://zh.example/%E4%BA%8C%E5%88%86%E6%9F%A5%E6%89%BE">https://zh.example/二分查找</a>。</p>'],
  ['![picture](https://a.example/p.png)', '<p><a href="https://a.example/p.png">picture</a></p>'],
  ['[a [b](https://b.example)](https://c.example)', '<p>[a <a href="https://b.example/">b</a>](<a href="https://c.example/">https://c.example</a>)</p>'],
  ['[x](javascript:alert(1)) [y](/here) [z](data:text/html,a)', '<p>x y z</p>'],
  ['- a\n- b\n  - c\n    - d\n- e', '<ul><li>a</li><li>b<ul><li>c<ul><li>d</li></ul></li></ul></li><li>e</li></ul>'],
  ['3. a\n4. b\n\n   more', '<ol start="3"><li><p>a</p></li><li><p>b</p><p>more</p></li></ol>'],
  ['1. a\n  - deeper by two', '<ol start="1"><li>a<ul><li>deeper by two</li></ul></li></ol>'],
  ['It was in\n1984. Then', '<p>It was in<br>1984. Then</p>'],
  ['text\n- item', '<p>text</p><ul><li>item</li></ul>'],
  ['- a\n\n```\ncode\n```', '<ul><li>a</li></ul><figure><pre><code>code</code></pre></figure>'],
  ['- a\n  ```\n  code\n    in\n  ```\n- b', '<ul><li>a<figure><pre><code>code\n  in</code></pre></figure></li><li>b</li></ul>'],
  ['- [x] done\n- [ ] open', '<ul><li><span></span><div>done</div></li><li><span></span><div>open</div></li></ul>'],
  ['> a\nlazy\n> > b', '<blockquote><p>a<br>lazy</p><blockquote><p>b</p></blockquote></blockquote>'],
  ['a\n\n---\n* * *', '<p>a</p><hr><hr>'],
  ['````md\n```\nx\n```\n````', '<figure><pre><code>```\nx\n```</code></pre></figure>'],
  ['~~~\nnever closed\n<b>', '<figure><pre><code>never closed\n&lt;b&gt;</code></pre></figure>'],
  ['| a | b |\n|--:|:-:|\n| `x\\|y` | **z** |\n| only |',
    '<div><table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td><code>x|y</code></td><td><strong>z</strong></td></tr>' +
    '<tr><td>only</td><td></td></tr></tbody></table></div>'],
  ['a | b, no table', '<p>a | b, no table</p>'],
  ['', ''],
];

test('Markdown is shown as it is meant', () => onPage({}, async (page) => {
  const html = await shown(page, CASES.map(([text]) => text));
  CASES.forEach(([text, wanted], at) => assert.equal(html[at], wanted, JSON.stringify(text)));
}));

test('text that arrives piece by piece ends as it would at once, and finished blocks stay the same elements', () => onPage({}, async (page) => {
  const texts = CASES.map(([text]) => text).join('\n\n');
  const [grown, whole, kept] = await page.evaluate(async (text) => {
    const { update } = await import('/prose.js');
    const [whole, grown] = [document.createElement('div'), document.createElement('div')];
    update(whole, text);
    update(grown, text.slice(0, 40));
    const first = grown.firstElementChild;
    for (let end = 41; end <= text.length; end += 7) update(grown, text.slice(0, end));
    update(grown, text);
    return [grown.innerHTML, whole.innerHTML, grown.firstElementChild === first];
  }, texts);
  assert.equal(grown, whole);
  assert.ok(kept, 'the first block was built again');
}));

test('hostile lengths are read in time linear in the text', () => onPage({}, async (page) => {
  // Each would take minutes in a reader that is quadratic, or overflow the stack of one that nests without end.
  const pieces = ['*', '_', '**a ', '*_', '`', '[', '[a](', '](', '![', '<https://', '~~', '> ', '- ', '|', '\\', '&', '# ', '1. ', '((', 'a_', '[x](y "', '`a``'];
  const starts = ['', 'x']; // as a block, and inside a paragraph
  const found = await page.evaluate(async ([pieces, starts]) => {
    const { update } = await import('/prose.js');
    return pieces.flatMap((piece) => starts.map((start) => {
      const element = document.createElement('div');
      update(element, start + piece.repeat(100_000 / piece.length));
      let depth = 0;
      for (let node = element; node; node = node.lastElementChild) depth += 1;
      return { piece, some: element.childElementCount > 0, depth };
    }));
  }, [pieces, starts]);
  for (const { piece, some, depth } of found) {
    assert.ok(some, `nothing of ${piece} is shown`);
    assert.ok(depth < 60, `${piece} nests ${depth} deep`);
  }
}));

test('code keeps every character, whatever its language', () => onPage({}, async (page) => {
  const code = 'fn main<\'a>() { let s = "a\\"b"; /* c */ x = 0xff + \'q\'; } // end\n# hash "unclosed\n--dash `tick\n"""doc\n';
  const names = ['rust', 'python', 'js', 'bash', 'sql', 'html', 'json', 'yaml', 'c', 'css', 'go', 'lua', 'ruby', 'ts', 'constructor', '__proto__', 'nosuch', ''];
  const parts = await page.evaluate(async ([code, names]) => {
    const { highlight } = await import('/highlight.js');
    return names.map((name) => highlight(code, name));
  }, [code, names]);
  parts.forEach((list, at) => assert.equal(list.map(({ text }) => text).join(''), code, names[at]));
  const kinds = Object.fromEntries(parts[0].filter(({ kind }) => kind !== 'plain').map(({ kind, text }) => [text, kind]));
  assert.equal(kinds.fn, 'keyword');
  assert.equal(kinds['"a\\"b"'], 'string');
  assert.equal(kinds['/* c */'], 'comment');
  assert.equal(kinds['0xff'], 'number');
  assert.equal(kinds["'a"], undefined, 'a lifetime is no string');
}));
