"""A turn for a client that speaks OpenAI's protocol and brings its whole conversation along.

Owns what of such a body is ours to know: its texts, for whoever counts them, and the conversation
of the store that it goes on with. The turn itself is Chat's, with its failover, limits and costs;
the body goes out as it came. Must not know HTTP.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from holychat.core.chat import Finish, Message, Request, Turn
from holychat.core.failure import HolychatError
from holychat.core.history import Conversation, Kept
from holychat.core.wire import parts, whole_characters
from holychat.engine.context import Fitting
from holychat.engine.conversation import Chat, Exchange
from holychat.store.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from holychat.core.chat import Role
    from holychat.core.provider import Provider
    from holychat.engine.context import Plan
    from holychat.engine.session import Session

KNOWN = 10_000  # ends of conversations that are remembered
PATIENCE = 1.0  # seconds that a request waits to hear which conversation it goes on with
BOUNDS = ("max_tokens", "max_completion_tokens")
ROLES: dict[str, Role] = {"system": "system", "developer": "system", "assistant": "assistant"}
_NOTHING = Turn("", "", Finish.STOP, "", "")

Said = tuple[tuple[str, str], ...]  # (role, text) of the user's and the assistant's messages


class Given(NamedTuple):
    """What a client asks: its body, all of its texts, and what of them is a conversation.

    `called`: there is more behind the prompt, as a rule a tool's call and its result.
    """

    body: Mapping[str, Any]
    flat: tuple[Message, ...]
    prompt: str
    before: Said = ()
    system: str = ""
    called: bool = False


def given(body: Mapping[str, Any]) -> Given:
    """`body` has a list of objects as its `messages`."""
    messages = [(str(each.get("role", "")), text_of(each)) for each in body["messages"]]
    flat = [
        Message(ROLES.get(role, "user"), text + _called(each))
        for (role, text), each in zip(messages, body["messages"], strict=True)
    ]
    if body.get("tools"):  # they are counted too
        flat.insert(0, Message("system", _dumped(body["tools"])))
    users = [number for number, (role, _) in enumerate(messages) if role == "user"]
    last = users[-1] if users else len(messages)
    said = _spoken(one for one in messages[:last] if one[0] in ("user", "assistant") and one[1])
    system = "\n\n".join(text for role, text in messages if ROLES.get(role) == "system")
    prompt = messages[last][1] if users else (messages[-1][1] if messages else "")
    return Given(body, tuple(flat), prompt, said, system, last < len(messages) - 1)


def _spoken(messages: Iterable[tuple[str, str]]) -> Said:
    """Of several answers in a row the last one: what stands before it was said to call tools."""
    said: list[tuple[str, str]] = []
    for role, text in messages:
        if said and role == said[-1][0] == "assistant":
            said.pop()
        said.append((role, text))
    return tuple(said)


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message; what is no text is named."""
    content = message.get("content")
    text = parts(content)[0]
    kinds = (
        (one.get("type") for one in content if isinstance(one, dict))
        if isinstance(content, list)
        else ()
    )
    others = [f"[{kind}]" for kind in kinds if isinstance(kind, str) and kind != "text"]
    return whole_characters("\n".join(filter(None, [text, *others])))


def _called(message: Mapping[str, Any]) -> str:
    calls = message.get("tool_calls") or message.get("function_call")
    return _dumped(calls) if calls else ""


def _dumped(value: object) -> str:
    with suppress(ValueError, TypeError, RecursionError):
        return json.dumps(value, ensure_ascii=False)
    return ""


@dataclass(slots=True)
class Relayed(Chat):
    """One turn of such a client, behind the messages `above` of its conversation."""

    given: Given | None = None
    above: tuple[int, ...] = ()

    def messages(
        self,
        prompt: str,
        exchanges: Sequence[Exchange] | None = None,  # noqa: ARG002 - Chat's form
        plan: Plan | None = None,  # noqa: ARG002 - nothing is left out of what a client sends
    ) -> tuple[Message, ...]:
        return self.given.flat if self.given else (Message("user", prompt),)

    def request(self, messages: tuple[Message, ...], partial: str) -> Request:
        raw = self.given.body if self.given else None
        return Request(
            self.model, messages, dict(self.params), stream=True, partial=partial, raw=raw
        )


class Threads:
    """Which conversation a history belongs to: by a hash of what was said in it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: OrderedDict[bytes, tuple[str, tuple[int, ...]]] = OrderedDict()
        self._coming: dict[bytes, asyncio.Future[bool]] = {}  # what is being written

    async def open(
        self, provider: Provider, model: str, asked: Given, *, pinned: bool, keep: bool
    ) -> Relayed:
        """A turn, which goes on with the conversation that this history is the beginning of."""
        session = self._session
        path = session.recorder.path if keep else None
        recorder = Recorder(path, beside=session.recorder if path else None)
        chat = session.chat_of(Relayed, recorder, provider, model, pinned=pinned)
        chat.given, chat.system, chat.fitting = asked, asked.system, Fitting()
        chat.waits = False  # the client has its prompt
        bounds = ((name, asked.body.get(name)) for name in BOUNDS)
        chat.params = {name: value for name, value in bounds if type(value) is int}
        if chat.rules.on_cut == "restart":  # what is out cannot be taken back
            chat.rules = chat.rules._replace(on_cut="stop")
        if path and (found := await self._find(asked)):
            identity, chat.above = found
            chat.id, messages = identity, chat.above
            chat.exchanges = [Exchange("", _NOTHING)] * (len(messages) // 2)
            kept = [Kept(one, None, "user", "") for one in messages]
            recorder.enter(Conversation(identity), kept)
        return chat

    def remember(self, chat: Relayed) -> None:
        """A turn has ended: what comes after it goes on with it."""
        turn, asked, recorder = chat.latest, chat.given, chat.recorder
        if recorder.path is None or turn is None or asked is None:
            return
        prompt = (*asked.before, ("user", asked.prompt))
        ends = {_key((*prompt, ("assistant", turn.text))): False} if turn.text else {}
        if asked.body.get("tools"):  # their results may come, and the same prompt before them
            ends[_key(prompt)] = True
        if not ends:
            return
        coming = asyncio.wrap_future(recorder.caught_up())
        self._coming |= dict.fromkeys(ends, coming)
        coming.add_done_callback(lambda done: self._settled(ends, chat, done))

    def _settled(
        self, ends: Mapping[bytes, bool], chat: Relayed, done: asyncio.Future[bool]
    ) -> None:
        kept = not done.cancelled() and done.result()
        for key, at_prompt in ends.items():
            self._coming.pop(key, None)
            if kept:
                messages = chat.above if at_prompt else chat.recorder.messages
                self._put(key, (chat.recorder.conversation, messages))

    def _put(self, key: bytes, found: tuple[str, tuple[int, ...]]) -> None:
        self._known[key] = found
        self._known.move_to_end(key)
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)

    async def _find(self, asked: Given) -> tuple[str, tuple[int, ...]] | None:
        """The conversation that is gone on with, and its messages above the prompt."""
        said = asked.before
        key = _key((*said, ("user", asked.prompt)) if asked.called else said)
        if key in self._coming:
            await asyncio.wait({self._coming[key]}, timeout=PATIENCE)
        if key in self._known or not said or not self._session.recorder.keeping:
            return self._known.get(key)
        from holychat.store.threads import ending

        store = asyncio.wrap_future(self._session.recorder.ask(lambda db: ending(db, said)))
        store.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait({store}, timeout=PATIENCE)
        with suppress(HolychatError):
            if store.done() and (found := store.result()):
                self._put(key, found)
                return self._known[key]
        return None


def _key(said: Said) -> bytes:
    digest = blake2b(digest_size=16)
    for role, text in said:
        data = text.strip().encode("utf-8", "replace")  # some clients trim it
        digest.update(f"{role} {len(data)} ".encode() + data)
    return digest.digest()
