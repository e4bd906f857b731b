"""A store as years of use would leave it, made in minutes: the material of `store.py`.

Words come as they do in a language: few are everywhere, most are rare (Zipf). Each message is put
together from sentences that were made beforehand, one in eight with code, one in twelve Chinese.
The rows go in through the triggers, many in one transaction: the search indexes are merged as they
grow and not made at once, though out of bigger pieces than single turns would give.
"""

from __future__ import annotations

import itertools
import random
import sqlite3

from holychat.core.titles import title_of
from holychat.store.db import Database
from holychat.store.ids import LETTERS

A_CONVERSATION = 10  # messages
BATCH = 20_000  # messages in one transaction
RARE = "quixotically"  # in RARE_TIMES messages
RARE_TIMES = 12
FREQUENT = "the"
FRAGMENT = "->next_item(ctx)"  # code, in RARE_TIMES messages
HAN = "鯨鯢"  # in RARE_TIMES messages
HAN_FREQUENT = "数据"
START = 1_600_000_000_000  # Unix time in milliseconds
MODELS = ("gpt-large", "deepseek-chat", "qwen-next")
ROLES = ("user", "assistant")

VOWELS = ("a", "e", "i", "o", "u", "an", "er", "ist")
SYLLABLES = [a + b for a in "bcdfghklmnprstvw" for b in VOWELS]
COMMON = """
    the of and to in a is that for it you with as this be are on can by or use will from not an
    have if file which when each your line value code data function so but there one list name
"""
CODE = (
    "def {0}_{1}(x):\n    return {1}[x] + {0}\n",
    "for {0} in range(len({1})):\n    print({0}, {1}[{0}])\n",
    "if (node->{0} != NULL) node->{1} = node->{0}->next;\n",
    "const {0} = await fetch(`/api/{1}?id=${{id}}`);\n",
    "SELECT {0}, count(*) FROM {1} GROUP BY {0};\n",
)


class Words:
    """Sentences of three kinds, drawn again and again."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        draw = self._random
        names = {
            "".join(draw.choices(SYLLABLES, k=draw.choice((2, 2, 3, 3, 4)))) for _ in range(40_000)
        }
        self._vocabulary = [*COMMON.split(), *sorted(names)]
        self._weights = list(
            itertools.accumulate(1 / (n + 3) for n in range(len(self._vocabulary)))
        )
        # Two-character words, as most Chinese words are; the first ones are in most texts.
        hans = [
            chr(0x4E00 + draw.randrange(6000)) + chr(0x4E00 + draw.randrange(6000))
            for _ in range(8000)
        ]
        self._hans = [HAN_FREQUENT, *hans]
        self._han_weights = list(itertools.accumulate(1 / (n + 3) for n in range(len(self._hans))))
        self.english = [self._sentence() for _ in range(60_000)]
        self.chinese = [self._chinese() for _ in range(15_000)]
        self.code = [self._code() for _ in range(15_000)]

    def _sentence(self) -> str:
        words = self._random.choices(
            self._vocabulary, cum_weights=self._weights, k=self._random.randint(6, 16)
        )
        return " ".join(words).capitalize() + ". "

    def _chinese(self) -> str:
        words = self._random.choices(
            self._hans, cum_weights=self._han_weights, k=self._random.randint(4, 12)
        )
        return "".join(words) + "。"

    def _code(self) -> str:
        draw = self._random
        return draw.choice(CODE).format(*draw.choices(self._vocabulary[40:], k=2))

    def message(self, prompt: bool) -> str:
        draw = self._random
        kind = draw.random()
        sentences = draw.randint(1, 3) if prompt else draw.randint(2, 11)
        if kind < 1 / 12:
            return "".join(draw.choices(self.chinese, k=sentences))
        text = "".join(draw.choices(self.english, k=sentences))
        if kind > 7 / 8:
            text += "\n```\n" + "".join(draw.choices(self.code, k=2)) + "```\n"
        return text


def fill(path: str, messages: int) -> None:
    """Make a store with so many messages, ten in each conversation."""
    words, draw = Words(), random.Random(2)
    Database(path).close()
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("synchronous = OFF", "cache_size = -200000"):  # nothing else is faster than life
        connection.execute(f"PRAGMA {pragma}")
    numbers = range(messages // A_CONVERSATION)
    size = BATCH // A_CONVERSATION
    for at in range(0, len(numbers), size):
        connection.execute("BEGIN IMMEDIATE")
        for number in numbers[at : at + size]:
            _conversation(connection, number, words, draw, len(numbers))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


def _conversation(
    connection: sqlite3.Connection, number: int, words: Words, draw: random.Random, count: int
) -> None:
    identity = "".join(draw.choices(LETTERS, k=12))
    first, at = number * A_CONVERSATION + 1, START + number * 3_600_000
    ids = range(first, first + A_CONVERSATION)
    texts = [words.message(prompt=n % 2 == 0) for n in range(A_CONVERSATION)]
    if number % max(1, count // RARE_TIMES) == 0:
        texts[1] += f"It was {RARE} so.\n`node{FRAGMENT}`\n他见过{HAN}吗？"
    model = draw.choice(MODELS)
    connection.execute(
        "INSERT INTO conversations (id, title, created, updated, provider, model, head, messages)"
        " VALUES (?, ?, ?, ?, 'box', ?, ?, ?)",
        (identity, title_of(texts[0]), at, at + 9000, model, ids[-1], A_CONVERSATION),
    )
    connection.executemany(
        "INSERT INTO messages (id, conversation, parent, role, text, created)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (ids[n], identity, ids[n - 1] if n else None, ROLES[n % 2], text, at + n * 1000)
            for n, text in enumerate(texts)
        ],
    )
    turns = [
        (ids[n] // 2, identity, ids[n - 1], ids[n], at + n * 1000, model)
        for n in range(1, A_CONVERSATION, 2)
    ]
    connection.executemany(
        "INSERT INTO turns (id, conversation, prompt, answer, started, finish, provider, model,"
        " prompt_tokens, completion_tokens, total)"
        " VALUES (?, ?, ?, ?, ?, 'stop', 'box', ?, 500, 200, 3.5)",
        turns,
    )
    connection.executemany(
        "INSERT INTO attempts (turn, provider, model, started, finish, prompt_tokens,"
        " completion_tokens, total) VALUES (?, 'box', ?, ?, 'stop', 500, 200, 3.5)",
        [(turn[0], model, turn[4]) for turn in turns],
    )
