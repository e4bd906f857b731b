"""Limits, and that two processes never both pass where one fits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from holychat.core.chat import Finish, Tried, Turn, Usage
from holychat.core.limits import Limit, Verdict
from holychat.store import budget, conversations, tally, turns
from holychat.store.db import Database
from tests.store.spend import MOST, spend
from tests.store.test_turns import kill

DAY = 86_400_000
AT = 1_790_000_000_000  # 2026-09-21
ABOUT: dict[str, Any] = {"provider": "p", "model": "m", "system": "", "params": {}}


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(str(tmp_path / "s.db"))) as db:
        yield db


@pytest.fixture
def writer(db: Database) -> str:
    return turns.enlist(db)


def begun(db: Database, writer: str, conversation: str = "", at: int = AT) -> turns.Begun:
    return turns.begin(db, writer, conversation, "q", None, at=at, **ABOUT)


def close(db: Database, turn: turns.Begun, cost: int | None, tokens: int) -> None:
    used = Usage(tokens, 0, cost=cost)
    tried = Tried("p", "m", Finish.STOP, usage=used)
    turns.close(db, turn, Turn("a", "", Finish.STOP, "p", "m", used, attempts=(tried,)))


def ask(
    db: Database, turn: turns.Begun, *limits: Limit, cost: int | None, tokens: int = 0, at: int = AT
) -> Verdict:
    return budget.reserve(db, turn.turn, limits, cost=cost, tokens=tokens, at=at)


def test_what_is_reserved_counts_until_the_turn_is_closed(db: Database, writer: str) -> None:
    limit = Limit("day", "cost", 100)
    one, other = begun(db, writer), begun(db, writer)
    assert ask(db, one, limit, cost=60).refusing is None
    refused = ask(db, other, limit, cost=60)
    assert refused.refusing is not None
    assert (refused.refusing.reserved, refused.refusing.percent) == (60, 120)
    assert ask(db, one, limit, cost=90).refusing is None  # its own is replaced
    close(db, one, 10, 5)  # it was cheaper
    granted = ask(db, other, limit, cost=60)
    assert (granted.refusing, granted.levels[0].spent, granted.levels[0].percent) == (None, 10, 70)
    assert granted.near(80) == []


def test_each_limit_has_its_own_scope(db: Database, writer: str) -> None:
    first = begun(db, writer, at=AT - 5 * DAY)
    close(db, first, 40, 400)
    close(db, begun(db, writer), 20, 200)
    turn = begun(db, writer, first.conversation)
    limits = [
        Limit(scope, unit, 1000)
        for scope in ("conversation", "day", "month")
        for unit in ("cost", "tokens")
    ]
    verdict = ask(db, turn, *limits, cost=1, tokens=10)
    assert [each.spent for each in verdict.levels] == [40, 400, 20, 200, 60, 600]
    assert [each.asked for each in verdict.levels] == [1, 10] * 3
    assert verdict.near(60) == [verdict.levels[5]]
    looked = budget.look(db, first.conversation, limits, at=AT)
    assert [each.reserved for each in looked.levels] == [1, 10] * 3
    none = budget.look(db, "", limits, at=AT + 40 * DAY)
    assert [each.after for each in none.levels] == [0] * 6


def test_a_deleted_conversation_does_not_give_its_money_back(db: Database, writer: str) -> None:
    turn = begun(db, writer)
    close(db, turn, 100, 1)
    conversations.delete(db, [turn.conversation])
    assert ask(db, begun(db, writer), Limit("day", "cost", 100), cost=1).refusing is not None
    assert ask(db, begun(db, writer), Limit("month", "cost", 100), cost=0).refusing is not None


def test_an_unknown_price_is_said_and_reserves_tokens(db: Database, writer: str) -> None:
    close(db, begun(db, writer), None, 50)
    turn = begun(db, writer)
    limits = (Limit("day", "cost", 100), Limit("day", "tokens", 100))
    money, tokens = ask(db, turn, *limits, cost=None, tokens=50).levels
    assert (money.after, money.unpriced, tokens.after, tokens.percent) == (0, 1, 100, 100)
    assert not tokens.refused


def test_it_can_be_overridden_and_given_up(db: Database, writer: str) -> None:
    turn, limit = begun(db, writer), Limit("day", "cost", 10)
    verdict = budget.reserve(db, turn.turn, [limit], cost=50, tokens=0, at=AT, override=True)
    assert verdict.refusing is not None
    day = tally.days(db, AT)
    assert tally.spent(db, day=day).reserved == 50
    budget.release(db, turn.turn)
    assert tally.spent(db, day=day).reserved == 0


def test_the_dead_and_the_closed_hold_nothing(db: Database, writer: str) -> None:
    turn, limit = begun(db, writer), Limit("day", "cost", 10)
    assert ask(db, turn, limit, cost=10).refusing is None
    other = begun(db, turns.enlist(db))
    assert ask(db, other, limit, cost=10).refusing is not None
    kill(db, writer)
    assert ask(db, other, limit, cost=10).refusing is None
    close(db, other, 0, 0)
    assert ask(db, other, limit, cost=10).refusing is None  # nobody has it open
    assert tally.spent(db, day=tally.days(db, AT)).reserved == 0


def test_what_the_dead_used_counts(db: Database, writer: str) -> None:
    """Of a one-shot that was killed nobody else may ever hear."""
    turn, limit = begun(db, writer), Limit("day", "tokens", 100)
    turns.journal(db, writer, [(turn.turn, 1, "word " * 80, "")])
    turns.renew(db, writer, "a draft")
    other = begun(db, turns.enlist(db))
    kill(db, writer)
    found = ask(db, other, limit, cost=0, tokens=30).levels[0]
    assert 70 <= found.spent < 100
    assert found.refused
    assert [row["draft"] for row in db.rows("SELECT draft FROM writers")] == ["a draft", ""]
    assert db.rows("SELECT 1 FROM messages WHERE role = 'assistant'")
    assert ask(db, other, limit, cost=0, tokens=1).levels[0].spent == found.spent  # once


def test_nobody_dead_is_one_query_more(db: Database, writer: str) -> None:
    turn = begun(db, writer)
    [plan] = {
        row["detail"]
        for row in db.rows(
            "EXPLAIN QUERY PLAN SELECT 1 FROM writers WHERE EXISTS"
            " (SELECT 1 FROM turns WHERE turns.writer = writers.id)"
        )
        if "turns" in row["detail"]
    }
    assert "turns_writer" in plan
    assert ask(db, turn, Limit("day", "tokens", 100), cost=0, tokens=30).refusing is None


def test_more_comes_on_top(db: Database, writer: str) -> None:
    turn, limit = begun(db, writer), Limit("day", "cost", 100)

    def more(cost: int) -> Verdict:
        return budget.reserve(db, turn.turn, [limit], cost=cost, tokens=0, at=AT, more=True)

    assert ask(db, turn, limit, cost=50).refusing is None
    assert more(30).refusing is None
    assert tally.spent(db, day=tally.days(db, AT)).reserved == 80
    assert more(30).refusing is not None
    assert tally.spent(db, day=tally.days(db, AT)).reserved == 80
    assert ask(db, turn, limit, cost=100).refusing is None  # this is for all of it


def test_many_processes_never_spend_more_than_the_limit(tmp_path: Path) -> None:
    found = spend(tmp_path / "s.db", 8, 15)
    assert found.wrong == []
    limit = found.limits[0].most
    assert limit - MOST < found.spent.cost <= limit
    assert limit - MOST < found.spent.tokens <= limit
    assert found.spent.reserved == found.spent.reserved_tokens == 0
    assert found.granted > 0
    assert found.refused > 0
