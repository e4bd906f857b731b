"""The loopback server of the failover benchmark: a process of its own that fails on purpose.

`python -m tests.bench.failing` prints its port, then answers every POST until it is killed, by the
path:

    /500/v1/...    an error
    /reset/v1/...  a reset before any header
    /cut/v1/...    the beginning of an answer, then the end of the connection
    /spare/v1/...  an answer that ends with the nanoseconds from the last failure to this request

The moment of a failure is that before its bytes (or the end of the connection) are given to the
system, the moment of a request that when its first line is read: what lies between is all of it
the client's. One request at a time.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
import time

from tests.bench.server import HEAD, NOTHING, event

BEGINNING = "It begins well, and goes on, "
BROKEN = b'{"error": {"message": "broken", "type": "server_error"}}'
ERROR = b"HTTP/1.1 500 X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(BROKEN),
    BROKEN,
)
AWAY = HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")  # each spare is asked afresh
ARRIVED = 0.02  # seconds for the beginning of an answer to be read
END = event({}, "stop") + b"data: [DONE]\n\n"


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Server:
    def __init__(self) -> None:
        self._failed = 0

    def serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as lines:
            try:
                while request := lines.readline():
                    seen = time.monotonic_ns()
                    length = 0
                    while (line := lines.readline()).strip():
                        if found := re.match(rb"content-length: *(\d+)", line, re.IGNORECASE):
                            length = int(found[1])
                    lines.read(length)
                    name = request.split(b"/")[1].decode() if request.startswith(b"POST") else ""
                    if not self._answer(connection, name, seen):
                        return
            except OSError:
                pass  # the client has what it wanted

    def _answer(self, connection: socket.socket, name: str, seen: int) -> bool:
        """Whether the connection may be used again."""
        match name:
            case "500":
                self._failed = time.monotonic_ns()
                connection.sendall(ERROR)
                return True
            case "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._failed = time.monotonic_ns()
            case "cut":
                connection.sendall(HEAD + framed(event({"content": BEGINNING})))
                time.sleep(ARRIVED)
                self._failed = time.monotonic_ns()
            case "spare":
                said = event({"content": f"in {seen - self._failed} ns"}) + END
                connection.sendall(AWAY + framed(said) + b"0\r\n\r\n")
            case _:
                connection.sendall(NOTHING)
                return True
        return False


def main() -> None:
    server = Server()
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=server.serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
