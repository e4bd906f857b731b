"""OpenAI's chat completion protocol as it is really spoken: request out, deltas and failures in.

Owns the shapes of bodies, chunks and errors; the only reader of a provider's quirks. Must not do
I/O. Every field of foreign JSON is optional and of any type here: a server may send anything, and
what cannot be understood becomes a Failure, never an exception of another kind and never silence.

Shapes: platform.openai.com chat completion chunk; deviations per provider as met in the wild
(comments name them).
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from holychat.core.chat import Delta, Finish, Usage
from holychat.core.failure import Failure, Kind, hint
from holychat.core.pacing import Rates
from holychat.core.sanitize import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from holychat.core.chat import Request
    from holychat.core.provider import Quirks
    from holychat.core.sse import Event

FINISHES: dict[str, Finish] = {
    "length": Finish.LENGTH,
    "max_tokens": Finish.LENGTH,
    "model_length": Finish.LENGTH,  # Mistral
    "content_filter": Finish.FILTERED,
    "safety": Finish.FILTERED,  # Gemini
    "tool_calls": Finish.TOOL_CALLS,
    "function_call": Finish.TOOL_CALLS,
    "insufficient_system_resource": Finish.OVERLOADED,  # DeepSeek
    "aborted": Finish.OVERLOADED,  # DeepSeek
    "abort": Finish.OVERLOADED,  # vLLM
    "error": Finish.OVERLOADED,  # OpenRouter, Mistral
    "network_error": Finish.OVERLOADED,
}


# How the beginning of an answer is gone on with: (fields of its message, fields of the body).
# Without a way of its own, a server is asked for it in words.
PREFIXES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "": ({}, {}),
    "prefix": ({"prefix": True}, {}),  # DeepSeek, Mistral, LiteLLM
    "continue_final_message": (  # vLLM
        {},
        {"continue_final_message": True, "add_generation_prompt": False},
    ),
    "last": ({}, {}),  # llama.cpp: an assistant's message at the end is enough
}


# --- What goes out ------------------------------------------------------------------------------


def body(request: Request, quirks: Quirks) -> dict[str, Any]:
    """The JSON body of `POST /chat/completions`.

    The user's own parameters go last, so that they win over everything but the stream switch. What
    a client of the relay sent goes out as it is, but for what must be right there.
    """
    own, messages = _given(request)
    out: dict[str, Any] = {
        "model": request.model,
        "messages": messages,
        **quirks.body,
        **own,
        "stream": request.stream,
    }
    if request.partial:
        message, fields = PREFIXES[quirks.prefix]
        messages.append({"role": "assistant", "content": request.partial, **message})
        out |= fields
        if not quirks.prefix:
            from holychat.core.seam import instruction  # its tables are for this case only

            messages.append({"role": "user", "content": instruction(request.partial)})
    asked = out.pop("stream_options", None)
    if request.stream and quirks.stream_options:
        options = asked if isinstance(asked, dict) else {}
        out["stream_options"] = {**options, "include_usage": True}
    for name, value in request.params.items():
        name = quirks.max_tokens if name in _BOUNDS else name
        if name != "stream":
            out[name] = value
    return out


_OURS = ("model", "messages", "stream")
_BOUNDS = ("max_tokens", "max_completion_tokens")


def _given(request: Request) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(the fields of the client's own body, the messages)."""
    if request.raw is None:
        return {}, [{"role": m.role, "content": m.content} for m in request.messages]
    # A bound that stands in the parameters may go out under the provider's name, or a lower one.
    left = (*_OURS, *(_BOUNDS if any(name in request.params for name in _BOUNDS) else ()))
    own = {name: value for name, value in request.raw.items() if name not in left}
    return own, [*request.raw["messages"]]


def amend(quirks: Quirks, sent: Mapping[str, Any], failure: Failure) -> Quirks | None:
    """Quirks to ask once more with, when the provider refused a field that it need not get.

    Only for a 400 or 422 that names the field, and only if the field was sent: so it ends.
    """
    last = sent["messages"][-1] if sent.get("messages") else {}
    if quirks.prefix and last.get("role") == "assistant" and failure.status in (400, 404, 405, 422):
        return replace(quirks, prefix="", prefix_path="")  # it is asked in words instead
    if failure.status not in (400, 422):
        return None
    said = f"{failure.what} {failure.code}".lower()
    if "stream_options" in sent and ("stream_options" in said or "include_usage" in said):
        return replace(quirks, stream_options=False)
    if "max_tokens" in sent and "max_completion_tokens" in said:
        return replace(quirks, max_tokens="max_completion_tokens")
    if "max_completion_tokens" in sent and "max_completion_tokens" in said:
        # Not for "max_completion_tokens is too large": that is a wrong value of a known field.
        return replace(quirks, max_tokens="max_tokens") if re.search(_UNKNOWN, said) else None
    return None


# Patterns of errors are compiled when there is one: at import they cost every run 0.7 ms.
_UNKNOWN = (
    r"unrecogni[sz]ed|unknown|unexpected|unsupported|extra|no such"
    r"|not (supported|permitted|allowed)"
)


# --- What comes in ------------------------------------------------------------------------------


class Reader:
    """Reads one answer: events or a whole body in, deltas out.

    `finished` tells whether the server ended the answer (a finish_reason or `[DONE]`); `done`
    that nothing more will come; `failure` is set when the server reported an error or sent
    something unreadable, after the deltas before it were returned: nothing received is lost.
    `whole`: also what is none of ours (`Delta.more`); `slow`: of every single chunk.
    """

    __slots__ = (
        "_fast", "_high", "_name", "_same", "_seen_model", "_slow", "_whole_too",
        "done", "failure", "finished", "noise",
    )  # fmt: skip

    def __init__(self, name: str, *, whole: bool = False, slow: bool = False) -> None:
        self._name = name
        self._whole_too = whole
        self._same: dict[str, Any] = {}  # what the last chunk said that was looked at
        self._slow = slow
        self._fast = False  # a chunk of nothing but text may take the short way
        # A high surrogate whose other half comes in the next chunk, by the field it is in.
        self._high = {"text": "", "reasoning": ""}
        self._seen_model = False
        self.finished = False
        self.done = False
        self.failure: Failure | None = None
        self.noise = ""  # the first event that was no JSON, for the error message

    def read(self, events: Iterable[Event]) -> list[Delta]:
        """Deltas of some events; neighbours of one kind are joined into one delta."""
        deltas: list[Delta] = []
        texts: list[str] = []
        for data, name in events:
            chunk = self._parse(data, name)
            if self.done or self.failure:
                break
            if chunk is None:
                continue
            # The shape of nearly every chunk, taken apart without a Delta of its own.
            try:
                choice = chunk["choices"][0]
                text = choice["delta"]["content"]
                plain = (
                    type(text) is str
                    and self._fast
                    and not choice.get("finish_reason")
                    and len(choice["delta"]) <= (2 if "role" in choice["delta"] else 1)
                    and not chunk.get("usage")
                    and "error" not in chunk
                    and not (self._whole_too and self._says_more(chunk, choice))
                )
            except (KeyError, IndexError, TypeError, AttributeError):
                plain = False
            if plain:
                texts.append(text)
                continue
            if texts:
                deltas.append(Delta(text="".join(texts)))
                texts = []
            self._add(deltas, chunk)
            if self.failure:
                break
        if texts:
            deltas.append(Delta(text="".join(texts)))
        return self._mend(_joined(deltas))

    def last(self, events: Iterable[Event]) -> list[Delta]:
        """`read`, for what was left when the stream closed: half a piece is no failure then."""
        deltas = self.read(events)
        if self.failure and self.failure.kind is Kind.GARBAGE:
            self.failure = None
        return deltas

    def whole(self, raw: bytes) -> list[Delta]:
        """Deltas of a body that is not an event stream: a whole completion, or an error."""
        text = raw.decode("utf-8-sig", "replace")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            self.failure = garbage(self._name, text)
            return []
        deltas: list[Delta] = []
        items = value if isinstance(value, list) else [value]
        for item in items:
            if self.failure is None:
                self._add(deltas, item)
        if self.failure is None and not deltas:
            self.failure = garbage(self._name, text)
        self.done = True
        # One whole body that parsed is not cut, whether or not it says why it ended.
        self.finished = self.finished or self.failure is None
        return self._mend(deltas)

    def rest(self) -> list[Delta]:
        """What was held back for a next chunk that never came."""
        held, self._high = self._high, {"text": "", "reasoning": ""}
        text, reasoning = ("\ufffd" if held[name] else "" for name in ("text", "reasoning"))
        return [Delta(text, reasoning)] if text or reasoning else []

    def _parse(self, data: str, name: str) -> Any:
        """One event's JSON; None for what may be skipped."""
        if data.strip() == "[DONE]":
            self.done = self.finished = True
            return None
        try:
            chunk = _loads(data)
        except (ValueError, RecursionError):
            if name == "error":
                self.failure = error(self._name, data)
            elif data.lstrip()[:1] in ("{", "["):
                # A chunk that cannot be read held a piece of the answer. Going on would present
                # an answer with a hole as a whole one.
                self.failure = Failure(
                    Kind.GARBAGE,
                    f"{self._name} sent a piece that cannot be read: {one_line(data, 120)}",
                )
            else:
                self.noise = self.noise or data  # `data: ping` and the like
            return None
        if name == "error":
            self.failure = error(self._name, chunk)
            return None
        return chunk

    def _add(self, deltas: list[Delta], chunk: Any) -> None:
        """The deltas of one chunk of any shape; sets `failure` for an error object."""
        if isinstance(chunk, list):  # Gemini wraps errors in an array
            chunk = next((item for item in chunk if isinstance(item, dict)), None)
        if not isinstance(chunk, dict):
            return
        if is_error(chunk):
            self.failure = error(self._name, chunk)
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        delta = _delta(choice) if isinstance(choice, dict) else Delta()
        delta.usage = usage(chunk)
        model = chunk.get("model")
        if not self._seen_model and isinstance(model, str) and model:
            delta.model = model
            self._seen_model = True
        # Azure's first frame names none and has no choice; a server that never does must not keep
        # every chunk from the short way.
        self._seen_model = self._seen_model or choice is not None
        self._fast = self._seen_model and not self._slow
        if self._whole_too:
            delta.more = _more(chunk, choice)
            self._same = {k: v for k, v in chunk.items() if k not in _KNOWN["chunk"]}
        if self.failure and delta.finish is Finish.OVERLOADED:
            delta.finish = None  # the error object says it better
        if delta.finish:
            self.finished = True
        if delta.reasoning and delta.text:
            deltas.append(Delta(reasoning=delta.reasoning, model=delta.model))
            delta.reasoning = delta.model = ""  # what else there is goes with the text
        if delta != _NOTHING:
            deltas.append(delta)

    def _says_more(self, chunk: dict[str, Any], choice: dict[str, Any]) -> bool:
        """Whether there is more in it than text, and than what every chunk says (OpenAI's
        system_fingerprint)."""
        known, same = _KNOWN["chunk"], self._same
        for name, value in chunk.items():
            if name not in known and value not in _NO_VALUES and same.get(name) != value:
                return True
        known = _KNOWN["choice"]
        return any(name not in known and choice[name] not in _NO_VALUES for name in choice)

    def _mend(self, deltas: list[Delta]) -> list[Delta]:
        """Join surrogate halves that came in two chunks; a half without its other is U+FFFD."""
        for delta in deltas:
            delta.text = self._whole("text", delta.text)
            delta.reasoning = self._whole("reasoning", delta.reasoning)
        return [delta for delta in deltas if delta != _NOTHING]

    def _whole(self, field: str, text: str) -> str:
        if not text or (text.isascii() and not self._high[field]):
            return text
        text = self._high[field] + text
        high = text[-1] if "\ud800" <= text[-1] < "\udc00" else ""
        self._high[field] = high
        return whole_characters(text[:-1] if high else text)


_scan = json.JSONDecoder().raw_decode


def _loads(text: str) -> Any:
    """json.loads, whose checks are 0.5 of the 4 us that a chunk takes: only where they matter."""
    try:
        value, end = _scan(text)
    except ValueError:
        return json.loads(text)
    return value if end == len(text) else json.loads(text)


# What of a chunk is said elsewhere, or by whoever sends it on: its own id, its padding.
_KNOWN: dict[str, frozenset[str]] = {
    "chunk": frozenset(
        ("id", "object", "created", "model", "choices", "usage", "error", "x_groq", "obfuscation")
    ),
    "choice": frozenset(("index", "delta", "message", "finish_reason", "text")),
    "delta": frozenset(("role", "content", "reasoning", "reasoning_content", "refusal")),
}
_NO_VALUES: tuple[Any, ...] = (None, "", [], {})


def _more(chunk: dict[str, Any], choice: Any) -> dict[str, Any] | None:
    """What else a chunk says (`Delta.more`); None where that is nothing."""
    choice = choice if isinstance(choice, dict) else {}
    piece = choice.get("delta") or choice.get("message")
    places = {"chunk": chunk, "choice": choice, "delta": piece if isinstance(piece, dict) else {}}
    found: dict[str, Any] = {}
    for place, value in places.items():
        known = _KNOWN[place]
        rest = {k: v for k, v in value.items() if k not in known and v not in _NO_VALUES}
        if rest:
            found[place] = rest
    said = choice.get("finish_reason")
    kind = finish(said)
    if kind is not None and said != kind.value:
        found["finish"] = said
    return found or None


_NOTHING = Delta()
_SURROGATE = re.compile("[\ud800-\udfff]")


def whole_characters(text: str) -> str:
    """Text that can be encoded: surrogate pairs made one character, lone halves U+FFFD."""
    if _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _joined(deltas: list[Delta]) -> list[Delta]:
    """Neighbours that hold only text, or only reasoning, made one."""
    if len(deltas) < 2:  # as nearly always
        return deltas
    out: list[Delta] = []
    for delta in deltas:
        last = out[-1] if out else None
        if last is not None and delta == Delta(text=delta.text) and last.text and not last.finish:
            last.text += delta.text
        elif (
            last is not None
            and delta == Delta(reasoning=delta.reasoning)
            and last.reasoning
            and not (last.text or last.finish)
        ):
            last.reasoning += delta.reasoning
        else:
            out.append(delta)
    return out


def _delta(choice: dict[str, Any]) -> Delta:
    """The text, the reasoning and the end of one choice."""
    # `message` instead of `delta`: a whole answer; some gateways send it in a stream too.
    piece = choice.get("delta") or choice.get("message")
    if not isinstance(piece, dict):
        piece = {"content": choice.get("text")}  # the old completion form
    text, thought = parts(piece.get("content"))
    delta = Delta(text, thought, finish(choice.get("finish_reason")))
    for name in ("reasoning_content", "reasoning"):  # DeepSeek and vLLM; OpenRouter, Groq, Ollama
        value = piece.get(name)
        if isinstance(value, str) and value:
            delta.reasoning += value
            break
    refusal = piece.get("refusal")
    if isinstance(refusal, str) and refusal:
        delta.text += refusal
        delta.refusal = True
    return delta


def parts(content: Any, depth: int = 0) -> tuple[str, str]:
    """(text, reasoning) of a content that is a string, null, or a list of typed parts."""
    if isinstance(content, str):
        return content, ""
    if depth > 6:
        return "", ""
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content if isinstance(content, list) else ():
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            if isinstance(part.get("text"), str):
                texts.append(part["text"])
            elif "thinking" in part:  # Mistral: a string, or a list of text parts
                thoughts.append("".join(parts(part["thinking"], depth + 1)))
    return "".join(texts), "".join(thoughts)


def finish(reason: Any) -> Finish | None:
    """Why the answer ended; None while it has not. An unknown word is the provider's "done"."""
    if not isinstance(reason, str) or not reason:
        return None
    return FINISHES.get(reason.lower(), Finish.STOP)


def usage(chunk: dict[str, Any]) -> Usage | None:
    """Token counts of a chunk or a whole answer, in any of the known dialects."""
    found = chunk.get("usage")
    if not isinstance(found, dict):
        groq = chunk.get("x_groq")
        found = groq.get("usage") if isinstance(groq, dict) else None
    if not isinstance(found, dict):
        return None
    prompt_details = _object(found, "prompt_tokens_details")
    completion_details = _object(found, "completion_tokens_details")
    return Usage(
        prompt=_count(found, "prompt_tokens"),
        completion=_count(found, "completion_tokens"),
        cached=_count(prompt_details, "cached_tokens") or _count(found, "prompt_cache_hit_tokens"),
        reasoning=_count(completion_details, "reasoning_tokens"),
        cost=_cost(found.get("cost")),
    )


def _cost(found: Any) -> int | None:
    """What the answer cost by the provider's own account, in dollars there (OpenRouter's form)."""
    sound = isinstance(found, (int, float)) and not isinstance(found, bool) and 0 <= found < 1e6
    return round(found * 10**12) if sound else None


def _object(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _count(value: dict[str, Any], name: str) -> int:
    found = value.get(name)
    return int(found) if isinstance(found, (int, float)) and 0 <= found < 1e12 else 0


# --- Errors -------------------------------------------------------------------------------------


def is_error(chunk: dict[str, Any]) -> bool:
    """Whether an object at status 200 is an error: in any of the shapes that servers send."""
    if chunk.get("choices"):
        return bool(chunk.get("error"))  # OpenRouter puts it beside the choices
    return bool(chunk.get("error")) or any(
        (
            chunk.get("object") == "error",  # vLLM
            chunk.get("type") == "error",
            "choices" not in chunk and ("message" in chunk or "detail" in chunk),
        )
    )


def refused(name: str, status: int, raw: bytes, retry_after: float | None = None) -> Failure:
    """The Failure of an answer whose status is not 200."""
    text = raw.decode("utf-8", "replace").strip()
    if 300 <= status < 400:
        what = f"{name} answered with a redirect ({status}), which is not followed."
        return Failure(Kind.GARBAGE, what, hint(Kind.GARBAGE, name), status=status)
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = html_text(text) if text[:1] == "<" else text
    return error(name, value, status, retry_after)


def error(name: str, value: Any, status: int = 0, retry_after: float | None = None) -> Failure:
    """The Failure of an error object of any shape, from an HTTP error or inside a stream."""
    said = one_line(message(value), 300)
    code = _code(value)
    in_stream = not status
    if in_stream and code.isdecimal() and 400 <= int(code) < 600:
        status = int(code)
    kind = _kind(status, f"{said} {code}".lower(), code.lower())
    where = "in mid-stream" if in_stream else str(status)
    what = f"{name}: {said}" if said and said != "None" else f"{name} reported an error"
    return Failure(
        kind,
        f"{what} ({where})",
        hint(kind, name),
        status=status,
        code=code,
        retry_after=retry_after,
    )


def garbage(name: str, text: str) -> Failure:
    """The Failure of an answer that is no chat completion at all."""
    text = text.strip()
    shown = one_line(html_text(text) if text[:1] == "<" else text, 120) or "nothing"
    what = f"{name} did not answer with a chat completion but with: {shown}"
    return Failure(Kind.GARBAGE, what, hint(Kind.GARBAGE, name))


def message(value: Any, depth: int = 0) -> str:
    """The human part of an error of any shape: nested objects, arrays, strings of JSON."""
    if depth > 6:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        return "; ".join(filter(None, (message(item, depth + 1) for item in value[:3])))
    if not isinstance(value, dict):
        return ""
    for name in ("error", "errors", "message", "msg", "detail", "error_msg", "title", "reason"):
        said = message(value.get(name), depth + 1)
        if said:
            raw = message(_object(value, "metadata").get("raw"), depth + 1)  # OpenRouter's upstream
            return f"{said}: {raw}" if raw else said
    return ""


def html_text(page: str) -> str:
    """The title of an HTML page, else its text: enough for one line about a gateway's error."""
    page = page[:20_000]
    title = re.search(r"<title[^>]*>([^<]*)", page, re.IGNORECASE)
    if title and title.group(1).strip():
        return title.group(1).strip()
    page = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.IGNORECASE | re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the server asks to wait; None where it does not say or says nonsense.

    `retry-after-ms` (OpenAI), then `Retry-After` in seconds or as an HTTP date (RFC 9110 10.2.3).
    `headers` has lower-case names; `now` is Unix time.
    """
    milliseconds = _seconds(headers.get("retry-after-ms", ""), now)
    if milliseconds is not None:
        return milliseconds / 1000
    return _seconds(headers.get("retry-after", ""), now)


def _seconds(raw: str, now: float) -> float | None:
    raw = raw.strip()
    try:
        if raw[:1].isalpha():
            from email.utils import parsedate_to_datetime

            seconds = parsedate_to_datetime(raw).timestamp() - now
        else:
            seconds = float(raw.replace("_", "?"))  # Python's own way to write 10
    except (ValueError, OverflowError):
        return None
    # What lies behind us, and 0, say nothing: openai-python takes its own back-off then.
    return seconds if 0 < seconds < float("inf") else None


_UNITS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ms|us|µs|[dhms])")
_DAY = 86_400.0


def rates(headers: Mapping[str, str], now: float) -> Rates | None:
    """What the server says of its rate limits; None where it says nothing that makes sense.

    `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, as OpenAI documents them. A reset is a
    duration (`6m0s`, `250ms`), or seconds, or a Unix time. `headers` has lower-case names; `now`
    is Unix time.
    """
    said: dict[str, Any] = {}
    for what in ("requests", "tokens"):
        said[what] = _amount(headers.get(f"x-ratelimit-limit-{what}", "")) or None
        said[f"{what}_left"] = _amount(headers.get(f"x-ratelimit-remaining-{what}", ""))
        said[f"{what}_reset"] = _reset(headers.get(f"x-ratelimit-reset-{what}", ""), now)
    found = Rates(**said)
    return None if found == Rates() else found


def _amount(raw: str) -> int | None:
    """A whole number below a million millions; there is no such limit."""
    whole = re.fullmatch(r"\s*([0-9]{1,12})(?:\.0*)?\s*", raw)
    return int(whole[1]) if whole else None


def _reset(raw: str, now: float) -> float | None:
    """Seconds until a limit is whole again: a day at most, everything else is a mistake."""
    raw = raw.strip()[:60]
    parts = _DURATION.findall(raw)
    if parts and "".join(map("".join, parts)) == raw:
        seconds = sum(float(amount) * _UNITS[unit] for amount, unit in parts)
    elif re.fullmatch(r"[0-9]{1,15}(?:\.[0-9]{1,15})?", raw):
        seconds = float(raw)
        if seconds > 1e11:  # a Unix time in milliseconds
            seconds /= 1000
        if seconds > 1e9:  # a Unix time
            seconds = max(0.0, seconds - now)
    else:
        return None
    return seconds if seconds <= _DAY else None


def model_ids(value: Any) -> list[str]:
    """The ids in an answer of `GET /models`, in its order: OpenAI's form, or what resembles it."""
    rows = value if isinstance(value, list) else None
    for name in ("data", "models"):
        if rows is None and isinstance(value, dict) and isinstance(value.get(name), list):
            rows = value[name]
    ids: dict[str, None] = {}  # in order, and each once
    for row in rows or ():
        found = row if isinstance(row, str) else None
        if isinstance(row, dict):
            found = next((row[n] for n in ("id", "name", "model") if row.get(n)), None)
        if isinstance(found, str):
            ids[found.removeprefix("models/")] = None  # Gemini
    return list(ids)


def _code(value: Any) -> str:
    """The provider's code or type: error.code, error.type, code; empty where there is none."""
    if isinstance(value, list):
        value = next((item for item in value if isinstance(item, dict)), None)
    if not isinstance(value, dict):
        return ""
    inner = value.get("error")
    places = [inner, value] if isinstance(inner, dict) else [value]
    for place in places:
        for name in ("code", "type", "status"):
            found = place.get(name)
            if isinstance(found, (str, int)) and str(found) not in ("", "None", "error"):
                return one_line(str(found), 60)
    return ""


_CONTEXT = (
    r"context.?length|context.?window|maximum context|prompt is too long|too many (input )?tokens"
    r"|exceeds? (the )?(available )?context|input is too long|reduce the length"
    r"|maximum (model|prompt) length|exceeds? the maximum number of tokens|input tokens exceed"
    r"|inputs`? tokens \+ |total number of tokens in the prompt"
)
_MODEL = (
    r"model.?not.?found|model.?not.?exist|no such model|unknown model|(invalid|not a valid) model"
    r"|model .{0,80}(does not exist|not found|not supported|not available)|no endpoints found"
)
_KEY = r"api.?key.{0,20}(not valid|invalid)|(invalid|incorrect).?api.?key"


def _kind(status: int, said: str, code: str) -> Kind:
    """How an error counts, by its status first and its words where the status is vague."""
    # Gemini answers 400 to a wrong key, and some relays 200.
    if status in (401, 403) or (status in (0, 400) and re.search(_KEY, said)):
        return Kind.AUTH
    if status == 402 or "insufficient_quota" in said or "insufficient balance" in said:
        return Kind.BALANCE
    if status == 429 or "rate_limit" in code or "rate limit" in code:
        return Kind.RATE
    if status in (408, 409, 425) or status >= 500:
        return Kind.SERVER
    if status == 413 or re.search(_CONTEXT, said):
        return Kind.CONTEXT
    if re.search(_MODEL, said):
        return Kind.MODEL
    return Kind.REQUEST if status else Kind.IN_STREAM
