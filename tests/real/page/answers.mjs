// What the stand-in relay and the stand-in provider answer: the first word of the prompt says it.

const HOSTILE = `Before <script>window.hacked = 1</script> after.

<script>window.hacked = 2</script>

<img src=x onerror="window.hacked = 3">

<iframe srcdoc="<script>parent.hacked = 4</script>"></iframe>

</textarea></script></style><svg onload="window.hacked = 5">

[one](javascript:window.hacked=6) [two](  JaVaScRiPt:alert(1)) [three](data:text/html,<script>1</script>)
[four](vbscript:x) [five](<java\tscript:alert(1)>) [six](//evil.example) ![seven](javascript:alert(1))
![a picture](https://evil.example/track.png) <javascript:alert(1)> [https://good.example](https://evil.example)
[fine](https://good.example/a_b(c)?d=1&e="f") <https://good.example/> bare https://good.example/x_y. mailto: [me](mailto:a@b.example)

| <img onerror=x> | [t](javascript:1) |
|---|---|
| <b>bold</b><br>next | \`<script>\` \\| pipe |

Controls \u001b[31m \u202eevil\u202c \u0007 end.

\`\`\`html"><script>window.hacked=7</script>
</code></pre><script>window.hacked = 8</script>
\`\`\`
`;

const TOUR = `# Streams, line by line

An **event stream** ends its lines only at \`CR\`, \`LF\` or \`CR LF\`, so \`str.splitlines()\` is *the
wrong tool*: it also splits at U+2028. See [the standard](https://html.spec.whatwg.org/multipage/).

## What to do

1. Read **bytes**, not text.
2. Split at the line ends that are allowed:
   - \`\\n\`
   - \`\\r\\n\`
     1. which may come in two chunks
     2. so keep what is left
3. Decode each line alone.

- [x] tested with a split at every byte
- [ ] measured

\`\`\`python
def lines(chunks):
    """Whole lines of a stream of bytes."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\\n")
        yield from (line.removesuffix(b"\\r") for line in whole)
\`\`\`

> Be strict in what you send,
> and **linear** in what you read.
>
> - also in a quote

| Call | Splits at U+2028 | Time for 1 MB |
| :--- | :---: | ---: |
| \`splitlines()\` | yes | 2.1 ms |
| \`split(b"\\n")\` | no | 0.8 ms |

---

Hard break here  
and the next line. ~~Gone~~. \\*Not emphasis\\*. Math: \\(a_1 * b_1 * c\\) &amp; more.
`;

const RTL = `# مرحبا بالعالم

هذا نص **عربي** مع \`code\` و [رابط](https://example.org) في الوسط.

- البند الأول
- البند الثاني
  - بند فرعي

> اقتباس قصير

| اسم | قيمة |
|---|---|
| واحد | 1 |

And a paragraph in English, then עברית באמצע, and back.

**重要：**中文文本，参见 https://example.org/路径。谢谢
`;

const WIDE = `A table that is wider than a phone:

| Provider | Model | First token p50 | First token p95 | Cost of a million tokens in | Out | Remarks |
|---|---|---:|---:|---:|---:|---|
${["holysheep", "deepseek", "openrouter"].map((name) => `| ${name} | ${name}-chat-with-a-long-name | 0.31 s | 1.20 s | $0.14 | $0.28 | works well, also at night |`).join("\n")}

A word: ${"Donaudampfschifffahrtsgesellschaft".repeat(12)}

\`${"x".repeat(300)}\`

\`\`\`
${"a long line of code that goes on ".repeat(12)}
\`\`\`

https://example.org/${"path/".repeat(60)}
`;

const words = (count) => Array.from({ length: count }, (_, at) => `word${at % 97}`).join(" ");
export const BIG = {
  mixed: Array.from({ length: 220 }, (_, at) => `## Part ${at}\n\n${words(60)} **bold** \`code\`\n\n- one\n- two\n\n\`\`\`js\nlet x = ${at};\nconsole.log(x);\n\`\`\`\n`).join("\n"),
  code: "```python\n" + Array.from({ length: 2600 }, (_, at) => `    print("line ${at}", value)  # why`).join("\n") + "\n```\n",
  table: "| a | b | c |\n|---|---|---|\n" + Array.from({ length: 3000 }, (_, at) => `| row ${at} | **${at * 7}** | some more of the text |`).join("\n") + "\n",
  list: Array.from({ length: 3000 }, (_, at) => `${at + 1}. item ${at} with \`code\` and some more text`).join("\n") + "\n",
  paragraph: words(14000),
  line: "```\n" + "abcdefghij".repeat(10000) + "\n```\n",
  quote: Array.from({ length: 2500 }, (_, at) => `> quoted line ${at} with *emphasis* and words`).join("\n") + "\n",
  hard: "*a **b [c ".repeat(10000),
};

const failed = new Set();  // what fails but once

/* { reasoning, notices, text, ends: "stop" or "error", pace: milliseconds, size: characters }. */
export function answer(prompt) {
  const [first, second] = prompt.trim().split(/\s+/);
  const made = { reasoning: "", notices: [], text: `You said: ${prompt}`, ends: "stop", pace: 5, size: 7 };
  if (first === "hostile") return { ...made, text: HOSTILE };
  if (first === "tour") return { ...made, text: TOUR };
  if (first === "rtl") return { ...made, text: RTL };
  if (first === "wide") return { ...made, text: WIDE };
  if (first === "open") return { ...made, text: "Text **bold\n\n```js\nlet a = 1;\nlet b = `<b>`;\n" };
  if (first === "big") return { ...made, text: BIG[second ?? "mixed"], pace: 4, size: 200 };
  if (first === "burst") return { ...made, text: BIG[second ?? "mixed"], pace: 0, size: 1e9 };
  if (first === "slow") return { ...made, text: words(4000), pace: 30 };
  if (first === "flaky" && !failed.has(prompt)) return failed.add(prompt), { ...made, text: "", ends: "error" };
  if (first === "fail") return { ...made, text: "", ends: "error" };
  if (first === "think") {
    return { ...made, reasoning: "First the **question**.\n\n- then\n- the rest\n", text: TOUR,
      notices: ["holysheep 429: asking deepseek"] };
  }
  return made;
}
