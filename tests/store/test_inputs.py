from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

from holychat.store import inputs


def test_entries_come_back_in_order_and_repeats_once(tmp_path: Path) -> None:
    path = str(tmp_path / "deep" / "inputs.jsonl")
    for text in ("one", "two\nlines \u2028 and ␛", "two\nlines \u2028 and ␛", "three"):
        inputs.add(path, text)
    assert inputs.read(path) == ["one", "two\nlines \u2028 and ␛", "three"]
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert Path(path).parent.stat().st_mode & 0o777 == 0o700


def test_half_a_line_of_a_killed_writer_spoils_nothing(tmp_path: Path) -> None:
    path = tmp_path / "inputs.jsonl"
    inputs.add(str(path), "before")
    with path.open("ab") as file:
        file.write(b'"half a l')
    inputs.add(str(path), "after")
    with path.open("ab") as file:
        file.write(b"\n\xff\xfe\n[1]\n" + b"[" * 100_000)
    assert inputs.read(str(path)) == ["before", "after"]


def test_a_missing_file_is_an_empty_history(tmp_path: Path) -> None:
    assert inputs.read(str(tmp_path / "none")) == []


def test_only_the_newest_part_of_a_huge_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "inputs.jsonl"
    path.write_text("".join(json.dumps(f"{n} " + "x" * 1000) + "\n" for n in range(4000)))
    entries = inputs.read(str(path))
    assert entries[-1].startswith("3999 ")
    assert 1000 < len(entries) < 4000


def _write(path: str, who: int) -> None:
    for number in range(200):
        inputs.add(path, f"{who}:{number} " + "y" * (number * 7))


def test_several_processes_lose_nothing_and_mix_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "inputs.jsonl")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, who)) for who in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    entries = [tuple(entry.split(" ")[0].split(":")) for entry in inputs.read(path)]
    assert len(entries) == 1200
    for who in range(6):
        assert [int(n) for w, n in entries if w == str(who)] == list(range(200))
