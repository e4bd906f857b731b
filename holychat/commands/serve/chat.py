"""The seed documents' form: `POST /chat` with a message and a history, answered as an event stream.

Its lines are the provider's chunks, as there, with the piece of text once more as `content`, and
`[DONE]` at the end, which theirs swallowed. Roles in the history are kept; one without is a user's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holychat.commands.serve import body as bodies
from holychat.commands.serve.errors import Refused
from holychat.commands.serve.openai import Chunks
from holychat.commands.serve.stream import Stream
from holychat.engine.relay import given

if TYPE_CHECKING:
    from starlette.requests import Request

    from holychat.commands.serve.desk import Desk
    from holychat.commands.serve.guard import Receive, Scope, Send
    from holychat.core.chat import Delta


class Lines(Chunks):
    """The same chunks, with `content`: all of the text, and nothing else."""

    def text(self, text: str, quoted: str) -> str:
        return super().text(text, quoted)[:-3] + f',"content":{quoted}}}\n\n'

    def beside(self, delta: Delta) -> dict[str, Any]:
        said = super().beside(delta)
        if delta.text:
            return {**said, "content": delta.text}
        return {name: value for name, value in said.items() if name != "content"}


async def chat(desk: Desk, scope: Scope, receive: Receive, send: Send, request: Request) -> None:
    """Answer one message. Raises Refused."""
    body = await bodies.read(request)
    messages = messages_of(desk, bodies.text(body, "message"), body.get("history"))
    asked = given({**desk.settings.params, "model": body.get("model"), "messages": messages})
    with desk.seat():
        turn = await desk.turn(asked, request.headers)
        await Stream(desk, turn, asked.prompt, Lines(counted=False))(scope, receive, send)


def messages_of(desk: Desk, message: str, history: object) -> list[dict[str, Any]]:
    """All that is sent: the configured system prompt, where the history has none of its own.
    Raises Refused."""
    said = bodies.history(history)
    if not message.strip():
        raise Refused(400, "message must have something in it", param="message")
    system = desk.settings["system"]
    if system and not any(one["role"] == "system" for one in said):
        said.insert(0, {"role": "system", "content": system})
    return [*said, {"role": "user", "content": message}]
