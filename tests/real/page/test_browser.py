"""The relay's page in Chromium: the checks of page.mjs, one after the other, in two runs.

Owns how they are run; what is checked stands in page.mjs. See README.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real.conftest import named

HERE = Path(__file__).parent
LONG = 600  # seconds for all of them
MISSING = 77


@pytest.mark.slow
@pytest.mark.parametrize("relay", [[], ["--real"]], ids=["stand-in", "holychat-serve"])
def test_the_page_in_chromium(relay: list[str]) -> None:
    packages = named("HOLYCHAT_TEST_NODE", "npm install playwright-core ws")
    browser = named("HOLYCHAT_TEST_CHROMIUM", "apt install chromium")
    node = shutil.which("node")
    assert node is not None, "HOLYCHAT_TEST_NODE is set, and there is no node"
    environ = {**os.environ, "HOLYCHAT_TEST_CHROMIUM": browser}
    environ.setdefault("HOLYCHAT_TEST_PROGRAM", f"{sys.executable} -m holychat")
    ended = subprocess.run(
        [node, str(HERE / "page.mjs"), *relay],
        cwd=packages, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=LONG, check=False,
    )  # fmt: skip
    if ended.returncode == MISSING:
        pytest.skip(ended.stdout.strip())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.endswith("all well\n")
