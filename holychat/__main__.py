"""The way in: `python -m holychat` and the `holychat` script.

Owns the process: the fast answer to --version, and the way out. The interpreter's own exit frees
every object one by one, which takes longer than most answers; so output is flushed and the
process ends at once.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    if sys.argv[1:] == ["--version"]:
        from holychat import __version__

        try:
            os.write(1, f"holychat {__version__}\n".encode())
        except OSError:
            os._exit(1)
        os._exit(0)
    from holychat.cli import run

    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass  # closed, or its reader left: there is nobody to tell
    os._exit(code)


if __name__ == "__main__":
    main()
