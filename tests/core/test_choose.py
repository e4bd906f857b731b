from __future__ import annotations

import pytest

from holychat.core.choose import match, nearest, split
from holychat.core.failure import UsageError

PROVIDERS = ["deepseek", "openrouter"]
ALIASES = {"fast": "deepseek/deepseek-chat", "big": "gpt-4.1", "deepseek": "gpt-4.1"}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("", ("", "")),
        ("gpt-4.1", ("", "gpt-4.1")),
        ("deepseek/deepseek-chat", ("deepseek", "deepseek-chat")),
        ("deepseek/", ("deepseek", "")),
        ("anthropic/claude", ("", "anthropic/claude")),
        ("openrouter/anthropic/claude", ("openrouter", "anthropic/claude")),
        ("/x", ("", "/x")),
        ("fast", ("deepseek", "deepseek-chat")),
        ("big", ("", "gpt-4.1")),
        ("FAST", ("", "FAST")),
    ],
)
def test_split(wanted: str, expected: tuple[str, str]) -> None:
    assert split(wanted, PROVIDERS, ALIASES) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("deepseek/deepseek-chat", ("", "deepseek/deepseek-chat")),
        ("anthropic/claude", ("", "anthropic/claude")),
        ("big", ("", "gpt-4.1")),
    ],
)
def test_a_pinned_provider_keeps_the_slashes(wanted: str, expected: tuple[str, str]) -> None:
    assert split(wanted, PROVIDERS, ALIASES, pinned=True) == expected


KNOWN = ["gpt-4.1", "gpt-4.1-mini", "GPT-OSS", "claude-3", "anthropic/claude-4"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("", ""),
        ("gpt-4.1", "gpt-4.1"),  # itself, though it is a part of another
        ("mini", "gpt-4.1-mini"),
        ("OSS", "GPT-OSS"),
        ("gpt-oss", "GPT-OSS"),
        ("GPT-4.1", "gpt-4.1"),  # but for its case
        ("anthropic/", "anthropic/claude-4"),
        ("gpt-5", "gpt-5"),  # nobody knows it: the server has the last word
    ],
)
def test_match(wanted: str, expected: str) -> None:
    assert match(wanted, KNOWN) == expected
    assert match(wanted, []) == wanted


def test_several_that_fit_are_named() -> None:
    with pytest.raises(UsageError, match=r"claude-3, anthropic/claude-4$"):
        match("claude", KNOWN)
    with pytest.raises(UsageError, match=r"m5, …$"):
        match("m", [f"m{number}" for number in range(9)])


def test_nearest() -> None:
    assert nearest("claude3", KNOWN)[0] == "claude-3"
    assert nearest("zzz", KNOWN) == []
    assert len(nearest("gpt", ["gpt1", "gpt2", "gpt3", "gpt4"], 2)) == 2
