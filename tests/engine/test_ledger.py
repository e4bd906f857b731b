"""What was recorded without a price, priced later: by the day, by the hour, and by whose it is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from holychat import settings as rules
from holychat.core.tally import Entry, Tally, Unpriced
from holychat.engine import ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from holychat.settings import Settings

MILLION = 10**6
NIGHT, NOON = 36, 24  # half hours of the UTC day: 18:00, 12:00


@pytest.fixture(params=["UTC", "Pacific/Auckland", "America/Los_Angeles"])
def wall(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "config.toml"
    path.write_text(
        '[prices."box/long"]\ninput = "1"\noutput = "2"\n'
        '[providers.box]\nbase_url = "http://box.lan/v1"\n'
    )
    path.chmod(0o600)
    return rules.load(environ={}, cwd=tmp_path, path=path)


def cost(settings: Settings, row: Unpriced) -> int | None:
    found = list(ledger.costs([row], *ledger.prices_of(settings)))
    return found[0][1] if found else None


def used(provider: str, model: str, day: str = "2025-03-12", slot: int = NOON) -> Unpriced:
    """A million tokens in and none out, of two calls."""
    return Unpriced(day, provider, model, slot, 2, MILLION, 0, 0)


@pytest.mark.usefixtures("wall")
def test_the_hours_of_the_day_count(settings: Settings) -> None:
    """DeepSeek's list of 2025: 0.27 a million, half of it from 16:30 to 00:30 UTC."""
    assert cost(settings, used("deepseek", "deepseek-chat")) == 270_000 * MILLION
    assert cost(settings, used("deepseek", "deepseek-chat", slot=NIGHT)) == 135_000 * MILLION


@pytest.mark.usefixtures("wall")
def test_a_half_hour_is_on_its_day(settings: Settings) -> None:
    for day in ("2026-03-29", "2026-07-01", "2026-11-01"):
        for slot in range(48):
            at = ledger.began(used("p", "m", day, slot))
            assert at is not None
            assert at // 1800 % 48 == slot
            if day == "2026-07-01":  # on those two some wall's clock changes
                assert time.strftime("%Y-%m-%d", time.localtime(at)) == day


def test_what_stays_unknown_is_no_zero(settings: Settings) -> None:
    assert cost(settings, used("box", "long")) == MILLION * MILLION
    for row in (
        used("box", "unheard-of"),
        used("gone", "gpt-4.1"),
        used("", "gpt-4.1"),
        used("a b/c", "gpt-4.1"),
        used("openai", "gpt-4.1", day=""),
        used("openai", "gpt-4.1", day="no day"),
    ):
        assert cost(settings, row) is None
    assert cost(settings, used("ollama", "qwen3")) == 0  # it runs on this machine


@pytest.mark.usefixtures("wall")
def test_without_a_half_hour_the_plain_price_holds(settings: Settings) -> None:
    row = used("deepseek", "deepseek-chat")._replace(slot=None)
    assert cost(settings, row) == 270_000 * MILLION
    at = ledger.began(row)
    assert at is not None
    assert time.strftime("%Y-%m-%d %H", time.localtime(at)) == "2025-03-12 12"


def test_a_sum_is_settled(settings: Settings) -> None:
    before = Tally(calls=3, cost=7, priced=1, unpriced=2, unpriced_prompt=MILLION)
    found = ledger.settle(before, [used("box", "long")], *ledger.prices_of(settings))
    assert found == Tally(calls=3, cost=7 + MILLION * MILLION, priced=3)


def test_entries_are_settled_as_far_as_it_is_known(settings: Settings) -> None:
    before = Tally(
        calls=5, prompt=3 * MILLION, cost=7, priced=1, unpriced=4, unpriced_prompt=2 * MILLION
    )
    entries = [
        Entry("2025-03-12", "box", "long", before),
        Entry("2025-03-12", "box", "other", before),
    ]
    rows = [used("box", "long"), used("box", "other"), used("box", "long", day="2025-03-13")]
    prices, provider_of = ledger.prices_of(settings)
    one, other = ledger.settled(entries, ledger.costs(rows, prices, provider_of))
    assert other == entries[1]
    assert one.tally == before._replace(
        cost=7 + MILLION * MILLION, priced=3, unpriced=2, unpriced_prompt=MILLION
    )
