"""Which processes are alive: by their pid and the moment they began, for pids come again.

Owns the reading of /proc. Where the system does not say it, nobody is taken for dead here.
"""

from __future__ import annotations

import functools
import os
import secrets
import socket


def born(pid: int) -> str:
    """The boot and the tick at which a process began; empty where there is none, or the system
    does not say it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The second field may hold blanks and brackets; state is the third, starttime the
            # 22nd (proc(5)). A zombie is dead and only not buried yet.
            fields = file.read().rpartition(")")[2].split()
        if fields[0] in "ZX":
            return ""
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()}:{fields[19]}"
    except (OSError, IndexError):
        return ""


def our_birth() -> str:
    """Our own, which is asked for at each entry of the journal."""
    return _birth(os.getpid())


@functools.cache
def _birth(pid: int) -> str:
    return born(pid)


def name() -> str:
    """A new name for something of this process, by which others see when it has died."""
    return f"{secrets.token_hex(8)}/{os.getpid()}/{our_birth()}/{socket.gethostname()}"


def gone(named: str) -> bool:
    """Whether the process behind a name is dead; one of another machine is not known to be."""
    _, _, rest = named.partition("/")
    pid, _, rest = rest.partition("/")
    birth, _, host = rest.partition("/")
    if not (birth and pid.isdecimal()) or host != socket.gethostname():
        return False
    return born(int(pid)) != birth
