from __future__ import annotations

import pytest

from holychat.core.failure import (
    HINTS,
    VERDICTS,
    Failure,
    HolychatError,
    Kind,
    SettingsError,
    UsageError,
    Verdict,
    hint,
    key_variable,
)


def test_every_kind_has_a_verdict() -> None:
    assert set(VERDICTS) == set(Kind)


def test_the_tree() -> None:
    for error in (UsageError("x"), SettingsError("x"), Failure(Kind.CUT, "x")):
        assert isinstance(error, HolychatError)
        assert (error.what, error.hint, str(error)) == ("x", "", "x")


@pytest.mark.parametrize("kind", [Kind.MODEL, Kind.CONTEXT, Kind.REQUEST])
def test_a_wrong_request_is_nobody_elses_business(kind: Kind) -> None:
    # The same request would be as wrong elsewhere, and the provider is not ill.
    assert VERDICTS[kind] == Verdict(again=False, elsewhere=False, unhealthy=False)


@pytest.mark.parametrize("kind", [Kind.AUTH, Kind.BALANCE])
def test_a_wrong_key_is_not_ill_health(kind: Kind) -> None:
    assert VERDICTS[kind] == Verdict(again=False, elsewhere=True, unhealthy=False)


def test_what_is_tried_again_is_tried_elsewhere_too() -> None:
    assert all(verdict.elsewhere for verdict in VERDICTS.values() if verdict.again)


def test_failure_knows_its_verdict() -> None:
    failure = Failure(Kind.RATE, "slow down", "Wait.", status=429, code="c", retry_after=1.5)
    assert failure.verdict is VERDICTS[Kind.RATE]
    assert (failure.status, failure.code, failure.retry_after) == (429, "c", 1.5)
    assert repr(failure) == "Failure(rate-limit, status=429, 'slow down')"


def test_hints_can_be_filled_in() -> None:
    for kind in Kind:
        text = hint(kind, "open-router")
        assert not set("{}") & set(text)
        assert bool(text) == (kind in HINTS)
    assert "OPEN_ROUTER_API_KEY" in hint(Kind.AUTH, "open-router")


def test_key_variable() -> None:
    assert key_variable("holysheep") == "HOLYSHEEP_API_KEY"
    assert key_variable("my-own.host") == "MY_OWN_HOST_API_KEY"
