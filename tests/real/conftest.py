"""Servers that others wrote: found by the environment, or started from it; see README.md."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
LITELLM_KEY = "sk-holychat-lab-0123456789"  # as in litellm.yaml
STARTING = 240.0  # seconds; the first start of a large Python program on a cold disk


@dataclass(frozen=True)
class Server:
    base_url: str
    key: str = ""
    model: str = ""


@pytest.fixture(scope="session")
def litellm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A LiteLLM proxy with litellm.yaml."""
    key = os.environ.get("HOLYCHAT_TEST_LITELLM_KEY", LITELLM_KEY)
    if url := os.environ.get("HOLYCHAT_TEST_LITELLM"):
        yield Server(url.rstrip("/"), key)
        return
    with litellm_of(HERE / "litellm.yaml", tmp_path_factory.mktemp("litellm") / "log") as (it, _):
        yield it


@contextmanager
def litellm_of(config: Path, log: Path) -> Iterator[tuple[Server, subprocess.Popen[bytes]]]:
    """A LiteLLM proxy of our own, which may be killed."""
    program = wanted("LITELLM")
    port = free_port()
    command = [program, "--config", str(config), "--host", "127.0.0.1"]
    environ = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    health = f"http://127.0.0.1:{port}/health/liveliness"
    with running([*command, "--port", str(port)], environ, log, health) as process:
        yield Server(f"http://127.0.0.1:{port}/v1", LITELLM_KEY), process


@pytest.fixture(scope="session")
def tfserve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`transformers serve` with the model of tiny_model.py."""
    if url := os.environ.get("HOLYCHAT_TEST_TFSERVE"):
        yield Server(url.rstrip("/"), model=os.environ.get("HOLYCHAT_TEST_TFSERVE_MODEL", ""))
        return
    program = wanted("TFSERVE")
    folder = tmp_path_factory.mktemp("tfserve")
    model, port = str(folder / "tiny-llama"), free_port()
    python = str(Path(program).with_name("python"))
    environ = {
        "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(folder / "hf"),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    with (folder / "made").open("wb") as made:
        subprocess.run(
            [python, str(HERE / "tiny_model.py"), model],
            env={**os.environ, **environ}, stdout=made, stderr=made, check=True,
        )  # fmt: skip
    command = [program, "serve", model, "--host", "127.0.0.1", "--port", str(port)]
    health = f"http://127.0.0.1:{port}/health"
    with running([*command, "--device", "cpu"], environ, folder / "log", health):
        yield Server(f"http://127.0.0.1:{port}/v1", model=model)


def wanted(name: str) -> str:
    """The program from the environment; skips, and says how not to, where none is named."""
    variable = f"HOLYCHAT_TEST_{name}_BIN"
    program = os.environ.get(variable, "")
    if not program:
        pytest.skip(f"set HOLYCHAT_TEST_{name} or {variable}: see tests/real/README.md")
    return program


def named(variable: str, install: str) -> str:
    """What the environment names; skips, and says how to get it, where it names nothing."""
    value = os.environ.get(variable, "")
    if not value:
        pytest.skip(f"`{install}` and set {variable}: see tests/real/README.md")
    return value


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def running(
    command: list[str], environ: dict[str, str], log: Path, health: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The server, from its first answer to `health` on."""
    with (
        log.open("wb") as file,
        subprocess.Popen(
            command,
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=log.parent,
        ) as process,
    ):
        try:
            until_up(process, health, log)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


def until_up(process: subprocess.Popen[bytes], health: str, log: Path) -> None:
    end = time.monotonic() + STARTING
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text(errors="replace")[-4000:]
        try:
            urllib.request.urlopen(health, timeout=2).close()
        except urllib.error.HTTPError as answered:
            answered.close()
            return
        except OSError:
            time.sleep(0.25)
        else:
            return
    pytest.fail(f"{health} never answered:\n{log.read_text(errors='replace')[-4000:]}")
