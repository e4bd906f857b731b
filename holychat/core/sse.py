"""Bytes in, server-sent events out, by the rules of the WHATWG event stream.

Source: html.spec.whatwg.org, "Server-sent events", parsing an event stream. Owns the line and
field rules; must not know JSON or a provider. Any split of the bytes gives the same events, and
the cost is linear in the input, also for one line of megabytes fed byte by byte.

Three liberties, all asked for by real servers: an event without its blank line at the end of the
stream is returned by `end` (the caller decides whether it counts), an event whose data is empty is
dropped, and a line `error: ...` (llama.cpp until September 2025) is data of an event named error.
"""

from __future__ import annotations

from typing import NamedTuple

CR = 13


class Event(NamedTuple):
    """`data` is the joined data lines; `name` the `event:` field, empty where there was none."""

    data: str
    name: str = ""


class EventTooLong(ValueError):  # noqa: N818 - says it all
    """One event grew over the bound; the stream cannot be trusted any further.

    `events` holds those that were complete before it, so that nothing received is lost.
    """

    def __init__(self, limit: int, events: list[Event]) -> None:
        super().__init__(f"one event is larger than {limit} bytes")
        self.events = events


class Decoder:
    """Feed bytes, get events.

    `limit` bounds the bytes of one event (its data lines and what has come of the next line), so
    that a server cannot fill the memory with one endless line.
    """

    __slots__ = ("_after_cr", "_bom", "_buffer", "_data", "_held", "_name", "_scanned", "limit")

    def __init__(self, limit: int = 16 * 1024 * 1024) -> None:
        self.limit = limit
        self._buffer = bytearray()  # the unfinished line
        self._scanned = 0  # bytes of it known to hold no line end
        self._after_cr = False  # the last byte seen was a CR that ended a line
        self._bom = True  # a byte order mark may still come
        self._data: list[bytes] = []  # data of the unfinished event
        self._held = 0  # bytes of its data lines
        self._name = b""

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes. Raises EventTooLong past the bound."""
        if self._after_cr and chunk:
            # A CR at the end of a read ended its line at once; a LF that follows belongs to it.
            self._after_cr = False
            if chunk[:1] == b"\n":
                chunk = chunk[1:]
        buffer = self._buffer
        buffer += chunk
        if self._bom and not self._skip_bom():
            return []
        events: list[Event] = []
        # What was scanned holds no line end: linear also where one never comes.
        end = 1 + max(buffer.rfind(b"\n", self._scanned), buffer.rfind(b"\r", self._scanned))
        if end:
            lines = bytes(buffer[:end]).splitlines()  # of bytes: at LF, CR and CRLF only
            self._after_cr = buffer[-1] == CR
            del buffer[:end]
            for line in lines:
                if self._held + len(line) > self.limit:
                    raise EventTooLong(self.limit, events)
                self._line(line, events)
        self._scanned = len(buffer)
        if self._held + len(buffer) > self.limit:
            raise EventTooLong(self.limit, events)
        return events

    def _skip_bom(self) -> bool:
        """Drop one leading byte order mark; False while it may still be coming."""
        head = self._buffer[:3]
        if len(head) < 3 and b"\xef\xbb\xbf".startswith(head):
            return False
        self._bom = False
        if head == b"\xef\xbb\xbf":
            del self._buffer[:3]
        return True

    def end(self) -> list[Event]:
        """What was left without its line end or blank line when the stream closed."""
        events: list[Event] = []
        if self._buffer:
            self._line(bytes(self._buffer), events)
            self._buffer.clear()
            self._scanned = 0
        self._dispatch(events)
        return events

    def _line(self, line: bytes, events: list[Event]) -> None:
        # The two lines that make up nearly every stream come first.
        if line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._data.append(value)
            self._held += len(line)
        elif not line:
            self._dispatch(events)
        elif line == b"data":
            self._data.append(b"")
            self._held += len(line)
        elif line.startswith(b"event:"):
            self._name = line[7:] if line[6:7] == b" " else line[6:]
        elif line == b"event":
            self._name = b""
        elif line.startswith(b"error:"):
            self._name = b"error"
            self._data.append(line[6:].lstrip(b" "))
            self._held += len(line)
        # Everything else is a comment, `id`, `retry` (nobody reconnects a chat answer) or unknown.

    def _dispatch(self, events: list[Event]) -> None:
        data, name = self._data, self._name
        if data:
            joined = data[0] if len(data) == 1 else b"\n".join(data)
            if joined:
                text = joined.decode("utf-8", "replace")
                events.append(Event(text, name.decode("utf-8", "replace") if name else ""))
            self._data = []
            self._held = 0
        self._name = b""
