"""The attempts loop: one request goes to a provider, its answer comes back as events.

Owns who is asked. Shows nothing, stores nothing. For now it makes one attempt at one provider;
retries and other providers belong here and nowhere else.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from holychat.core.chat import Attempt

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from holychat.core.chat import Event, Request
    from holychat.core.provider import Provider
    from holychat.net.client import Client


async def reply(
    client: Client, provider: Provider, request: Request
) -> AsyncGenerator[Event, None]:
    """The events of one answer. Raises Failure at the end of the road, after what came."""
    yield Attempt(provider.name, request.model)
    async with aclosing(client.stream(provider, request)) as deltas:
        async for delta in deltas:
            yield delta
