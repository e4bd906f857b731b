from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from holychat.store.files import append_private, tighten, write_private

if TYPE_CHECKING:
    from pathlib import Path

POSIX = pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("write", [write_private, append_private])
@POSIX
def test_files_and_their_folder_are_private(tmp_path: Path, write: object) -> None:
    path = tmp_path / "own" / "file"
    write(str(path), b"data")  # type: ignore[operator]
    assert path.read_bytes() == b"data"
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a long old text")
    write_private(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


@POSIX
def test_a_file_that_others_could_read_no_longer_can(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_private(str(path), b"new")
    assert mode(path) == 0o600


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(OSError, match="folder"):
        write_private(str(path), b"new")
    assert os.listdir(tmp_path) == ["folder"]


def test_lines_of_many_writers_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = [b"%d " % number * 500 + b"\n" for number in range(100)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda line: append_private(str(path), line), lines))
    assert sorted(path.read_bytes().splitlines(keepends=True)) == sorted(lines)


@POSIX
def test_what_others_can_read_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old ")
    path.chmod(0o644)
    append_private(str(path), b"new")
    assert (path.read_bytes(), mode(path)) == (b"old new", 0o600)
    tmp_path.chmod(0o755)
    tighten(str(tmp_path), 0o700)
    assert mode(tmp_path) == 0o700
    path.chmod(0o400)
    tighten(str(path), 0o600)
    assert mode(path) == 0o400  # nothing is added
    tighten(str(tmp_path / "nothing"), 0o600)
