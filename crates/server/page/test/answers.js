// What the mock server answers, by what the last message begins with.

const CODE = `A **binary search** halves the range at every step, so it needs about \`log2(n)\` comparisons.

\`\`\`rust
/// The position of \`wanted\` in sorted \`values\`.
fn search(values: &[i64], wanted: i64) -> Option<usize> {
    let (mut low, mut high) = (0, values.len());
    while low < high {
        let middle = low + (high - low) / 2; // never overflows
        match values[middle].cmp(&wanted) {
            std::cmp::Ordering::Equal => return Some(middle),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}
\`\`\`

### How it compares

| Method | Needs | Comparisons | Good for |
|:-------|:------|------------:|:---------|
| Linear search | nothing | 500,000 | short lists |
| Binary search | sorted data | 20 | lookups |
| Hash table | memory, a hash | 1 | exact matches |

Keep in mind:

1. The data must be **sorted**.
2. Equal values: *any* of them may be found.
   - take the lower bound if it must be the first
   - see <https://en.wikipedia.org/wiki/Binary_search>
3. On a linked list it gains nothing.

- [x] written
- [ ] tested with an empty slice

> Although the basic idea is simple, the details can be surprisingly tricky. – Donald Knuth`;

const CHINESE = `**二分查找（binary search）**每一步都把范围缩小一半，所以大约需要 \`log2(n)\` 次比较。

1. 数据必须已经排好序。
2. 比较中间的元素：
   - 相等就结束；
   - 较小就看右半边，较大就看左半边。

| 方法 | 前提 | 比较次数 |
|:--|:--|--:|
| 线性查找 | 无 | 500,000 |
| 二分查找 | 已排序 | 20 |

\`\`\`python
def search(values, wanted):
    low, high = 0, len(values)
    while low < high:  # 范围 [low, high)
        middle = (low + high) // 2
        if values[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low
\`\`\`

更多内容见 https://zh.wikipedia.org/wiki/二分查找。`;

const HOSTILE = `<script>window.hurt = 1</script>
<img src=x onerror="window.hurt = 2">

# <svg onload="window.hurt = 3">

[press](javascript:window.hurt=4) [data](data:text/html,<script>window.hurt=5</script>) [tab](java&#9;script:window.hurt=6)
![image](http://127.0.0.1:1/pixel.png) <javascript:window.hurt=7> [vb]( vbscript:x ) [rel](/etc/passwd)

| <b onmouseover="window.hurt=8">cell</b> | [x](javascript:window.hurt=9) |
|--|--|
| <iframe srcdoc="<script>parent.hurt=10</script>"></iframe> | \`<style>*{display:none}</style>\` |

\`\`\`"><script>window.hurt=11</script>
</code></pre><script>window.hurt = 12</script>
\`\`\`

[good](https://example.org/a?b=c&d=e) and mail <mailto:me@example.org> and https://example.com/x_y_z, done.`;

const words = (count) => Array.from({ length: count }, (_, at) => `word${at + 1}${at % 10 === 9 ? '.' : ''}`).join(' ');

/** Of each: how the message begins, and {text, thinking, finish, wait (ms), status and error, breaks (at which token)}. */
export const ANSWERS = [
  [/^code/, { text: CODE }],
  [/^(中文|二分)/, { text: CHINESE }],
  [/^hostile/, { text: HOSTILE }],
  [/^slow/, { text: words(150) }],
  [/^long/, { text: Array.from({ length: 40 }, (_, at) => `Paragraph ${at + 1}. ${words(30)}`).join('\n\n') }],
  [/^wait/, { text: 'It took a while.', wait: 1500 }],
  [/^think/, { text: 'The answer is 42.', thinking: 'Six times nine? No, six times seven.' }],
  [/^tagged/, { text: '<think>Six times seven.</think>\n\nThe answer is 42.' }],
  [/^short/, { text: 'It ends too', finish: 'length' }],
  [/^busy/, { status: 503, error: { message: 'The queue is full: 64 requests wait.', code: 'busy' } }],
  [/^huge/, { status: 400, error: { message: 'needs 9,000 of 4,096 positions', code: 'context_length_exceeded' } }],
  [/^break/, { text: words(20), breaks: 5, error: { message: 'The sampler lost its way.', code: 'internal' } }],
  [/^halt/, { text: words(60), breaks: 20, error: { message: 'the server stops', code: 'server_stopping' } }],
  [/^cut/, { text: words(60), breaks: 20 }],
];
