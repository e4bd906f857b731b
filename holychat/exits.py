"""Exit codes, in one place. Scripts rely on them; they do not change."""

from enum import IntEnum


class Exit(IntEnum):
    """What the process says to the shell."""

    OK = 0  # a complete answer, or the command did its work
    INTERNAL = 1  # a bug of ours, or the machine failed us (disk full)
    USAGE = 2  # the command line makes no sense
    SETTINGS = 3  # configuration or authentication
    PROVIDERS = 4  # every provider failed, nothing came
    CUT = 5  # the answer is not complete; what came was printed
    PIPE = 141  # the reader of our output left: 128 + SIGPIPE, as shells count it
