"""Search: words, beginnings, Chinese, code, filters, and every odd thing that a user may type."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holychat.core.history import Filter, Found
from holychat.store import conversations
from holychat.store.db import Database
from holychat.store.search import search

TEXTS = {
    "zebra": "The zebra crosses the road at night.",
    "zebras": "Two zebras, then three zebras and more zebras.",
    "resume": "Mon résumé était à jour.",
    "cyrillic": "Привет, мир! Как дела?",
    "han": "数据库的性能很好，我们用索引。",
    "han-end": "最后是鯨",
    "code": "if (p->next != NULL) foo_bar(x); // \"quoted\" 'single' 100%",
    "python": "def parse_header(line):\n    return line.split(': ')[0]",
    "long": "x " * 200 + "needle" + " y" * 200,
    "turkish": "İstanbul'da güzel bir gün",
    "nul": "before\0after",
    "emoji": "done 🎉🎉 today",
}


def fill(db: Database) -> None:
    with db.write():
        for number, (name, text) in enumerate(TEXTS.items()):
            db.run(
                "INSERT INTO conversations (id, title, created, updated, provider, model)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (name, name, number, number, f"p{number % 2}", f"Model-{number % 3}"),
            )
            db.run(
                "INSERT INTO messages (conversation, role, text, created) VALUES (?, 'user', ?, 1)",
                (name, text),
            )


@pytest.fixture(scope="module")
def db() -> Iterator[Database]:
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Database(str(Path(folder) / "s.db"))) as db,
    ):
        fill(db)
        yield db


def names(found: list[Found]) -> list[str]:
    return [each.conversation.id for each in found]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("zebra", {"zebra", "zebras"}),
        ("zeb", {"zebra", "zebras"}),
        ("zebras", {"zebras"}),
        ("ZEBRA road", {"zebra"}),
        ("road zebra", {"zebra"}),
        ("zebra lion", set()),
        ("ebra", {"zebra", "zebras"}),
        ("resume", {"resume"}),
        ("RÉSUMÉ", {"resume"}),
        ("etait", {"resume"}),
        ("etai", {"resume"}),
        ("привет", {"cyrillic"}),
        ("риве", {"cyrillic"}),
        ("дел", {"cyrillic"}),
        ("数", {"han"}),
        ("性能", {"han"}),
        ("数据库", {"han"}),
        ("数据库 索引", {"han"}),
        ("数据 鯨", set()),
        ("鯨", {"han-end"}),
        ("是鯨", {"han-end"}),
        ("後", set()),
        ("foo_bar(x)", {"code"}),
        ("FOO_BAR", {"code"}),
        ("->next", {"code"}),
        ("->", {"code"}),
        ("!=", {"code"}),
        ("%", {"code"}),
        ('"quoted"', {"code"}),
        ("100%", {"code"}),
        ("parse_header(line):", {"python"}),
        (": ')[0]", {"python"}),
        ("split(':", {"python"}),
        ("istanbul", {"turkish"}),
        ("🎉", {"emoji"}),
        ("🎉🎉 today", {"emoji"}),
        ("after", {"nul"}),
        ("", set()),
        ("  ", set()),
    ],
)
def test_what_is_found(db: Database, query: str, expected: set[str]) -> None:
    assert set(names(search(db, query))) == expected


@pytest.mark.parametrize(
    "query",
    ['"', '""', "'", "*", "zebra*", "zebra OR road", "NEAR(zebra, 2)", "text:zebra", "(", ")", "^a",
     "a AND", "NOT", "-zebra", "+", "{x}", "\\", "%_", "zebra;--", "\0", "a\0b", "\ud800", "×÷",
     "½", "x" * 5000, "a b " * 500, "ab" * 400 + "(", "數" * 300, "e\u0301", "\u0301", "\u200b"],
)  # fmt: skip
def test_what_means_something_to_fts_or_sql_is_harmless(db: Database, query: str) -> None:
    search(db, query)


@given(st.text(st.characters(), max_size=30))
def test_no_query_raises(db: Database, query: str) -> None:
    search(db, query)


@given(st.data())
def test_every_fragment_is_found(db: Database, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(TEXTS)))
    text = TEXTS[name].replace("\0", "\ufffd")
    start = data.draw(st.integers(0, len(text) - 1))
    fragment = text[start : start + data.draw(st.integers(1, 12))]
    if not fragment.strip() or "İ" in fragment:
        return
    found = search(db, fragment)
    if not all(part.isalnum() and part.isascii() for part in fragment.split()):
        assert name in names(found)
    assert found  # words that others have are enough for words


def test_the_hit_and_what_is_around_it(db: Database) -> None:
    for query, match in [
        ("zebra road", "zebra"),
        ("RESUME", "résumé"),
        ("性能", "性能"),
        ("foo_bar(x)", "foo_bar(x)"),
        ("needle", "needle"),
        ("etait", "était"),
    ]:
        found = search(db, query)[0]
        assert found.match == match
        whole = " ".join(TEXTS[found.conversation.id].split())
        assert (found.before + found.match + found.after).strip("…") in whole
    needle = search(db, "needle")[0]
    assert (needle.before[0], needle.after[-1]) == ("…", "…")
    assert len(needle.before) < 70


def test_a_word_is_shown_where_it_begins(tmp_path: Path) -> None:
    with closing(Database(str(tmp_path / "s.db"))) as db:
        add(db, "a", "other people see the end")
        assert search(db, "the")[0].before == "other people see "


def add(db: Database, conversation: str, *texts: str) -> None:
    with db.write():
        db.run("INSERT INTO conversations (id, created, updated) VALUES (?, 1, 1)", (conversation,))
        for text in texts:
            db.run(
                "INSERT INTO messages (conversation, role, text, created) VALUES (?, 'user', ?, 1)",
                (conversation, text),
            )


def test_the_best_comes_first_and_the_newer_of_equals(tmp_path: Path) -> None:
    with closing(Database(str(tmp_path / "s.db"))) as db:
        add(db, "best", "zebra zebra zebra")
        add(db, "long", "zebra " + "and other things " * 200)
        add(db, "old", "a zebra")
        add(db, "new", "a zebra")
        assert names(search(db, "zebra")) == ["best", "new", "old", "long"]
        assert names(search(db, "zebra", most=2)) == ["best", "new"]


@pytest.mark.parametrize("query", ["zebra", "zeb", "ebr"])
def test_filters(db: Database, query: str) -> None:
    assert names(search(db, query, Filter(provider="p1"))) == ["zebras"]
    assert names(search(db, query, Filter(model="model-0"))) == ["zebra"]
    assert names(search(db, query, Filter(since=1))) == ["zebras"]
    assert names(search(db, query, Filter(until=1))) == ["zebra"]
    assert names(search(db, query, Filter(since=5))) == []
    assert names(search(db, query, Filter(provider="p2"))) == []


def test_a_filter_reaches_behind_the_newest_hits(tmp_path: Path) -> None:
    with closing(Database(str(tmp_path / "s.db"))) as db:
        add(db, "first", "zebra")
        add(db, "later", *["zebra"] * 3000)
        with db.write():
            db.run("UPDATE conversations SET updated = 9 WHERE id = 'later'")
        assert names(search(db, "zebra", Filter(until=5))) == ["first"]


def test_what_is_deleted_or_changed_is_not_found_any_more(tmp_path: Path) -> None:
    with closing(Database(str(tmp_path / "s.db"))) as db:
        add(db, "a", "zebra 数据库", "again a zebra")
        add(db, "b", "zebra\0数据库")
        conversations.delete(db, ["a"])
        assert names(search(db, "zebra")) == names(search(db, "数据")) == ["b"]
        with db.write():
            db.run("UPDATE messages SET text = 'lion 鯨'")
        assert search(db, "zebra") == search(db, "数据库") == []
        assert names(search(db, "lion 鯨")) == ["b"]
        assert db.check() == []
