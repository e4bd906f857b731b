"""holychat as a real process in an almost empty environment, for the tests that need one.

place = Place(tmp_path)                       # folders of its own, no key, no settings
place.provider(server.base_url)               # a config that asks the scripted server
ended = await place.run("ask", "hi", stdin=b"piped")
assert (ended.code, ended.out) == (0, b"Hello\\n")

async with place.start("ask", "hi") as running:
    await running.until(b"Hel")               # what is on stdout by now
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KEY = "sk-holy-0123456789-secret"
PATIENT = 30.0  # seconds after which a process hangs; machines that test can be slow
PIPE = asyncio.subprocess.PIPE
DEVNULL = asyncio.subprocess.DEVNULL


@dataclass(frozen=True)
class Ended:
    """What a process left: `code` is negative for a signal."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()


class Running:
    """A process with its stdout on a pipe."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.out = b""

    async def until(self, wanted: bytes) -> None:
        """Read stdout until it holds `wanted`."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENT):
            while wanted not in self.out:
                data = await self.process.stdout.read(1 << 16)
                assert data, f"stdout ended without {wanted!r}: {self.out!r}"
                self.out += data

    async def err_until(self, wanted: bytes) -> None:
        """Read stderr until it holds `wanted`; not to be mixed with `end`'s `err`."""
        assert self.process.stderr is not None
        seen = b""
        async with asyncio.timeout(PATIENT):
            while wanted not in seen:
                data = await self.process.stderr.read(1 << 16)
                assert data, f"stderr ended without {wanted!r}: {seen!r}"
                seen += data

    def leave(self) -> None:
        """Close our end of its stdout, as `head` does when it has seen enough."""
        # asyncio has no public way to the reading end of a child's pipe.
        transport: Any = self.process._transport  # type: ignore[attr-defined]
        transport.get_pipe_transport(1).close()

    async def end(self) -> Ended:
        async with asyncio.timeout(PATIENT):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return Ended(self.process.returncode, self.out + (out or b""), (err or b"").decode())

    async def end_with_open_stdin(self) -> Ended:
        """The same, while nobody closes its stdin."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENT):
            out, err = await asyncio.gather(self.process.stdout.read(), self.process.stderr.read())
            code = await self.process.wait()
        return Ended(code, self.out + out, err.decode())


class Place:
    """Scratch folders for the home and the working directory of one user."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.work = root / "work"
        self.home.mkdir()
        self.work.mkdir()
        self.config_path = self.home / ".config" / "holychat" / "config.toml"
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PYTHONWARNINGS": "error",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def config(self, text: str) -> None:
        self.config_path.parent.mkdir(parents=True, exist_ok=True)
        self.config_path.write_text(text)
        self.config_path.chmod(0o600)

    def provider(self, base_url: str, more: str = "", top: str = "") -> None:
        """A config whose provider `box` is at `base_url`, with a key and a model."""
        self.config(
            f'provider = "box"\n{top}\n[providers.box]\nbase_url = "{base_url}"\n'
            f'model = "test-model"\n{more}\n'
        )
        self.environ["BOX_API_KEY"] = KEY

    @asynccontextmanager
    async def start(
        self,
        *arguments: str | bytes,
        stdin: int = DEVNULL,
        stdout: int = PIPE,
        program: tuple[str, ...] = (sys.executable, "-m", "holychat"),
        **environ: str,
    ) -> AsyncIterator[Running]:
        process = await asyncio.create_subprocess_exec(
            *program,
            *arguments,
            stdin=stdin,
            stdout=stdout,
            stderr=PIPE,
            cwd=self.work,
            env={**self.environ, **environ},
        )
        running = Running(process)
        try:
            yield running
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def run(
        self, *arguments: str | bytes, stdin: bytes | int = DEVNULL, **more: Any
    ) -> Ended:
        """Run it to its end; bytes are piped into stdin."""
        if isinstance(stdin, int):
            async with self.start(*arguments, stdin=stdin, **more) as running:
                return await running.end()
        async with self.start(*arguments, stdin=PIPE, **more) as running:
            assert running.process.stdin is not None
            running.process.stdin.write(stdin)
            running.process.stdin.close()
            return await running.end()

    async def shell(self, line: str, **environ: str) -> Ended:
        """Run a line of the shell, in which `$H` is holychat."""
        program = ("sh", "-c", line)
        environ["H"] = f"{sys.executable} -m holychat"
        async with self.start(program=program, **environ) as running:
            return await running.end()
