from __future__ import annotations

import copy
import pickle
import string
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holychat.core.provider import (
    BUILT_IN,
    DEFAULT_PROVIDER,
    DEMO,
    QUIRKS,
    Provider,
    Quirks,
    Secret,
)

KEY = "sk-0123456789abcdefghijklmnop"


# --- Secret --------------------------------------------------------------------------------------


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret(KEY)
    provider = Provider("x", "http://x/v1", key=secret)
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", repr(provider)):
        assert KEY not in shown
        assert "…mnop" in shown
    assert secret.reveal() == KEY


@settings(deadline=None)
@given(st.text(string.ascii_letters + string.digits, max_size=60))
def test_the_mask_shows_a_quarter_at_most(key: str) -> None:
    shown = Secret(key).mask.removeprefix("…")
    assert key.endswith(shown)
    assert len(shown) <= min(4, len(key) / 4)


@pytest.mark.parametrize(
    "raw", [f" {KEY}\n", f"{KEY}\r\n", KEY[:9] + "\n" + KEY[9:], f"\t{KEY}\x1f"]
)
def test_white_space_is_no_part_of_a_key(raw: str) -> None:
    assert Secret(raw).reveal() == KEY
    assert Secret(raw) == Secret(KEY)
    assert hash(Secret(raw)) == hash(Secret(KEY))


def test_no_key() -> None:
    assert not Secret()
    assert not Secret(" \n")
    assert Secret().mask == ""
    assert Secret(KEY)
    assert Secret(KEY) != KEY


def test_a_secret_is_not_copied_out() -> None:
    for leak in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="not pickled"):
            leak(Secret(KEY))


def test_a_provider_with_a_secret_can_be_replaced() -> None:
    provider = Provider("x", "http://x/v1", key=Secret(KEY))
    assert replace(provider, model="m").key is provider.key


# --- Provider ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.deepseek.com/v1", "https://api.deepseek.com:443"),
        ("http://API.Example.com", "http://api.example.com:80"),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080"),
        ("https://user:pw@host:444/x", "https://host:444"),
    ],
)
def test_origin(url: str, origin: str) -> None:
    assert Provider("x", url).origin == origin


def test_two_origins_differ() -> None:
    urls = ["https://a", "http://a", "https://a:444", "https://b", "https://a.b"]
    assert len({Provider("x", url).origin for url in urls}) == len(urls)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
def test_local(host: str) -> None:
    assert Provider("x", f"http://{host}:1/v1").local
    assert not Provider("x", f"http://{host.strip('[]')}.example.com/v1").local


def test_unknown_dialects_are_plain() -> None:
    assert Provider("x", "http://x", dialect="klingon").quirks == Quirks()
    assert Provider("x", "http://x", dialect="openai").quirks is QUIRKS["openai"]


# --- The table -----------------------------------------------------------------------------------


def test_built_in_rows() -> None:
    names = [provider.name for provider in BUILT_IN]
    assert len(set(names)) == len(names)
    assert names[0] == DEFAULT_PROVIDER
    assert DEMO in names
    for provider in BUILT_IN:
        assert provider.dialect in QUIRKS
        assert not provider.base_url.endswith("/")
        assert not provider.base_url.endswith("/chat/completions")
        # A key travels encrypted, or not at all.
        assert provider.base_url.startswith("https://") or not provider.needs_key
        assert provider.local or provider.model
        assert not provider.key
