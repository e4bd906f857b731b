"""The conversation with the user: prompt, turn, prompt.

Owns the loop and what it holds between turns. The first prompt is painted before httpx and rich
are loaded; they warm up in a thread behind it. Whatever goes wrong in a turn or a command is told
in one line, and the loop goes on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from prompt_toolkit.application import run_in_terminal

from holychat import env
from holychat.commands.repl import slash
from holychat.commands.repl.keys import Typing, typed_before
from holychat.commands.repl.prompt import Prompt
from holychat.commands.repl.resume import Left, offer, tail, unkept
from holychat.commands.repl.voice import Voice
from holychat.core.chat import Done, Finish, Notice
from holychat.core.failure import HolychatError, SettingsError, UsageError
from holychat.core.provider import DEMO
from holychat.engine.choice import by_hand, chosen, missing_key
from holychat.exits import Exit
from holychat.screen.words import who

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from holychat.core.chat import Event, Turn
    from holychat.core.provider import Provider
    from holychat.core.wish import Wish
    from holychat.engine.conversation import Chat
    from holychat.engine.session import Session
    from holychat.screen import Writer
    from holychat.settings import Settings

BARE = {"quit": "/quit", "exit": "/quit", "clear": "/clear"}  # the seed documents' words
NO_KEY = (
    "No key is set, so this is the offline demo: a script, no model.",
    "To talk to a real one: holychat setup, or set HOLYSHEEP_API_KEY.",
)


def run(settings: Settings, wish: Wish) -> Exit:
    """Chat until the user leaves. Raises SettingsError where the chosen provider has no key."""
    repl = Repl(settings, wish)
    with asyncio.Runner() as runner:
        return runner.run(repl.run())


class Repl(Voice):
    """One chat in the terminal; slash commands work on it.

    `default` is put into the next prompt; `multiline` is the user's. `opened` is the session and
    `talk` its conversation, None until they are there: the prompt does not wait for them.
    """

    def __init__(self, settings: Settings, wish: Wish) -> None:
        super().__init__(settings, wish)
        self.default = ""
        self.editing = False  # the prompt that is being edited takes the last one's place
        self.leaving = False
        self.multiline = bool(settings["ui.multiline"])
        self.opened: Session | None = None
        self.talk: Chat | None = None
        self._opening: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None  # what Ctrl-C stops
        self._answer: asyncio.Task[None] | None = None  # what it stops first
        self._out: Writer | None = None  # where the answer is painted
        self._keyless = False  # the demo, for want of a key
        self._pinned, self._named = self._first_choice()
        self.orphan = ""  # a conversation whose last answer broke off when a holychat was killed
        self._left_behind = Left()
        self._taking: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._titling: asyncio.Task[None] | None = None
        self._prompt = Prompt(self)
        self._typing = Typing(
            self._prompt.input, self._stop, self._pause, self._prompt.later, self._pass_on
        )

    def _first_choice(self) -> tuple[str, str]:
        """Provider and model to begin with, from settings alone: nothing is asked or loaded.

        Without any key, and none chosen by hand, it is the demo.
        """
        settings, wish = self.settings, self.wish
        name, model = chosen(settings, lambda _: (), wish.model, wish.provider)
        if settings.has_key(name):
            return name, model or settings.provider(name).model or ""
        if wish.provider or wish.model or settings["provider"]:
            raise missing_key(settings, name)
        self._keyless = True
        return DEMO, settings.provider(DEMO).model

    @property
    def chat(self) -> Chat:
        """The conversation; there is one from the first turn or command on."""
        if self.talk is None:
            raise SettingsError("the conversation is not open yet")
        return self.talk

    @property
    def busy(self) -> bool:
        """Whether an answer streams or a command works."""
        return self._running is not None

    @property
    def ahead(self) -> str:
        """What will stand at the next prompt, as far as it is typed already."""
        return self.default + self._typing.ahead

    @property
    def asked(self) -> tuple[str, str]:
        """(model, provider) that the next prompt goes to."""
        if self.talk is not None:
            return self.talk.model, self.talk.provider.name
        return self._named, self._pinned

    @property
    def title(self) -> str:
        """What the conversation is called; empty before it has begun."""
        return self.talk.title if self.talk is not None else ""

    async def resume(self, name: str, *, hint: bool = True) -> None:
        """Go on with a kept conversation and show where it stands."""
        session = await self._client()
        await asyncio.wrap_future(session.recorder.caught_up())  # it may be the one that is open
        await self._enter(session, name)
        self.orphan = ""
        tail(self, self.chat, hint=hint)
        self._warn(session)

    async def discard(self) -> None:
        """Throw the answer away that a killed holychat left; its prompt stands in the next one."""
        name, self.orphan = self.orphan, ""
        session = await self._client()
        await self._enter(session, name)
        if self.chat.last is None or self.chat.last.finish is not Finish.INTERRUPTED:
            raise UsageError("the answer was gone on with since", "/undo takes it back.")
        self.default = self.chat.take_back()
        self._warn(session)

    def forget(self) -> None:
        """A new conversation."""
        if self.talk is not None:
            self.talk.clear()

    async def switch(self, wanted: str, pinned: str) -> None:
        """Go on with another model or provider, also where there is no conversation yet."""
        session = await self._client()
        provider, model = await session.choose(wanted, pinned)
        if self.talk is None:
            self._begin(provider, model)
        else:
            self.talk.provider, self.talk.model = provider, model
            self.talk.pinned = self.talk.pinned or session.pins(wanted, pinned)
        await session.scale.load(provider.name, model)
        self.note(f"now {who(model, provider.name)}")

    async def unpin(self) -> None:
        """Go on with the settings' own choice, and whoever stands in for it."""
        session = await self._client()
        provider, model = await session.choose()
        if self.talk is None:
            self._begin(provider, model)
        self.chat.provider, self.chat.model, self.chat.pinned = provider, model, False
        self.note(f"now {who(model, provider.name)}, or who stands in for it")

    # --- What it says -----------------------------------------------------------------------

    def page(self, *sources: str) -> None:
        """Documents, drawn as answers are, in the user's pager."""
        self.in_pager(sources, self._typing.released())

    def _warn(self, session: Session) -> None:
        """What is to be said of the store and of a model that is not there any more."""
        for warning in session.recorder.heard():
            self.note(warning)

    async def _watch(self, session: Session) -> None:
        """Say what befalls the store when it does: beside the answer, or above the prompt."""
        while True:
            await asyncio.wrap_future(session.recorder.warned())
            if self._out is not None:
                for warning in session.recorder.heard():
                    self._out.show(Notice(warning))
            elif self._prompt.is_open:
                await run_in_terminal(lambda: self._warn(session))
            else:
                self._warn(session)

    async def _leave(self) -> None:
        """Write what is left, and say what is not in the store."""
        session = self.opened
        if session is None:
            return
        if self._watching is not None:
            self._watching.cancel()
        await session.aclose()
        self._warn(session)
        if said := unkept(session.recorder.unkept):
            self.note(said)

    def restyle(self, theme: str) -> None:
        """Go on in the colours of another theme."""
        self.theme = theme
        self._prompt.restyle(theme)

    # --- The loop ---------------------------------------------------------------------------

    async def run(self) -> Exit:
        """Prompt and answer until the user leaves."""
        # Raw from here on, also between prompts: what is typed there would be echoed, and its
        # Enter would arrive as a line feed, which adds a line instead of sending.
        with self._prompt.input.raw_mode():
            typed_before(self._prompt.input)
            if self.wish.session or self.wish.again:
                session = await self.session()
                self._greet()
                tail(self, self.chat)
                self._warn(session)
                env.out("")
            else:
                self._greet()
            while not self.leaving:
                try:
                    text = await self._read()
                except EOFError:
                    break
                await self._survive(text)
        await self._leave()
        return Exit.OK

    async def _survive(self, text: str) -> None:
        """Handle one input; whatever goes wrong is told, and the conversation goes on."""
        try:
            await self._guarded(self._handle(text))
            return
        except HolychatError as error:
            self.complain(error.what, error.hint)
            env.trace(error)
        except (env.ReaderLeft, env.OutputFailed):
            raise  # the terminal is gone
        except Exception as error:  # noqa: BLE001 - a bug of ours must not cost the conversation
            kind = type(error).__name__
            self.complain(f"something went wrong inside ({kind}: {error})", "This is a bug.")
            env.trace(error)
        env.out("")

    def _greet(self) -> None:
        self.note(f"holychat · {self._whom()} · /help for commands")
        if self._keyless:
            for line in NO_KEY:
                env.out(line)
        for notice in () if self.wish.quiet else self.settings.notices:
            self.note(notice)
        env.out("")

    def _whom(self) -> str:
        """Who answers; where a split decides, it is not known before there is a conversation."""
        shares = {} if by_hand(self.settings) else self.settings.split
        if self.talk is not None or self.wish.provider or self.wish.model or not shares:
            return who(*self.asked)
        return "split: " + ", ".join(f"{name} {weight:g}" for name, weight in shares.items())

    async def _read(self) -> str:
        default, self.default = self.default, ""
        return await self._prompt.read(default, self._after_paint)

    def _after_paint(self) -> None:
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`; Ctrl-C or a SIGINT stops it (or the answer in it), never the program."""
        task = self._running = asyncio.get_running_loop().create_task(work)
        # Anew each time: prompt_toolkit leaves a handler that does nothing behind.
        signals = sys.platform != "win32"
        if signals:
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._stop)
        try:
            with self._typing.held():
                await asyncio.wait([task])
        finally:
            self._running = None
            if signals:
                asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
        if task.cancelled():
            self.note("stopped")
        else:
            task.result()

    def _pause(self) -> None:
        if self._out is not None:
            self._out.close()

    def _pass_on(self) -> None:
        """Hand a turn that waits to the next provider."""
        if self.talk is not None:
            self.talk.handed.set()

    def _stop(self) -> None:
        task = self._answer or self._running
        if task is not None:
            task.cancel()

    async def _handle(self, text: str) -> None:
        line = text.strip()
        if not line:
            return
        line = BARE.get(line.lower(), line)
        # A path at the start of a question is no command, nor is a line that begins with a blank.
        word = line.split(maxsplit=1)[0]
        if line.startswith("/") and word.count("/") == 1 and not text.startswith(" "):
            await slash.dispatch(self, line)
            env.out("")
        else:
            again, self.editing = self.editing, False
            await self.turn(_unquoted(line), again=again)
            env.out("")

    # --- Opening, behind the first prompt ---------------------------------------------------

    async def _client(self) -> Session:
        """The session, which asks nobody; loaded in a thread, for 150 ms of imports must not hold
        up what is being typed."""
        from importlib import import_module

        module = await asyncio.to_thread(import_module, "holychat.engine.session")
        for name in ("holychat.screen.live", "pygments.lexers"):
            await asyncio.to_thread(import_module, name)
        if self.opened is None:
            self.opened = module.Session(self.settings, os.environ, self.wish.timeout)
            if self.opened.purse is not None:
                from holychat.engine.purse import CHAT  # it is loaded with the purse

                self.opened.purse.hint = CHAT
            self._watching = asyncio.get_running_loop().create_task(self._watch(self.opened))
            self._watching.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self.opened

    async def _open(self) -> None:
        session = await self._client()
        wanted, pinned = self.wish.model, self.wish.provider
        if self.wish.session or self.wish.again:
            await self._enter(session, self.wish.session, wanted, pinned)
        else:
            asked = ("", DEMO) if self._keyless else (wanted, pinned)
            provider, model = await session.choose(*asked)
            if self.talk is None:
                self._begin(provider, model)
                await self._place()
        self._taking = asyncio.get_running_loop().create_task(self._take_over(session))

    async def _place(self) -> None:
        """Let the split have its say before the first prompt goes out: the toolbar shows whose it
        will be."""
        chat = self.chat
        if chat.place is not None and (said := await chat.place()):
            await run_in_terminal(lambda: self.note("\n".join(said)))
        chat.client.warm(chat.provider)
        self._prompt.refresh()

    async def _enter(self, session: Session, name: str, wanted: str = "", pinned: str = "") -> None:
        """Load a kept conversation, with what a killed holychat has left of it."""
        await self._left_behind.bury(session)
        self.talk = await session.resumed(name, wanted, pinned)
        self.talk.params.update(self.wish.params)

    async def _take_over(self, session: Session) -> None:
        """What a killed holychat left: its answer is offered, its prompt stands in ours."""
        await self._left_behind.bury(session)
        await self._learn_sessions(session)
        found = self._left_behind.orphan()
        if found is not None and not self.chat.exchanges:
            self.orphan = found.conversation.id
            await run_in_terminal(lambda: offer(self, found))
        elif found is not None and session.recorder.conversation == found.conversation.id:
            self.orphan = found.conversation.id  # the tail has said so
        draft = self._left_behind.draft()
        if draft and not self._prompt.propose(draft):
            self.default = self.default or draft

    async def _learn_sessions(self, session: Session) -> None:
        """The latest conversations, for completion."""
        if session.recorder.keeping:
            from holychat.store.conversations import listing

            found = await session.stored(listing, None, 50)
            self._prompt.sessions = {each.short: each.title for each in found}

    def _begin(self, provider: Provider, model: str) -> None:
        if self.opened is None:
            return
        pinned = self.opened.pins(self.wish.model, self.wish.provider)
        self.talk = self.opened.chat(provider, model, pinned=pinned)
        self.talk.params.update(self.wish.params)
        self.opened.client.warm(provider)
        self._prompt.refresh()

    async def session(self) -> Session:
        """The session with its conversation open. Raises HolychatError where it cannot be."""
        if self.talk is None:
            if self._opening is None or self._opening.done():
                self._opening = asyncio.get_running_loop().create_task(self._open())
            await asyncio.shield(self._opening)
        return await self._client()

    # --- One turn ---------------------------------------------------------------------------

    async def turn(self, prompt: str, *, again: bool = False) -> None:
        """Send a prompt and show its answer; Ctrl-C stops it and keeps what came."""
        try:
            await self.session()
        except HolychatError:
            self.default = prompt  # nothing was sent: it stands in the prompt again
            raise
        if self.orphan and self.chat.exchanges:  # it is the last answer, and soon no more
            self.orphan = ""
        try:
            await self._show(self.chat.send(prompt, again=again))
        except UsageError:  # it is too long, and the user wants to hear of that first
            self.default, self.editing = prompt, again
            raise
        if self.opened is not None:
            self._titling = asyncio.get_running_loop().create_task(self.opened.entitle(self.chat))
            self._titling.add_done_callback(lambda _: self._prompt.refresh())

    async def carry_on(self) -> None:
        """Go on with the last answer where it broke off."""
        await self.session()
        if self.orphan and not self.chat.exchanges:
            await self.resume(self.orphan, hint=False)
        self.orphan = ""
        await self._show(self.chat.carry_on(), "/continue tries it again")

    async def _show(
        self,
        events: AsyncGenerator[Event, None],
        hint: str = "/retry sends it again, /edit changes it first",
    ) -> None:
        """Show a turn; `hint` is what to do where no text came."""
        out = self._out = self.writer(self._typing.feed)
        task = self._answer = asyncio.get_running_loop().create_task(self._stream(events, out))
        try:
            await asyncio.wait([task])
        finally:
            self._answer = self._out = None
            out.close()
        turn = self.chat.latest
        if task.cancelled():
            if turn is not None:
                out.show(Done(turn))
        else:
            task.result()
        if turn is not None:
            self._comment(turn, hint)

    @staticmethod
    async def _stream(events: AsyncGenerator[Event, None], out: Writer) -> None:
        async with aclosing(events) as parts:
            async for event in parts:
                out.show(event)

    def _comment(self, turn: Turn, otherwise: str) -> None:
        """What is to be said of a turn that did not go well."""
        if turn.failure is None:
            return
        session = self.opened
        hint = session.explain(turn.failure, turn.provider, turn.model) if session else ""
        self.complain(turn.failure.what, hint)
        self.note("/continue goes on with it, /retry asks anew" if turn.text else otherwise)


def _unquoted(text: str) -> str:
    '''A text in """triple quotes""" without them.'''
    inner = text.removeprefix('"""').removesuffix('"""')
    return inner.strip("\n") if len(text) >= 6 and len(text) - len(inner) == 6 else text
