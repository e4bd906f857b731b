"""The attempts loop: one request goes to a provider, its answer comes back as events.

Owns who is asked. Shows nothing, stores nothing. For now it makes one attempt at one provider;
retries and other providers belong here and nowhere else.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from holychat.core.chat import Attempt
from holychat.core.failure import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from holychat.core.chat import Event, Request
    from holychat.core.provider import Provider
    from holychat.net.client import Client


async def reply(
    client: Client, provider: Provider, request: Request
) -> AsyncGenerator[Event, None]:
    """The events of one answer. Raises Failure at the end of the road, after what came."""
    yield Attempt(provider.name, request.model, request.partial)
    try:
        async with aclosing(client.stream(provider, request)) as deltas:
            async for delta in deltas:
                yield delta
    except Failure as failure:
        keyless(failure, provider)
        raise


SHORTEST = 12  # characters of a key that are worth hiding; fewer are its public prefix


def keyless(failure: Failure, provider: Provider) -> None:
    """Take the key out of a failure's text: some servers quote the one that they refuse.

    Also the beginning of a key, where the text was cut to size in the middle of it.
    """
    key, what = provider.key.reveal(), failure.what
    for length in range(len(key), SHORTEST - 1, -1):
        what = what.replace(key[:length], provider.key.mask)
    failure.what, failure.args = what, (what,)
