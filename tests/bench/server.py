"""The loopback server of the benchmarks: a process of its own that sends bytes made beforehand.

`python server.py CHUNKS` prints its port, then answers every POST until it is killed. The answer
is chosen by the path, so that each contestant meets the same bytes:

    /one/v1/...   CHUNKS events, each in an HTTP chunk of its own (what most servers do)
    /many/v1/...  CHUNKS events, 50 of them in an HTTP chunk (what some gateways make of them)
    /token/v1/... one token

Everything is built before the port is printed and goes out by `sendall`: the server must not be
what is measured.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from collections.abc import Iterable

NOTHING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
WORDS = (" the", " answer", ",", " a", " word", " like", " others", ".\n", " über", " 好的")
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def text_of(chunks: int) -> str:
    """The answer's text: what the contestants have to print."""
    return "".join(WORDS[i % len(WORDS)] for i in range(chunks))


def event(delta: dict[str, str], finish: str | None = None) -> bytes:
    """One event of about 200 bytes, in the form and with the fields of OpenAI's own server."""
    chunk = {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1760000000,
        "model": "bench-model",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    text = json.dumps(chunk, separators=(",", ":"), ensure_ascii=False)
    return f"data: {text}\n\n".encode()


def chunked(pieces: Iterable[bytes]) -> bytes:
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return HEAD + framed + b"0\r\n\r\n"


def answer(chunks: int, together: int) -> bytes:
    """The whole response, `together` events in each HTTP chunk."""
    by_word = [event({"content": word}) for word in WORDS]
    events = [
        event({"role": "assistant", "content": ""}),
        *(by_word[i % len(WORDS)] for i in range(chunks)),
        event({}, "stop"),
        b"data: [DONE]\n\n",
    ]
    return chunked(b"".join(events[i : i + together]) for i in range(0, len(events), together))


def serve(connection: socket.socket, answers: dict[bytes, bytes]) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, connection.makefile("rb") as lines:
        try:
            while request := lines.readline():
                length = 0
                while (line := lines.readline()).strip():
                    if found := re.match(rb"content-length: *(\d+)", line, re.IGNORECASE):
                        length = int(found[1])
                lines.read(length)
                name = request.split(b"/")[1] if request.startswith(b"POST") else b""
                connection.sendall(answers.get(name, NOTHING))
        except OSError:
            pass  # the client has what it wanted


def main() -> None:
    chunks = int(sys.argv[1])
    answers = {
        b"one": answer(chunks, 1),
        b"many": answer(chunks, 50),
        b"token": answer(1, 1),
    }
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, answers), daemon=True).start()


if __name__ == "__main__":
    main()
