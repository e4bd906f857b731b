"""The way in: `python -m holychat` and the `holychat` script.

Owns the process: the fast answer to --version, how often garbage is looked for, and the way out.
The interpreter's own exit frees every object one by one, which takes longer than most answers; so
output is flushed and the process ends at once.
"""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    if sys.argv[1:] == ["--version"]:
        from holychat import __version__

        try:
            os.write(1, f"holychat {__version__}\n".encode())
        except BrokenPipeError:
            os._exit(141)
        except OSError as error:
            os.write(2, f"holychat: the output cannot be written: {error.strerror}\n".encode())
            os._exit(1)
        os._exit(0)
    # Importing makes 50,000 objects that stay and hardly any garbage; at the default of 700 the
    # collector walks them again and again, 10 of the 110 ms that `ask` takes. Cycles are rare here.
    gc.set_threshold(100_000)
    try:
        from holychat import env

        env.fill_closed()
        from holychat.cli import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # before `run` could see to it, or again while it did
        import signal

        from holychat import env

        env.end_by(signal.SIGINT)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass  # closed, or its reader left: there is nobody to tell
    os._exit(code)


if __name__ == "__main__":
    main()
