// Light colouring of code: comments, strings, numbers and keywords. One pattern a family of languages; an unknown language stays plain.

const set = (words) => new Set(words.split(' '));

const C_WORDS = 'break case const continue default do else enum extern for goto if return sizeof static struct switch typedef union ' +
  'void volatile while int char float double long short signed unsigned bool true false nullptr NULL';
const WORDS = {
  c: set(C_WORDS),
  cpp: set(`${C_WORDS} auto catch class constexpr delete explicit final friend inline namespace new noexcept operator override ` +
    'private protected public template this throw try typename using virtual'),
  java: set('abstract boolean break byte case catch char class const continue default do double else enum extends final finally ' +
    'float for if implements import instanceof int interface long new null package private protected public record return short ' +
    'static super switch synchronized this throw throws try var void while true false ' +
    'fun val when object data override suspend is in as let guard func struct protocol extension nil self init using namespace async await string'),
  go: set('break case chan const continue default defer else fallthrough for func go goto if import interface map package range ' +
    'return select struct switch type var nil true false string int error bool byte'),
  js: set('as async await break case catch class const continue debugger default delete do else export extends finally for from ' +
    'function if import in instanceof let new null of return static super switch this throw try typeof undefined var void while ' +
    'yield true false interface type enum implements readonly string number boolean'),
  python: set('and as assert async await break class continue def del elif else except finally for from global if import in is ' +
    'lambda None nonlocal not or pass raise return try while with yield True False self match case'),
  rust: set('as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move mut ' +
    'pub ref return self Self static struct super trait true type unsafe use where while'),
  shell: set('if then else elif fi for in do done while case esac function return local export set unset echo cd exit sudo'),
  ruby: set('begin class def do else elsif end ensure false for if in module nil not or rescue return self then true unless until ' +
    'when while yield require'),
  lua: set('and break do else elseif end false for function if in local nil not or repeat return then true until while'),
  sql: set('select from where insert into values update set delete create table drop alter index view join left right inner outer on ' +
    'group by order having limit offset union all distinct as and or not null is in like between case when then else end primary ' +
    'key foreign references default exists with'),
  data: set('true false null yes no on off'),
};

const DOUBLE = '"(?:\\\\.|[^"\\\\\\n])*"?';
const SINGLE = "'(?:\\\\.|[^'\\\\\\n])*'?";
const TEMPLATE = '`(?:\\\\.|[^`\\\\])*`?';
const SLASHES = '//[^\\n]*|/\\*[^]*?(?:\\*/|$)';
const HASH = '#[^\\n]*';

// Of each family: comments, strings, keywords.
const FAMILIES = {
  c: [`${SLASHES}|^[ ]*#[^\\n]*`, `${DOUBLE}|${SINGLE}`, WORDS.c],
  cpp: [`${SLASHES}|^[ ]*#[^\\n]*`, `${DOUBLE}|${SINGLE}`, WORDS.cpp],
  java: [SLASHES, `"""[^]*?(?:"""|$)|${DOUBLE}|${SINGLE}`, WORDS.java],
  go: [SLASHES, `${DOUBLE}|${SINGLE}|${TEMPLATE}`, WORDS.go],
  js: [SLASHES, `${DOUBLE}|${SINGLE}|${TEMPLATE}`, WORDS.js],
  rust: [SLASHES, `b?${DOUBLE}|'(?:\\\\[^']+|[^\\\\'\\n])'`, WORDS.rust], // 'a alone is a lifetime
  python: [HASH, `"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|${DOUBLE}|${SINGLE}`, WORDS.python],
  shell: [`(?<![^\\s])${HASH}`, `${DOUBLE}|'[^']*'?`, WORDS.shell],
  ruby: [HASH, `${DOUBLE}|${SINGLE}`, WORDS.ruby],
  lua: ['--[^\\n]*', `${DOUBLE}|${SINGLE}`, WORDS.lua],
  sql: [`--[^\\n]*|${SLASHES}`, `${SINGLE}|${DOUBLE}`, WORDS.sql],
  data: [`(?<![^\\s])${HASH}`, `${DOUBLE}|${SINGLE}`, WORDS.data],
  json: ['//[^\\n]*', DOUBLE, WORDS.data],
  css: ['/\\*[^]*?(?:\\*/|$)', `${DOUBLE}|${SINGLE}`, new Set()],
  html: ['<!--[^]*?(?:-->|$)', `${DOUBLE}|(?<==)'[^']*'`, new Set()],
};

const ALIASES = {
  'c++': 'cpp', cc: 'cpp', h: 'c', hpp: 'cpp', javascript: 'js', jsx: 'js', ts: 'js', tsx: 'js', typescript: 'js', mjs: 'js',
  kotlin: 'java', kt: 'java', swift: 'java', csharp: 'java', cs: 'java', scala: 'java', dart: 'java', golang: 'go', py: 'python',
  python3: 'python', rs: 'rust', sh: 'shell', bash: 'shell', zsh: 'shell', console: 'shell', rb: 'ruby', yaml: 'data', yml: 'data',
  toml: 'data', ini: 'data', xml: 'html', svg: 'html', jsonc: 'json', scss: 'css',
};

const MOST = 50_000; // longer code is shown plain: colouring it at every new token would cost more than it tells

const compiled = new Map();
function pattern(family) {
  if (!compiled.has(family)) {
    const [comments, strings] = FAMILIES[family];
    compiled.set(family, new RegExp(
      `(?<comment>${comments})|(?<string>${strings})|(?<number>\\b\\d[\\w.]*)|(?<word>[A-Za-z_$][\\w$]*)`, 'gmu'));
  }
  return compiled.get(family);
}

/** Parts of the code in order: {kind: 'plain' | 'comment' | 'string' | 'number' | 'keyword', text}. */
export function highlight(code, language) {
  const name = language.toLowerCase();
  const family = Object.hasOwn(ALIASES, name) ? ALIASES[name] : name;
  if (!Object.hasOwn(FAMILIES, family) || code.length > MOST) return [{ kind: 'plain', text: code }];
  const words = FAMILIES[family][2];
  const parts = [];
  let shown = 0;
  for (const found of code.matchAll(pattern(family))) {
    let kind = ['comment', 'string', 'number'].find((name) => found.groups[name] !== undefined);
    if (!kind) {
      const word = found.groups.word;
      if (!words.has(family === 'sql' ? word.toLowerCase() : word)) continue;
      kind = 'keyword';
    }
    if (found.index > shown) parts.push({ kind: 'plain', text: code.slice(shown, found.index) });
    parts.push({ kind, text: found[0] });
    shown = found.index + found[0].length;
  }
  if (shown < code.length) parts.push({ kind: 'plain', text: code.slice(shown) });
  return parts;
}
