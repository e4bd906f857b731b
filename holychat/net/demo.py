"""The offline demo provider: a chat server that is a script, below httpx's seam.

Owns the demo's models and what each of them does: answer, dawdle, or fail on purpose. Produces real
HTTP statuses and real SSE bytes at a human pace, so that decoder, wire, timers and screen all run.
Must not know httpx, open a socket or keep anything between requests; the words are demo_texts' and
the choice among them demo_scripts'.

A request is answered by `reply`, which is pure: a status and a list of steps, each some bytes and
the seconds before them. `Exchange` plays it. The same request gets the same bytes at the same
pace: what varies is seeded by the text.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from holychat.core import wire
from holychat.core.failure import Failure, Kind
from holychat.net import demo_scripts, demo_texts
from holychat.net.demo_scripts import WIDE, Answer, End, Said, always

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PACE = 1.0  # multiplies every wait; 0 answers at once
SILENCE = math.inf  # a wait that no pace shortens

HEAD = 0.05  # seconds until the status comes
WHOLE = 2.0  # seconds that an answer without streaming takes at most
READ_SIZE = 64 * 1024  # bytes that one read brings at most, as in http1
MAX_WORDS = 200_000
JSON = (b"content-type", b"application/json")
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
CREATED = 1_767_225_600  # 2026-01-01; the demo has no clock
TOKEN = 4  # characters


class Speed(NamedTuple):
    """Seconds to the first token after the head, and the range between two tokens."""

    first: float
    low: float
    high: float


class Model(NamedTuple):
    """`script` gives the answer to a history; `breaks` is the index at which `end` strikes."""

    script: Callable[[Sequence[Said]], Answer]
    speed: Speed = Speed(0.2, 0.025, 0.04)
    end: End = End.STOP
    breaks: int = 0


class Step(NamedTuple):
    """`wait` seconds pass, then the bytes come, or the connection breaks."""

    wait: float
    data: bytes | Failure


class Reply(NamedTuple):
    """A response before it is played; its head comes after `wait` seconds."""

    status: int
    headers: list[tuple[bytes, bytes]]
    wait: float
    steps: Iterator[Step]


# --- Playing it ---------------------------------------------------------------------------------


async def exchange(
    method: str, path: str, content: bytes, *, pace: float | None = None
) -> Exchange:
    """Answer one request; returns when the head of the response would be there.

    `pace` multiplies the waits, PACE where it is None.
    """
    pace = PACE if pace is None else pace
    answer = reply(method, path, content)
    await asyncio.sleep(_scaled(answer.wait, pace))
    return Exchange(answer, pace)


class Exchange:
    """One response being played. Has what http1.Exchange has, and fails as that one fails."""

    __slots__ = ("_due", "_fault", "_pace", "_step", "_steps", "_stopped", "headers", "status")

    def __init__(self, answer: Reply, pace: float) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self._steps = answer.steps
        self._pace = pace
        self._due = asyncio.get_running_loop().time()
        self._fault: Failure | None = None
        self._stopped = asyncio.Event()
        self._step: Step | None = None
        self._advance()

    async def read(self) -> bytes:
        """The next bytes, all that are due by now; b"" at the end.

        A server does not wait for its reader: who comes late finds several tokens at once.
        """
        if self._step is None:
            return b""
        await self._until_due()
        now = asyncio.get_running_loop().time()
        parts = bytearray()
        while self._step is not None and len(parts) < READ_SIZE:
            if parts and (self._due > now or isinstance(self._step.data, Failure)):
                break
            if isinstance(self._step.data, Failure):
                raise self._step.data
            parts += self._step.data
            self._advance()
        return bytes(parts)

    def abort(self, fault: Failure) -> None:
        """End now; whoever reads gets `fault`. For the timers."""
        self._fault = self._fault or fault
        self._stopped.set()

    def close(self) -> None:
        """Give it up. Whoever still reads gets a reset, unless the body has ended."""
        self.abort(Failure(Kind.RESET, "the connection was closed"))

    def drain(self) -> None:
        """There is no connection to keep: the same as `close`."""
        self.close()

    async def _until_due(self) -> None:
        try:
            async with asyncio.timeout_at(self._due):
                await self._stopped.wait()
        except TimeoutError:
            pass
        if self._fault is not None:
            raise self._fault

    def _advance(self) -> None:
        # Counted from the last due time, not from now: or else every late wake-up adds up.
        self._step = next(self._steps, None)
        if self._step is not None:
            self._due += _scaled(self._step.wait, self._pace)


def _scaled(wait: float, pace: float) -> float:
    return wait if wait == SILENCE else wait * pace


# --- The server ---------------------------------------------------------------------------------


def reply(method: str, path: str, content: bytes) -> Reply:
    """The response to one request, whatever the request is."""
    path = path.removeprefix("/v1")
    wanted = {"/models": "GET", "/chat/completions": "POST"}.get(path)
    if wanted is None:
        return _refusal(404, f"The demo has no {path[:60]}", "not_found")
    if method != wanted:
        return _refusal(405, f"{path} takes {wanted}, not {method}", "method_not_allowed")
    if path == "/models":
        rows = [{"id": name, "object": "model", "owned_by": "demo"} for name in listed()]
        return _json({"object": "list", "data": rows})
    return _chat(content)


def listed() -> list[str]:
    """The models that the demo shows; `long-N` goes with other numbers, too."""
    return [*MODELS, "long-2000", *REFUSALS]


def _chat(content: bytes) -> Reply:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        return _refusal(400, "The body is no JSON object", "invalid_json")
    name = body.get("model")
    name = name.removeprefix("demo/") if isinstance(name, str) else ""
    if name in REFUSALS:
        return _refusal(*REFUSALS[name])
    model = find(name)
    if model is None:
        known = ", ".join(listed())
        what = f"Model not found: {name[:60]!r}. There are {known}"
        return _refusal(404, what, "model_not_found")
    history = heard(body.get("messages"))
    if not history:
        return _refusal(400, "'messages' must be a list with a message in it", "invalid_messages")
    limit = body.get("max_tokens", body.get("max_completion_tokens"))
    if limit is not None and (type(limit) is not int or limit < 1):
        return _refusal(400, "'max_tokens' must be a whole number above 0", "invalid_max_tokens")
    said = answer(model, history, limit)
    label = {"id": f"chatcmpl-demo-{crc32(content):08x}", "model": f"demo/{name}"}
    usage = _usage(history, said)
    if not body.get("stream"):
        return _whole(said, label, usage, model.speed)
    options = body.get("stream_options")
    asked = isinstance(options, dict) and options.get("include_usage")
    steps = _stream(said, label, usage if asked else None, model)
    return Reply(200, [EVENTS], HEAD, steps)


def find(name: str) -> Model | None:
    """The model called `name`; `long-N` is made on demand."""
    if match := re.fullmatch(r"long-([0-9]{1,18})", name):
        words = min(max(int(match[1]), 1), MAX_WORDS)
        # 1.5 words a token: 400 words a second.
        return Model(lambda _: Answer(demo_scripts.long(words)), Speed(0.2, 0.0025, 0.005))
    return MODELS.get(name)


def heard(messages: object) -> list[Said]:
    """The messages of a request body, of whatever is there."""
    rows = messages if isinstance(messages, list) else []
    return [
        Said(str(row.get("role")), wire.parts(row.get("content"))[0])
        for row in rows
        if isinstance(row, dict)
    ]


def answer(model: Model, history: Sequence[Said], limit: int | None = None) -> Answer:
    """What `model` sends for `history`, cut to `limit` tokens of TOKEN characters.

    Asked to continue what it began, it sends the rest, and this time it ends well: so a cut answer
    can be seen to be made whole.
    """
    said = _rest(model, history)
    if said is None:
        said = model.script(history)
        if model.end is not End.STOP:
            said = said._replace(text=said.text[: model.breaks], end=model.end)
    if limit is not None and len(said.reasoning) + len(said.text) > limit * TOKEN:
        thought = said.reasoning[: limit * TOKEN]
        said = Answer(said.text[: limit * TOKEN - len(thought)], thought, End.LENGTH)
    return said


_CONTINUE = re.compile(r"\bcontinue\b", re.IGNORECASE)


def _rest(model: Model, history: Sequence[Said]) -> Answer | None:
    """What is missing of an answer that `history` asks to continue; None where it asks for none.

    Either form: the begun answer comes last (a prefix), or an instruction to continue follows it.
    """
    end = len(history) - 1
    if history[end].role == "user" and _CONTINUE.search(history[end].text):
        end -= 1
    if end < 1 or history[end].role != "assistant":
        return None
    begun, whole = history[end].text, model.script(history[:end]).text
    if not begun or begun == whole or not whole.startswith(begun):
        return None
    return Answer(whole[len(begun) :])


# --- Shapes -------------------------------------------------------------------------------------


def _json(value: object, status: int = 200, *headers: tuple[bytes, bytes]) -> Reply:
    steps = iter([Step(0.0, _dumped(value))])
    return Reply(status, [JSON, *headers], HEAD, steps)


def _refusal(status: int, message: str, code: str) -> Reply:
    headers = [(b"retry-after", b"1")] if status == 429 else []
    return _json({"error": _error(message, code)}, status, *headers)


def _error(message: str, code: str) -> dict[str, object]:
    return {"message": message, "type": code, "param": None, "code": code}


def _dumped(value: object) -> bytes:
    # A request may hold halves of characters, which the history answer would quote.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return wire.whole_characters(text).encode()


def _event(value: object) -> bytes:
    return b"data: " + _dumped(value) + b"\n\n"


def _usage(history: Sequence[Said], said: Answer) -> dict[str, object]:
    prompt = sum(tokens(message.text) + 4 for message in history)  # 4 for role and frame
    thought = tokens(said.reasoning)
    completion = thought + tokens(said.text)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


def tokens(text: str) -> int:
    """About as many as a model would count in English."""
    return math.ceil(len(text) / TOKEN)


BROKEN = "The demo failed in mid-answer, as its model `error` is meant to"


def _whole(said: Answer, label: dict[str, str], usage: object, speed: Speed) -> Reply:
    """The answer in one piece: as long in coming as the stream, within reason."""
    if said.end is End.SILENCE:
        return Reply(200, [], SILENCE, iter(()))
    if said.end is End.ERROR:
        return _json({"error": _error(BROKEN, "server_error")})
    message: dict[str, object] = {"role": "assistant", "content": said.text}
    if said.reasoning:
        message["reasoning_content"] = said.reasoning
    choice = {"index": 0, "message": message, "finish_reason": said.end.value}
    kind = {"object": "chat.completion", "created": CREATED}
    data = _dumped({**label, **kind, "choices": [choice], "usage": usage})
    steps = [Step(0.0, data)]
    if said.end is End.CUT:
        steps = [Step(0.0, data[: len(data) // 2]), Step(0.0, _reset())]
    wait = speed.first + sum(pause for pause, _ in paced(said.reasoning + said.text, speed))
    return Reply(200, [JSON], min(wait, WHOLE), iter(steps))


def _stream(said: Answer, label: dict[str, str], usage: object, model: Model) -> Iterator[Step]:
    """The answer as server-sent events."""
    kind = {"object": "chat.completion.chunk", "created": CREATED}

    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _event({**label, **kind, "choices": [choice]})

    # A server that lets one wait shows that it lives: a comment each second.
    patience = int(model.speed.first)
    for _ in range(patience):
        yield Step(1.0, b": keep-alive\n\n")
    yield Step(model.speed.first - patience, chunk({"role": "assistant", "content": ""}))
    for name, text in (("reasoning_content", said.reasoning), ("content", said.text)):
        for wait, token in paced(text, model.speed):
            yield Step(wait, chunk({name: token}))
    if said.end in (End.STOP, End.LENGTH):
        yield Step(0.0, chunk({}, said.end.value))
        if usage is not None:
            yield Step(0.0, _event({**label, **kind, "choices": [], "usage": usage}))
        yield Step(0.0, b"data: [DONE]\n\n")
    elif said.end is End.ERROR:
        yield Step(0.0, _event({"error": _error(BROKEN, "server_error")}))
        yield Step(0.0, b"data: [DONE]\n\n")  # as vLLM and llama.cpp do: it is no success
    elif said.end is End.CUT:
        whole = chunk({"content": "gone"})
        yield Step(model.speed.low, whole[: len(whole) // 2])  # connections break inside events
        yield Step(0.0, _reset())
    else:
        yield Step(SILENCE, b"")


def _reset() -> Failure:
    return Failure(Kind.RESET, "demo broke the connection, as its model `cut` is meant to")


# --- Pace ---------------------------------------------------------------------------------------

# Words with the space after them; two characters at a time where there are no spaces.
_PIECE = re.compile(rf"[{WIDE}]{{1,2}}\s*|[^\s{WIDE}]+\s*|\s+")


def paced(text: str, speed: Speed) -> Iterator[tuple[float, str]]:
    """(seconds before it, token): tokens of one or two words, which join to `text` exactly."""
    held, seed = "", 0
    for match in _PIECE.finditer(text):
        seed = crc32(match[0].encode("utf-8", "replace"), seed)
        if not held and seed & 256:  # every other time one word waits for the next
            held = match[0]
            continue
        yield speed.low + (speed.high - speed.low) * (seed & 255) / 255, held + match[0]
        held = ""
    if held:
        yield speed.low, held


# --- Models ---------------------------------------------------------------------------------------


def _broken(pair: tuple[str, str], end: End) -> Model:
    before, after = pair
    return Model(always(before + after), end=end, breaks=len(before))


MODELS: dict[str, Model] = {
    "demo": Model(demo_scripts.by_prompt),
    "reasoning": Model(demo_scripts.aloud),
    "slow": Model(always(demo_texts.SLOW), Speed(4.0, 0.2, 0.4)),
    "stall": _broken(demo_texts.STALL, End.SILENCE),
    "cut": _broken(demo_texts.CUT, End.CUT),
    "length": _broken(demo_texts.LENGTH, End.LENGTH),
    "error": _broken(demo_texts.ERROR, End.ERROR),
    "empty": Model(always("")),
}
# status, message, code of the models that never answer.
REFUSALS: dict[str, tuple[int, str, str]] = {
    "429": (429, "Too many requests, says the demo's model `429`", "rate_limit_exceeded"),
    "500": (500, "The demo's model `500` always fails", "server_error"),
}
