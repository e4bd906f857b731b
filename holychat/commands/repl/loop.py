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

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.filters import Condition
from prompt_toolkit.output.color_depth import ColorDepth
from prompt_toolkit.output.plain_text import PlainTextOutput
from prompt_toolkit.styles import Style

from holychat import env
from holychat.commands.repl import slash, toolbar
from holychat.commands.repl.complete import InputHistory, SlashCompleter
from holychat.commands.repl.keys import LEAVE_HINT, Pastes, Typing, bindings, typed_before
from holychat.core.chat import Done, Finish, Usage
from holychat.core.failure import HolychatError, SettingsError, UsageError
from holychat.core.provider import DEMO
from holychat.core.sanitize import one_line
from holychat.engine.choice import chosen, missing_key
from holychat.exits import Exit
from holychat.screen.words import ending, who

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from prompt_toolkit.formatted_text import FormattedText

    from holychat.core.chat import Event, Turn
    from holychat.core.history import Orphan
    from holychat.core.provider import Provider
    from holychat.core.wish import Wish
    from holychat.engine.conversation import Chat
    from holychat.engine.session import Session
    from holychat.screen import Look, Writer
    from holychat.settings import Settings

BARE = {"quit": "/quit", "exit": "/quit", "clear": "/clear"}  # the seed documents' words
PARAMS = ("temperature", "top_p", "max_tokens", "presence_penalty", "frequency_penalty", "seed")
DRAFT = 0.4  # seconds after a key until what is typed is kept
WARM_EVERY = 5.0  # seconds between two looks at the connection while the user types
NO_KEY = (
    "No key is set, so this is the offline demo: a script, no model.",
    "To talk to a real one: holychat setup, or set HOLYSHEEP_API_KEY.",
)


def run(settings: Settings, wish: Wish) -> Exit:
    """Chat until the user leaves. Raises SettingsError where the chosen provider has no key."""
    repl = Repl(settings, wish)
    with asyncio.Runner() as runner:
        return runner.run(repl.run())


class Repl:
    """One chat in the terminal; slash commands work on it.

    `default` is put into the next prompt; `reasoning`, `multiline` and `theme` are the user's.
    """

    def __init__(self, settings: Settings, wish: Wish) -> None:
        self.settings = settings
        self.wish = wish
        self.default = ""
        self.editing = False  # the prompt that is being edited takes the last one's place
        self.leaving = False
        self.reasoning = (wish.reasoning or settings["ui.reasoning"]) == "show"
        self.multiline = bool(settings["ui.multiline"])
        self.theme: str = settings["ui.theme"]
        self._color = env.colour(env.STDOUT, os.environ, wish.no_color)
        self._hint = ""
        self._pastes = Pastes()
        self._session: Session | None = None
        self._chat: Chat | None = None
        self._opening: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None  # what Ctrl-C stops
        self._answer: asyncio.Task[None] | None = None  # what it stops first
        self._out: Writer | None = None  # where the answer is painted
        self._warmed = 0.0  # when a connection was last opened ahead
        self._keyless = False  # the demo, for want of a key
        self._pinned, self._named = self._first_choice()
        self.orphan = ""  # a conversation whose last answer broke off when a holychat was killed
        self._orphans: list[Orphan] = []  # all of them, until they are offered
        self._drafts: list[str] = []  # what stood at the prompts of killed holychats
        self._sessions: dict[str, str] = {}  # what completion offers: id -> title
        self._draft: asyncio.TimerHandle | None = None
        self._draft_kept = False
        self._left: asyncio.Task[None] | None = None
        self._prompt = self._make_prompt()
        self._typing = Typing(self._prompt.app.input, self._stop, self._pause)

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
        if self._chat is None:
            raise SettingsError("the conversation is not open yet")
        return self._chat

    @property
    def asked(self) -> tuple[str, str]:
        """(model, provider) that the next prompt goes to."""
        if self._chat is not None:
            return self._chat.model, self._chat.provider.name
        return self._named, self._pinned

    @property
    def title(self) -> str:
        """What the conversation is called; empty before it has begun."""
        return self._chat.title if self._chat is not None else ""

    async def resume(self, name: str, *, hint: bool = True) -> None:
        """Go on with a kept conversation and show where it stands."""
        session = await self._client()
        await self._enter(session, name)
        self.orphan = ""
        self.tail(hint=hint)
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
        if self._chat is not None:
            self._chat.clear()

    async def switch(self, wanted: str, pinned: str) -> None:
        """Go on with another model or provider, also where there is no conversation yet."""
        session = await self._client()
        provider, model = await session.choose(wanted, pinned)
        if self._chat is None:
            self._begin(provider, model)
        else:
            self._chat.provider, self._chat.model = provider, model
        self.note(f"now {who(model, provider.name)}")

    # --- What it says -----------------------------------------------------------------------

    def say(self, text: str) -> None:
        """A line of a command's output."""
        env.out(text)

    def note(self, text: str) -> None:
        """Dim lines about what was done, or what to do; wrapped, so that no word of it is lost."""
        self._tell(text, "\x1b[2m")

    def complain(self, what: str, hint: str = "") -> None:
        """An error: what happened, and what to do."""
        self._tell(what, "\x1b[31m")
        if hint:
            self.note(hint)

    def _tell(self, text: str, color: str) -> None:
        from textwrap import wrap

        words = f"· {one_line(text, 2000)}"
        for line in wrap(words, max(20, env.width() - 1), subsequent_indent="  ") or [words]:
            shown = f"{color}{line}\x1b[m" if self._color else line
            env.write(f"{shown}\n".encode("utf-8", "replace"))

    def page(self, *sources: str) -> None:
        """Documents, drawn as answers are, in the user's pager."""
        from holychat.screen.pager import page
        from holychat.screen.render import rendered

        look, width = self._look(), env.width()
        with self._typing.released():
            page("\n".join(rendered(source, look, width) for source in sources), os.environ)

    def tail(self, *, hint: bool = True) -> None:
        """The last exchange of a conversation that was resumed, so that one sees where one is."""
        from holychat.screen.render import rendered

        chat = self.chat
        if chat.title:
            self.note(chat.title)
        if not chat.exchanges:
            return
        last = chat.exchanges[-1]
        rows = rendered(last.turn.text, self._look(), env.width()).rstrip("\n").split("\n")
        room = max(6, env.size()[1] - 8)
        env.out(f"› {one_line(last.prompt, max(20, env.width() - 3))}")
        if len(rows) > room:
            self.note(f"{len(rows) - room} rows above; /last shows all of it")
        env.write(("\n".join(rows[-room:]) + "\n").encode("utf-8", "replace"))
        said = ending(last.turn)
        if said and hint:
            self.note(f"{said}; /continue goes on with it")

    def _warn(self, session: Session) -> None:
        """What is to be said of the store and of a model that is not there any more."""
        while session.recorder.warnings:
            self.note(session.recorder.warnings.popleft())

    def restyle(self, theme: str) -> None:
        """Go on in the colours of another theme."""
        self.theme = theme
        self._prompt.style = Style.from_dict(toolbar.style(theme))

    def hint(self, text: str) -> None:
        """A short text in the toolbar, until the next key."""
        self._hint = text

    # --- The loop ---------------------------------------------------------------------------

    async def run(self) -> Exit:
        """Prompt and answer until the user leaves."""
        # Raw from here on, also between prompts: what is typed there would be echoed, and its
        # Enter would arrive as a line feed, which adds a line instead of sending.
        with self._prompt.app.input.raw_mode():
            typed_before(self._prompt.app.input)
            if self.wish.session or self.wish.again:
                session = await self.session()
                self._greet()
                self.tail()
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
        if self._session is not None:
            await self._session.aclose()
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
        self.note(f"holychat · {who(*self.asked)} · /help for commands")
        if self._keyless:
            for line in NO_KEY:
                env.out(line)
        for notice in () if self.wish.quiet else self.settings.notices:
            self.note(notice)
        env.out("")

    async def _read(self) -> str:
        default, self.default = self.default, ""
        self._prompt.app.after_render += self._after_first_paint
        text = await self._prompt.prompt_async(default=default)
        if self._draft is not None:
            self._draft.cancel()
            self._draft = None
        if self._draft_kept and self._session is not None:
            self._session.recorder.draft("")
            self._draft_kept = False
        return self._pastes.unfold(text)

    def _after_first_paint(self, _: Any) -> None:
        self._prompt.app.after_render -= self._after_first_paint
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
        if self._session is None:
            self._session = module.Session(self.settings, os.environ, self.wish.timeout)
        return self._session

    async def _open(self) -> None:
        session = await self._client()
        wanted, pinned = self.wish.model, self.wish.provider
        if self.wish.session or self.wish.again:
            await self._enter(session, self.wish.session, wanted, pinned)
        else:
            asked = ("", DEMO) if self._keyless else (wanted, pinned)
            provider, model = await session.choose(*asked)
            if self._chat is None:
                self._begin(provider, model)
        self._left = asyncio.get_running_loop().create_task(self._take_over(session))

    async def _enter(self, session: Session, name: str, wanted: str = "", pinned: str = "") -> None:
        """Load a kept conversation, with what a killed holychat has left of it."""
        await self._bury(session)
        self._chat = await session.resumed(name, wanted, pinned)
        self._chat.params.update(self.wish.params)

    async def _bury(self, session: Session) -> None:
        orphans, drafts = await asyncio.wrap_future(session.recorder.bury())
        self._orphans += [orphan for orphan in orphans if orphan.text]
        # A question that nobody began to answer is one that is still to be asked.
        self._drafts += [orphan.prompt for orphan in orphans if not orphan.text] + drafts

    async def _take_over(self, session: Session) -> None:
        """What a killed holychat left: its answer is offered, its prompt stands in ours."""
        await self._bury(session)
        await self.learn_sessions()
        if self._orphans:
            found = self._orphans.pop()
            self._orphans.clear()
            if not self.chat.exchanges:
                self.orphan = found.conversation.id
                await run_in_terminal(lambda: self._offer(found))
            elif session.recorder.conversation == found.conversation.id:
                self.orphan = found.conversation.id  # the tail has said so
        draft = self._drafts.pop() if self._drafts else ""
        self._drafts.clear()
        buffer = self._prompt.default_buffer
        if draft and not self._prompt.app.is_running:
            self.default = self.default or draft
        elif draft and not buffer.text and self._running is None:
            buffer.insert_text(draft)
            self.hint("this is what you were typing")

    def _offer(self, orphan: Orphan) -> None:
        self.note(
            f"an answer broke off when holychat was ended: {orphan.conversation.title}"
            f" ({len(orphan.text):,} characters are kept)"
        )
        self.note("/continue goes on with it, /discard throws it away; else it just stays")
        env.out("")

    async def learn_sessions(self) -> None:
        """The latest conversations, for completion."""
        if self._session is not None and self._session.recorder.keeping:
            from holychat.store.conversations import listing

            found = await self._session.stored(listing, None, 50)
            self._sessions = {each.short: each.title for each in found}

    def _begin(self, provider: Provider, model: str) -> None:
        if self._session is None:
            return
        self._chat = self._session.chat(provider, model)
        self._chat.params.update(self.wish.params)
        self._session.client.warm(provider)
        self._prompt.app.invalidate()

    async def session(self) -> Session:
        """The session with its conversation open. Raises HolychatError where it cannot be."""
        if self._chat is None:
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
        await self._show(self.chat.send(prompt, again=again))

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
        out = self._out = self._writer()
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

    def _look(self) -> Look:
        from holychat.screen import Look

        return Look(
            color=self._color,
            terminal=True,
            reasoning=self.reasoning,
            quiet=self.wish.quiet,
            panel=self.settings["ui.panel"],
            theme=self.theme,
            fps=self.settings["ui.fps"],
            typed=self._typing.feed,
        )

    def _writer(self) -> Writer:
        from holychat.screen import writer

        return writer("live" if env.can_move_cursor(os.environ) else "plain", self._look())

    def _comment(self, turn: Turn, otherwise: str) -> None:
        """What is to be said of a turn that did not go well."""
        if turn.failure is None:
            return
        session = self._session
        hint = session.explain(turn.failure, turn.provider, turn.model) if session else ""
        self.complain(turn.failure.what, hint)
        self.note("/continue goes on with it, /retry asks anew" if turn.text else otherwise)

    # --- The prompt -------------------------------------------------------------------------

    def _make_prompt(self) -> PromptSession[str]:
        path = os.path.join(env.home(os.environ, "data"), "inputs.jsonl")
        prompt: PromptSession[str] = PromptSession(
            message=[("class:prompt", "› ")],
            prompt_continuation=[("class:continuation", "· ")],
            style=Style.from_dict(toolbar.style(self.theme)),
            color_depth=None if self._color else ColorDepth.DEPTH_1_BIT,
            multiline=True,
            vi_mode=self.settings["ui.keys"] == "vi",
            key_bindings=bindings(self._pastes, lambda: self.multiline, self._cleared),
            completer=SlashCompleter(slash.COMMANDS, self._offers),
            # Only for commands: the menu's room is kept free as long as this holds.
            complete_while_typing=Condition(self._at_a_command),
            reserve_space_for_menu=6,
            history=InputHistory(path, self._pastes.unfold),
            auto_suggest=AutoSuggestFromHistory(),
            bottom_toolbar=self._toolbar,
            enable_suspend=True,
            enable_open_in_editor=True,
            tempfile_suffix=".md",
            search_ignore_case=True,
            erase_when_done=False,
            # prompt_toolkit shows the cursor at the start, also where that is litter.
            output=None if env.can_move_cursor(os.environ) else PlainTextOutput(sys.stdout),
        )
        prompt.default_buffer.on_text_changed += self._typed
        return prompt

    def _cleared(self, text: str) -> None:
        """Ctrl-C at the prompt: the line goes to the input history, an edit is given up."""
        self.editing = False
        if not text:
            self.hint(LEAVE_HINT)

    def _at_a_command(self) -> bool:
        return self._prompt.default_buffer.text.startswith("/")

    def _typed(self, _: Any) -> None:
        """A key was pressed: the hint has been read, and a connection will be wanted soon."""
        self._hint = ""
        if self._session is not None and self._draft is None:
            loop = asyncio.get_running_loop()
            self._draft = loop.call_later(DRAFT, self._keep_draft)
        now = asyncio.get_running_loop().time()
        if self._session and self._chat and now - self._warmed > WARM_EVERY:
            self._warmed = now
            self._session.client.warm(self._chat.provider)

    def _keep_draft(self) -> None:
        """What is being typed survives us too; once more when there are more keys."""
        self._draft = None
        if self._session is not None and self._running is None:
            text = self._pastes.unfold(self._prompt.default_buffer.text)
            self._session.recorder.draft(text)
            self._draft_kept = bool(text)

    def _toolbar(self) -> FormattedText:
        chat = self._chat
        return toolbar.line(
            who(*self.asked),
            chat.usage() if chat else Usage(),
            self._hint,
            title=self.title,
            multiline=self.multiline,
            width=env.width(),
        )

    def _offers(self, kind: str) -> dict[str, str]:
        """What completion offers: value -> description."""
        if kind == "providers":
            names = self.settings.names()
            return {name: "" if self.settings.has_key(name) else "no key" for name in names}
        if kind == "sessions":
            return self._sessions
        if kind == "params":
            return {f"{name}=": "" for name in PARAMS}
        if kind != "models":
            return dict.fromkeys(kind.split(), "")
        if self._session is None or self._chat is None:
            return {}
        own = self._session.learned.models(self._chat.provider.name)
        offers = dict.fromkeys(own, self._chat.provider.name)
        for name in self.settings.names():
            if self.settings.has_key(name):
                for model in self._session.learned.models(name):
                    offers.setdefault(f"{name}/{model}", name)
        return offers


def _unquoted(text: str) -> str:
    '''A text in """triple quotes""" without them.'''
    inner = text.removeprefix('"""').removesuffix('"""')
    return inner.strip("\n") if len(text) >= 6 and len(text) - len(inner) == 6 else text
