"""What the demo provider says: its answers, as Markdown, and nothing else.

Owns the words; must not choose among them (demo_scripts does). Every text says or is preceded by a
sentence that says that a script speaks. A pair is (what comes before the break, what comes after):
the models that misbehave break there, and the second half is sent when they are asked to continue.
"""

from __future__ import annotations

# Put in front of any other answer that opens a conversation.
SCRIPT = """\
*I am a script, not a model: this is holychat's offline demo, and what follows was written \
beforehand.*

"""

GREETING = """\
I am a script, not a model: holychat's built-in demo, which needs neither a key nor a network. \
What you see is the real screen, though, fed by a stream of tokens like any other.

Try one of these, or just press on; each turn shows something new:

- `show me everything` for one of each kind of Markdown
- `python`, `a table`, `日本語` or `think` for one kind at a time
- `what did I say?` to see that the conversation is sent along
- `setup` for the way to a real model

**Ctrl-C** stops me in mid-sentence and keeps what came, `/help` lists the commands, and `/quit` \
leaves.
"""

SETUP = """\
## From the demo to a real model

1. **With the wizard.** `holychat setup` asks for a key, checks it and writes the configuration.
2. **By hand.** Set the key in your shell; the next `holychat` finds it:

   ```sh
   export HOLYSHEEP_API_KEY="your key"
   ```

   Other providers go by the same rule: `DEEPSEEK_API_KEY`, `OPENAI_API_KEY` and so on.
3. **Without a key.** A local server such as Ollama needs none: `/provider ollama`.

If something does not work:

| Command | Tells you |
| --- | --- |
| `holychat doctor` | what is wrong, step by step |
| `holychat config` | which settings are in force |
| `holychat providers` | whom you could ask |
| `holychat models` | what they offer |

It works in pipes as well: `git diff | holychat ask "What could break?"`
"""

CODE = """\
This counts the most frequent words of a file. Save it as `words.py`:

```python
import re
import sys
from collections import Counter
from pathlib import Path


def words(text: str) -> list[str]:
    \"\"\"Runs of letters, in lower case; digits and underscores are no letters.\"\"\"
    return re.findall(r"[^\\W\\d_]+", text.lower())


def main(path: str, top: int = 10) -> None:
    counts = Counter(words(Path(path).read_text(encoding="utf-8")))
    for word, count in counts.most_common(top):
        print(f"{count:6}  {word}")


if __name__ == "__main__":
    main(sys.argv[1])
```

Then run it:

```sh
python words.py README.md
```

Two things worth knowing: `[^\\W\\d_]` means *a word character that is neither digit nor \
underscore*, so it finds `naïve` and `数据` too, and `Counter.most_common` keeps the order of \
first appearance among equals. `/copy` takes an answer to your clipboard.
"""

TABLE = """\
The demo's models, most of which misbehave on purpose. Pick one with `/model` and ask anything:

| Model | What it does | What it is good for |
| --- | --- | --- |
| `demo` | answers like this one | a first look |
| `reasoning` | thinks aloud before it answers | `/reasoning` |
| `long-2000` | 2,000 words at 400 a second | watching the screen keep up |
| `slow` | 4 s to the first word, then dawdles | patience |
| `stall` | falls silent in mid-answer | time-outs |
| `cut` | loses the connection in mid-answer | nothing being lost |
| `length` | stops at its length limit | knowing a whole answer from half of one |
| `error` | reports an error in mid-answer | reading what it said |
| `empty` | ends without a word | an honest message |
| `429`, `500` | refuses: too many requests, broken server | retries |

Numbers align to the right, and a column is as wide as its content:

| Planet | Diameter (km) | Year (days) | Moons |
| :--- | ---: | ---: | :---: |
| Mercury | 4,879 | 88.0 | – |
| Venus | 12,104 | 224.7 | – |
| Earth | 12,756 | 365.2 | 1 |
| Mars | 6,792 | 687.0 | 2 |
"""

CJK = """\
Wide characters take two columns each, so borders and line ends show at once whether they were \
counted right:

| Language | Greeting | I am a script, not a model. |
| --- | --- | --- |
| 中文 | 你好！ | 我是脚本，不是模型。 |
| 日本語 | こんにちは！ | 私は台本です。モデルではありません。 |
| 한국어 | 안녕하세요! | 저는 모델이 아니라 대본입니다. |

这一行故意写得很长，用来看看终端在哪里换行：中文没有空格，每个字占两列，所以断行的位置必须按显示宽度计算，而不是按字符数或字节数计算。

日本語の文章も同じです。漢字、ひらがな、カタカナが混ざっていても、行の右端はきれいにそろうはずです。

한국어는 띄어쓰기가 있어서 낱말 사이에서 줄이 바뀝니다.

- Mixed with Latin text: 用 `pip install` 安装，然后运行 **holychat**
- Joined emoji are one picture of several code points: 👩‍💻 and 👨‍👩‍👧
- A combining accent has no column of its own: cafe\u0301 is four columns wide
"""

THOUGHT = """\
The question is open, so I will take one that I know: why is 0.1 + 0.2 not 0.3?

Both are stored in binary. 1/10 has a factor 5 in its denominator, so its binary expansion never \
ends and has to be rounded to 53 bits. So has 1/5. Both happen to be rounded up.

The sum is rounded once more. Is the result the double nearest to 0.3? That one lies just below \
0.3, the sum just above. So they are neighbours, one step apart. That is the answer; now the \
short version, and what to do about it.
"""

REASONING = """\
A script cannot weigh your question, so here is one that it can: **why is `0.1 + 0.2` not `0.3`?**

Binary fractions can hold only sums of halves, quarters, eighths and so on. One tenth is not among \
them, just as one third is not a finite decimal:

$$\\frac{1}{10} = 0.0\\overline{0011}_2$$

So each literal is rounded to the nearest 64-bit number, and the sum is rounded again:

| Written | Stored (first digits) |
| --- | --- |
| `0.1` | 0.100000000000000005551 |
| `0.2` | 0.200000000000000011102 |
| `0.3` | 0.299999999999999988898 |
| `0.1 + 0.2` | 0.300000000000000044409 |

The error is about $4 \\times 10^{-17}$: harmless in a measurement, embarrassing in an invoice.

1. **Compare** with a tolerance, never with `==`.
2. **Money** goes into whole cents or into `Decimal`.

   ```python
   from decimal import Decimal
   from math import isclose

   assert isclose(0.1 + 0.2, 0.3)
   assert Decimal("0.1") + Decimal("0.2") == Decimal("0.3")
   ```

What came before this answer was reasoning. `/reasoning` decides whether you see it.
"""

EVERYTHING = """\
# Everything at once

Text may be *leaning*, **bold**, ***both***, ~~withdrawn~~ or `code`, and a \
[link](https://commonmark.org/help/) leads to more of it.

## Lists

1. Ordered ones keep their numbers
   - nested ones their depth
     - and a long item that does not fit into one line goes on under its own first word, not under \
the bullet
2. like this

- [x] open a terminal
- [x] start the demo
- [ ] ask a real model

### A table

| Left | Centre | Right |
| :--- | :---: | ---: |
| tea | 茶 | 2.50 |
| coffee | 咖啡 | 3.00 |

### Code

```python
from dataclasses import dataclass


@dataclass(frozen=True)
class Cup:
    drink: str = "tea"

    def __str__(self) -> str:
        return f"a cup of {self.drink}"  # no sugar
```

### A quotation

> Simplicity is prerequisite for reliability.
>
> — Edsger W. Dijkstra

### Mathematics

Inline it reads $e^{i\\pi} + 1 = 0$, and on its own:

$$\\sum_{k=1}^{n} k = \\frac{n(n+1)}{2}$$

---

That was all of it 🎉 Ask for `python`, `a table`, `日本語` or `think` to see more of one kind.
"""

SLOW = """\
A script wrote this, slowly on purpose. For four seconds it sent only comments to keep the \
connection open, which are no tokens. The time to the first token is what you felt. Ctrl-C works \
while you wait, too.
"""

CUT = (
    """\
This is a script that loses its connection on purpose. The words that you are reading arrived \
before that; the last of them will be followed by nothing, not even a full stop, because the """,
    """\
connection broke right here. If you can read this sentence, the rest was fetched afterwards, and \
no word is missing or doubled at the seam.
""",
)

STALL = (
    """\
This is a script that falls silent on purpose. The connection stays open, but no token follows \
this one, and only a timer can tell that from """,
    """\
patience. If you can read this sentence, somebody asked again and was answered.
""",
)

ERROR = (
    """\
This is a script that fails on purpose. The status was 200 and the first words were fine, but now \
an error comes in place of """,
    """\
the rest. If you can read this sentence, somebody asked again and was answered.
""",
)

LENGTH = (
    """\
This is a script that runs into its length limit on purpose. It did not finish, it was stopped, \
and the difference matters most when the text looks nearly """,
    """\
complete. If you can read this sentence, the answer was continued and is whole now.
""",
)

NO_HISTORY = """\
That is the first message you sent me in this conversation, so there is nothing to remember yet. \
Ask again in the next turn.
"""

HISTORY = """\
With this request I received **{count}**: {roles}. I keep nothing between requests, so all of \
it was sent again just now.

Your previous message was:

{quote}
"""
