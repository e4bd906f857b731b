"""One tree of errors, and what each kind means for the next step.

    HolychatError            a sentence for the user: what happened, why, and what to do
    ├── UsageError           the command line or a slash command makes no sense     (exit 2)
    ├── SettingsError        configuration, with file and line where there is one   (exit 3)
    ├── StoreTrouble         the file of conversations cannot be used as it should  (exit 1)
    └── Failure              an attempt at a provider failed; `kind` says how       (exit 3, 4 or 5)

Owns the tree, `Kind` and the VERDICTS table. Must not print, retry or know an HTTP library: the
border that meets a foreign error translates it, and everyone above knows only these.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holychat.core.provider import Provider


class HolychatError(Exception):
    """`what` is one line for the user; `hint`, when there is one, says what to do next."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


class UsageError(HolychatError):
    """The user asked for something that does not exist or does not fit together."""


class SettingsError(HolychatError):
    """A setting is missing, refused, unknown or of the wrong type."""


class StoreTrouble(HolychatError):  # noqa: N818 - what befell the file, not what we did wrong
    """The store is full, locked, damaged or gone. No answer ever fails for that."""


class Kind(StrEnum):
    """How an attempt failed."""

    CONNECT = "connect"  # DNS, refused, unreachable
    TLS = "tls"  # the certificate does not hold
    RESET = "reset"  # the connection broke
    TIMEOUT_CONNECT = "timeout-connect"
    TIMEOUT_HEADERS = "timeout-headers"
    TIMEOUT_FIRST = "timeout-first-token"
    STALL = "stall"  # no token for too long in mid-answer
    AUTH = "auth"  # 401, 403
    BALANCE = "balance"  # 402
    MODEL = "model"  # the provider has no such model
    CONTEXT = "context-length"
    REQUEST = "bad-request"  # 400, 404, 405, 415, 422 and the like
    RATE = "rate-limit"  # 429
    SERVER = "server-error"  # 408, 409, 5xx
    IN_STREAM = "error-in-stream"  # an error object inside a 200 stream
    CUT = "cut"  # the stream ended with neither a finish_reason nor [DONE]
    EMPTY = "empty"  # a complete answer with nothing in it
    GARBAGE = "not-the-protocol"  # HTML, a redirect, something that is no chat completion
    TOO_BIG = "too-big"  # one event over the bound
    IGNORED = "prefix-ignored"  # it was to go on with an answer, and began another
    OUTRUN = "outrun"  # another provider was asked beside it, and was faster
    LIMIT = "limit-reached"  # the user's own, of money or tokens: nothing was sent
    PASSED = "handed-on"  # nothing failed: the user handed the turn to the next provider


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failure means: try the same provider again? the next one? count it as ill health?
    may it have worked on the request, so that the prompt is paid for?"""

    again: bool
    elsewhere: bool
    unhealthy: bool
    billed: bool = False


VERDICTS: dict[Kind, Verdict] = {
    Kind.CONNECT: Verdict(again=True, elsewhere=True, unhealthy=True),
    Kind.TLS: Verdict(again=False, elsewhere=True, unhealthy=True),
    Kind.RESET: Verdict(again=True, elsewhere=True, unhealthy=True, billed=True),
    Kind.TIMEOUT_CONNECT: Verdict(again=True, elsewhere=True, unhealthy=True),
    Kind.TIMEOUT_HEADERS: Verdict(again=True, elsewhere=True, unhealthy=True, billed=True),
    Kind.TIMEOUT_FIRST: Verdict(again=True, elsewhere=True, unhealthy=True, billed=True),
    Kind.STALL: Verdict(again=True, elsewhere=True, unhealthy=True, billed=True),
    Kind.AUTH: Verdict(again=False, elsewhere=True, unhealthy=False),
    Kind.BALANCE: Verdict(again=False, elsewhere=True, unhealthy=False),
    Kind.MODEL: Verdict(again=False, elsewhere=False, unhealthy=False),
    Kind.CONTEXT: Verdict(again=False, elsewhere=False, unhealthy=False),
    Kind.REQUEST: Verdict(again=False, elsewhere=False, unhealthy=False),
    Kind.RATE: Verdict(again=True, elsewhere=True, unhealthy=True),
    Kind.SERVER: Verdict(again=True, elsewhere=True, unhealthy=True),
    Kind.IN_STREAM: Verdict(again=True, elsewhere=True, unhealthy=True, billed=True),
    Kind.CUT: Verdict(again=True, elsewhere=True, unhealthy=True, billed=True),
    Kind.EMPTY: Verdict(again=True, elsewhere=True, unhealthy=True, billed=True),
    Kind.GARBAGE: Verdict(again=False, elsewhere=True, unhealthy=True),
    Kind.TOO_BIG: Verdict(again=False, elsewhere=True, unhealthy=True, billed=True),
    Kind.IGNORED: Verdict(again=True, elsewhere=True, unhealthy=False, billed=True),
    Kind.OUTRUN: Verdict(again=False, elsewhere=True, unhealthy=False, billed=True),
    Kind.LIMIT: Verdict(again=False, elsewhere=False, unhealthy=False),
    Kind.PASSED: Verdict(again=False, elsewhere=True, unhealthy=False, billed=True),
}


# What to do about it, where a sentence can help. {name} is the provider, {env} the name of its key
# in the environment.
HINTS: dict[Kind, str] = {
    Kind.CONNECT: "Is the server running and the network up? `holychat doctor -p {name}` looks.",
    Kind.TLS: "If a private CA signed it, set providers.{name}.ca to its file.",
    Kind.AUTH: "Check the key: set {env}, or run `holychat setup -p {name}`.",
    Kind.BALANCE: "Top up the account, or choose another provider with -p.",
    Kind.MODEL: "`holychat models -p {name}` lists what it has.",
    Kind.CONTEXT: "It is longer than the model's window: /compact or /clear, or choose another.",
    Kind.RATE: "Wait a little, or choose another provider with -p.",
    Kind.GARBAGE: "Is base_url right? It must be the part before /chat/completions.",
    Kind.TIMEOUT_FIRST: "It may be busy; --timeout N waits longer.",
    Kind.TIMEOUT_HEADERS: "It may be busy; --timeout N waits longer.",
    Kind.STALL: "It may be busy; --timeout N waits longer.",
}


def hint(kind: Kind, name: str) -> str:
    """The sentence for `kind` at the provider called `name`; empty where there is none."""
    return HINTS.get(kind, "").format(name=name, env=key_variable(name))


def key_variable(name: str) -> str:
    """The environment variable that holds the key of the provider called `name`."""
    return name.upper().replace("-", "_").replace(".", "_") + "_API_KEY"


class Failure(HolychatError):  # noqa: N818 - what a provider did, not what we did wrong
    """One attempt at one provider failed.

    `status` is the HTTP status (0 where none came), `code` the provider's own error code,
    `retry_after` seconds the provider asked to wait (None where it did not say).
    """

    def __init__(
        self,
        kind: Kind,
        what: str,
        hint: str = "",
        *,
        status: int = 0,
        code: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(what, hint)
        self.kind = kind
        self.status = status
        self.code = code
        self.retry_after = retry_after

    @property
    def verdict(self) -> Verdict:
        return VERDICTS[self.kind]

    def __repr__(self) -> str:
        return f"Failure({self.kind.value}, status={self.status}, {self.what!r})"


SHORTEST = 12  # characters of a key that are worth hiding; fewer are its public prefix


def keyless(failure: Failure, provider: Provider) -> None:
    """Take the key out of a failure's text: some servers quote the one that they refuse.

    Also the beginning of a key, where the text was cut to size in the middle of it.
    """
    key, what = provider.key.reveal(), failure.what
    for length in range(len(key), SHORTEST - 1, -1):
        what = what.replace(key[:length], provider.key.mask)
    failure.what, failure.args = what, (what,)
