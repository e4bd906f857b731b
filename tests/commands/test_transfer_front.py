from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from holychat import env
from holychat.commands.history.transfer import export, import_
from holychat.core.failure import UsageError
from holychat.core.formats import Whole, document, record
from holychat.exits import Exit
from holychat.store.conversations import get, listing
from holychat.store.db import Database
from holychat.store.transfer import dump, restore
from tests import llm_logs
from tests.core.test_foreign import TALK
from tests.wholes import RICH, WHOLE

if TYPE_CHECKING:
    from pathlib import Path

OTHER = replace(
    WHOLE,
    conversation=replace(WHOLE.conversation, id="mnpqrstuvwxy", title="The other", updated=1),
)


NAMES = {"md": "Markdown", "json": "JSON", "html": "HTML"}


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "data" / "store.db")


@pytest.fixture
def full(store: str) -> str:
    put(store, WHOLE, OTHER)
    return store


def put(store: str, *wholes: Whole) -> None:
    with contextlib.closing(Database(store)) as db:
        for whole in wholes:
            restore(db, whole)


def held(store: str) -> dict[str, object]:
    with contextlib.closing(Database(store)) as db:
        return {each.id: record(dump(db, each.id)) for each in listing(db)}


# --- Out ----------------------------------------------------------------------------------------


def test_markdown_goes_to_stdout(full: str, capfd: pytest.CaptureFixture[str]) -> None:
    for out in ("", "-"):
        assert export(full, ["abcd"], "md", out) is Exit.OK
        shown = capfd.readouterr()
        assert shown.out.startswith("# Why is the sky blue?\n")
        assert "*(stopped)*" in shown.out
        assert "The other" not in shown.out
        assert shown.err == ""


def test_json_is_the_document(full: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert export(full, ["mnpq", "abcd", "the other"], "json", "") is Exit.OK
    assert capfd.readouterr().out == "".join(document([OTHER, WHOLE]))


def test_all_of_them_where_none_is_named(full: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert export(full, [], "json", "") is Exit.OK
    assert capfd.readouterr().out == "".join(document([WHOLE, OTHER]))


@pytest.mark.parametrize("form", ["md", "json", "html"])
def test_a_file_is_private_and_never_overwritten(
    full: str, tmp_path: Path, form: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.x"
    assert export(full, [], form, str(path)) is Exit.OK
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", f"2 conversations written to {path} as {NAMES[form]}\n")
    text = path.read_text()
    assert "Why is the sky blue?" in text
    assert "The other" in text
    with pytest.raises(UsageError, match="is there already"):
        export(full, [], form, str(path))
    assert path.read_text() == text


def test_a_link_to_nowhere_is_something_that_is_there(full: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(UsageError, match="is there already"):
        export(full, [], "md", str(tmp_path / "link"))
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("a.html", "<!DOCTYPE"),
        ("a.JSON", '{"format"'),
        *((name, "# ") for name in ("a", "a.md", "a.txt", "2026.01/a")),
    ],
)
def test_the_ending_tells_the_form(full: str, tmp_path: Path, name: str, begins: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    assert export(full, ["abcd"], "", str(tmp_path / name)) is Exit.OK
    assert (tmp_path / name).read_text().startswith(begins)


@pytest.mark.parametrize("name", ["a.pdf", "a.jsn", "store.db"])
def test_an_ending_that_tells_no_form(full: str, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} does not tell its form") as caught:
        export(full, [], "", str(tmp_path / name))
    assert ".md, .txt, .html or .json" in caught.value.hint
    assert "--format" in caught.value.hint
    assert not (tmp_path / name).exists()
    assert export(full, [], "md", str(tmp_path / name)) is Exit.OK


def test_json_to_stdout_is_the_document(full: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert export(full, ["abcd"], "", "", json=True) is Exit.OK
    assert capfd.readouterr().out == "".join(document([WHOLE]))
    with pytest.raises(UsageError, match="--json"):
        export(full, [], "html", "", json=True)


def test_what_cannot_be_written_leaves_nothing(
    full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        export(full, [], "md", str(tmp_path / "no" / "a.md"))
    path = tmp_path / "a.md"

    def fail(*_: object) -> Whole:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("holychat.store.transfer.dump", fail)
    with pytest.raises(env.OutputFailed, match="No space"):
        export(full, [], "md", str(path))
    assert not path.exists()


def test_what_cannot_be_exported_is_said(full: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no form"):
        export(full, [], "pdf", "")
    with pytest.raises(UsageError, match="no conversation is called"):
        export(full, ["nothing like it"], "md", "")
    with pytest.raises(UsageError, match="no conversations yet"):
        export(str(tmp_path / "none.db"), [], "md", "")
    assert not (tmp_path / "none.db").exists()
    empty = str(tmp_path / "empty.db")
    put(empty)
    with pytest.raises(UsageError, match="no conversation to export"):
        export(empty, [], "md", "")


def test_a_page_is_not_for_a_terminal(full: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "is_terminal", lambda _: True)
    with pytest.raises(UsageError, match="not for the terminal"):
        export(full, [], "html", "")


# --- In -----------------------------------------------------------------------------------------


def test_out_and_in_again_is_the_same(
    full: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second, other = tmp_path / "a.json", tmp_path / "b.json", str(tmp_path / "other.db")
    put(full, replace(RICH, conversation=replace(RICH.conversation, id="rstuvwxyzabc", updated=2)))
    assert export(full, [], "json", str(first)) is Exit.OK
    assert '"cost_picos": 4611686018427387905' in first.read_text()
    assert import_(other, str(first), "") is Exit.OK
    assert capfd.readouterr().out == "3 conversations imported\n"
    assert export(other, [], "json", str(second)) is Exit.OK
    assert second.read_bytes() == first.read_bytes()
    assert held(other) == held(full)
    capfd.readouterr()
    assert import_(other, str(first), "holychat") is Exit.OK
    assert capfd.readouterr().out == "3 conversations there already, unchanged\n"
    assert held(other) == held(full)


def test_another_one_of_that_id_stays(
    full: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    changed = replace(WHOLE, conversation=replace(WHOLE.conversation, title="Changed"))
    path = tmp_path / "a.json"
    path.write_text("".join(document([changed, OTHER])))
    before = held(full)
    assert import_(full, str(path), "") is Exit.OK
    shown = capfd.readouterr()
    assert shown.out == "1 conversation imported, 1 conversation there already, unchanged\n"
    assert "another conversation has the id of “Changed”: it is " in shown.err
    after = held(full)
    assert len(after) == 3
    assert {key: after[key] for key in before} == before


def test_the_kind_is_told_by_what_is_in_it(
    store: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logs = llm_logs.new(tmp_path / "x.json").path
    talks = tmp_path / "y.db"
    talks.write_text("\ufeff" + json.dumps([TALK]))
    assert import_(store, str(logs), "") is Exit.OK
    assert import_(store, str(talks), "") is Exit.OK
    assert capfd.readouterr().out == "3 conversations imported\n1 conversation imported\n"
    assert import_(store, str(logs), "llm") is Exit.OK
    assert import_(store, str(talks), "chatgpt") is Exit.OK
    assert "imported" not in capfd.readouterr().out
    with contextlib.closing(Database(store)) as db:
        assert sorted({each.origin for each in listing(db)}) == ["chatgpt", "llm"]
        assert get(db, listing(db)[0].id).messages > 0


@pytest.mark.parametrize(
    ("data", "form", "said"),
    [
        (b"", "", "holds no conversations that holychat knows"),
        (b"# Hello", "", "holds no conversations that holychat knows"),
        (b"\x89PNG\r\n", "", "holds no conversations that holychat knows"),
        (b'{"a": 1}', "", "holds no conversations that holychat knows"),
        (b"[1]", "", "holds no conversations that holychat knows"),
        (b'{"format": "holychat",\n oops', "", "line 2, column 2: "),
        (b'{"format": "holychat", "version": 7}', "", "of version 7"),
        (b'{"format": "holychat", "version": 1, "conversations": []}', "llm", "no file of llm's"),
        (b"SQLite format 3\x00", "chatgpt", "no file of chatgpt's"),
        (b"SQLite format 3\x00", "", "cannot be read as llm's"),
        (b"[]", "pdf", "no kind of a file"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    store: str, tmp_path: Path, data: bytes, form: str, said: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(UsageError) as caught:
        import_(store, str(path), form)
    assert said in caught.value.what
    assert "\n" not in caught.value.what
    assert not os.path.exists(os.path.dirname(store))


def test_files_that_are_none(store: str, tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            import_(store, str(path), "")


def test_one_wrong_conversation_brings_in_none(store: str, tmp_path: Path) -> None:
    value = json.loads("".join(document([WHOLE, OTHER])))
    value["conversations"][1]["messages"][0]["role"] = "nobody"
    path = tmp_path / "a.json"
    path.write_text(json.dumps(value))
    with pytest.raises(UsageError, match=r"conversation 2 .*role must be"):
        import_(store, str(path), "")
    assert not os.path.exists(store)


def test_a_file_with_nothing_in_it(
    store: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    path.write_text("".join(document([])))
    assert import_(store, str(path), "") is Exit.OK
    assert capfd.readouterr().out == "There is no conversation in it.\n"
    assert not os.path.exists(store)


def test_what_was_brought_in_as_json(
    full: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    new = replace(WHOLE, conversation=replace(WHOLE.conversation, id="zzzzzzzzzzzz", title="New"))
    changed = replace(OTHER, conversation=replace(OTHER.conversation, title="Changed"))
    path = tmp_path / "a.json"
    path.write_text("".join(document([WHOLE, new, changed])))
    assert import_(full, str(path), "", json=True) is Exit.OK
    shown = capfd.readouterr()
    told = json.loads(shown.out)
    assert (told["imported"], told["unchanged"], shown.err) == (2, 1, "")
    rows = told["conversations"]
    assert [row["title"] for row in rows] == [WHOLE.conversation.title, "New", "Changed"]
    assert [row["new"] for row in rows] == [False, True, True]
    assert [row["renamed"] for row in rows] == [False, False, True]
    assert {row["id"] for row in rows} <= set(held(full))


def test_a_file_with_nothing_in_it_as_json(
    store: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    path.write_text("".join(document([])))
    assert import_(store, str(path), "", json=True) is Exit.OK
    told = json.loads(capfd.readouterr().out)
    assert told == {"imported": 0, "unchanged": 0, "conversations": []}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "nothing on stdin"),
        (b"SQLite format 3\x00", "a database cannot be read from stdin"),
        (b"# Hello", "stdin holds no conversations"),
    ],
)
def test_what_stdin_cannot_bring(
    store: str, monkeypatch: pytest.MonkeyPatch, data: bytes | None, said: str
) -> None:
    monkeypatch.setattr(env, "piped_bytes", lambda _: data)
    with pytest.raises(UsageError, match=said):
        import_(store, "-", "")
    assert not os.path.exists(store)


def test_a_long_title_is_cut_and_known_when_it_comes_again(
    store: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    whole = replace(WHOLE, conversation=replace(WHOLE.conversation, title="x " * 50_000))
    path.write_text("".join(document([whole])))
    for said in ("imported", "there already, unchanged"):
        assert import_(store, str(path), "") is Exit.OK
        assert capfd.readouterr().out == f"1 conversation {said}\n"
    with contextlib.closing(Database(store)) as db:
        [title] = [row["title"] for row in db.rows("SELECT title FROM conversations")]
    assert len(title) <= 200
    assert title.endswith("x…")
