from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from holychat.core.context import Known
from holychat.core.provider import QUIRKS, Provider, Quirks
from holychat.store.learned import WINDOW, Learned

if TYPE_CHECKING:
    from pathlib import Path

HERE, THERE = "http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"
TAUGHT = Quirks(stream_options=False, max_tokens="max_completion_tokens")


def learned(folder: Path, base_url: str = HERE, dialect: str = "plain") -> Learned:
    return Learned(str(folder), lambda name: Provider(name, base_url, dialect=dialect))


def test_nothing_is_known_at_first(tmp_path: Path) -> None:
    memory = learned(tmp_path)
    assert memory.models("box") == []
    assert memory.models_age("box", 5.0) is None
    assert "box" not in memory.quirks
    assert memory.quirks.get("box", QUIRKS["openai"]) is QUIRKS["openai"]
    assert os.listdir(tmp_path) == []


def test_it_survives_the_process(tmp_path: Path) -> None:
    first = learned(tmp_path)
    first.remember_models("box", ["a", "数"], 100.0)
    first.quirks["box"] = TAUGHT
    again = learned(tmp_path)
    assert again.models("box") == ["a", "数"]
    assert again.models_age("box", 130.0) == 30.0
    assert again.quirks["box"] == TAUGHT
    assert again.models("other") == []


def test_it_holds_for_one_address_only(tmp_path: Path) -> None:
    learned(tmp_path).remember_models("box", ["a"], 100.0)
    elsewhere = learned(tmp_path, THERE)
    assert elsewhere.models("box") == []
    elsewhere.quirks["box"] = TAUGHT
    assert learned(tmp_path, THERE).models("box") == []
    assert "box" not in learned(tmp_path, HERE).quirks


def test_what_is_not_taught_stays_the_dialects(tmp_path: Path) -> None:
    learned(tmp_path).quirks["box"] = TAUGHT
    body = learned(tmp_path, dialect="openrouter").quirks["box"].body
    assert body == QUIRKS["openrouter"].body


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "[" * 100_000,
        f'{{"base_url": "{HERE}", "models": 3, "models_at": "x", "stream_options": 1}}',
        f'{{"base_url": "{HERE}", "models": [1, {{}}], "max_tokens": null}}',
        "\x00\xff",
    ],
)
def test_a_spoilt_file_is_an_empty_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "learned" / "box.json"
    path.parent.mkdir()
    path.write_bytes(text.encode("latin-1"))
    memory = learned(tmp_path)
    assert memory.models("box") == []
    assert memory.models_age("box", 1.0) is None
    assert "box" not in memory.quirks
    memory.remember_models("box", ["a"], 1.0)
    assert learned(tmp_path).models("box") == ["a"]


def test_without_a_place_to_write_it_lasts_as_long_as_the_process(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    memory = learned(blocked)
    memory.remember_models("box", ["a"], 1.0)
    assert memory.models("box") == ["a"]


def test_the_file_carries_the_name(tmp_path: Path) -> None:
    learned(tmp_path).remember_models("../up", ["a"], 1.0)
    assert os.listdir(tmp_path / "learned") == [".._up.json"]


def test_the_memory_of_quirks_is_a_mapping_that_forgets_nothing(tmp_path: Path) -> None:
    quirks = learned(tmp_path).quirks
    assert (len(quirks), list(quirks)) == (0, [])
    with pytest.raises(TypeError):
        del quirks["box"]


def test_what_a_context_taught_survives_and_a_window_holds_for_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = learned(tmp_path)
    assert ("box", "m") not in first.contexts
    first.contexts["box", "m"] = Known(8192, 1.125)
    first.contexts["box", "n"] = Known(0, 0.9375)
    first.remember_models("box", ["m"], 1.0)
    again = learned(tmp_path)
    assert again.contexts["box", "m"] == Known(8192, 1.125)
    assert again.contexts["box", "n"] == Known(0, 0.9375)
    assert again.contexts.get(("box", "o"), Known()) == Known()
    assert again.models("box") == ["m"]
    assert learned(tmp_path, THERE).contexts.get(("box", "m")) is None
    later = time.time() + WINDOW + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert again.contexts["box", "m"] == Known(0, 1.125)  # it may have a larger one now
    with pytest.raises(TypeError):
        del again.contexts["box", "m"]
    assert (len(again.contexts), list(again.contexts)) == (0, [])


@pytest.mark.parametrize("row", ["3", "[1, 2]", '["8", 1, 1]', "[NaN, 1, 1]", "[1, -1, 1]", "{}"])
def test_a_spoilt_row_of_a_context_is_none(tmp_path: Path, row: str) -> None:
    path = tmp_path / "learned" / "box.json"
    path.parent.mkdir()
    path.write_text(f'{{"base_url": "{HERE}", "context": {{"m": {row}}}}}')
    memory = learned(tmp_path)
    assert memory.contexts.get(("box", "m")) is None
    memory.contexts["box", "n"] = Known(1000, 1.0)
    assert learned(tmp_path).contexts["box", "n"] == Known(1000, 1.0)
