"""Exit codes, in one place. Scripts rely on them; they do not change."""

from enum import IntEnum

from holychat.core.failure import Failure, Kind


class Exit(IntEnum):
    """What the process says to the shell."""

    OK = 0  # a complete answer, or the command did its work
    INTERNAL = 1  # a bug of ours, or the machine failed us (disk full)
    USAGE = 2  # the command line makes no sense
    SETTINGS = 3  # configuration or authentication
    PROVIDERS = 4  # every provider failed, nothing came
    CUT = 5  # the answer is not complete; what came was printed
    PIPE = 141  # the reader of our output left: 128 + SIGPIPE, as shells count it


def of_failure(failure: Failure) -> Exit:
    """The code of a failure with nothing to show for it."""
    own = failure.kind in (Kind.AUTH, Kind.LIMIT)  # for the user to settle
    return Exit.SETTINGS if own else Exit.PROVIDERS
