"""The line where the user types: keys, completion, drafts, and the toolbar below it.

Owns prompt_toolkit's session, what is offered in it, and what is done behind it while the user
types: the draft is kept, a connection is opened ahead. Must not run what was typed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.filters import Condition
from prompt_toolkit.output.color_depth import ColorDepth
from prompt_toolkit.output.plain_text import PlainTextOutput
from prompt_toolkit.styles import Style

from holychat import env
from holychat.commands.repl import slash, toolbar
from holychat.commands.repl.complete import InputHistory, SlashCompleter
from holychat.commands.repl.keys import LEAVE_HINT, Pastes, bindings
from holychat.core.chat import Usage
from holychat.screen.words import who

if TYPE_CHECKING:
    from collections.abc import Callable

    from prompt_toolkit.formatted_text import FormattedText
    from prompt_toolkit.input import Input

    from holychat.commands.repl.loop import Repl

PARAMS = ("temperature", "top_p", "max_tokens", "presence_penalty", "frequency_penalty", "seed")
DRAFT = 0.4  # seconds after a key until what is typed is kept
WARM_EVERY = 5.0  # seconds between two looks at the connection while the user types


class Prompt:
    """The prompt of one chat. `sessions` are what completion offers: id -> title."""

    def __init__(self, repl: Repl) -> None:
        self._repl = repl
        self.sessions: dict[str, str] = {}
        self._hint = ""
        self._pastes = Pastes()
        self._draft: asyncio.TimerHandle | None = None
        self._draft_kept = False
        self._warmed = 0.0  # when a connection was last opened ahead
        self._session = self._made()
        self._session.default_buffer.on_text_changed += self._typed

    @property
    def is_open(self) -> bool:
        """Whether the user is asked at this moment."""
        return self._session.app.is_running

    @property
    def input(self) -> Input:
        """Where the keys come from."""
        return self._session.app.input

    async def read(self, default: str, painted: Callable[[], None]) -> str:
        """What the user types, with its pastes in full; `painted` is called when it shows.

        Raises EOFError where the user leaves.
        """

        def once(_: Any) -> None:
            self._session.app.after_render -= once
            painted()

        self._session.app.after_render += once
        if default:
            self.later()
        text = await self._session.prompt_async(default=default)
        if self._draft is not None:
            self._draft.cancel()
            self._draft = None
        if self._draft_kept and self._repl.opened is not None:
            self._repl.opened.recorder.draft("")
            self._draft_kept = False
        return self._pastes.unfold(text)

    def propose(self, draft: str) -> bool:
        """Put a draft into the line that is open and empty; False where no line is open."""
        if not self._session.app.is_running:
            return False
        buffer = self._session.default_buffer
        if not buffer.text and not self._repl.busy:
            buffer.insert_text(draft)
            self.hint("this is what you were typing")
        return True

    def hint(self, text: str) -> None:
        """A short text in the toolbar, until the next key."""
        self._hint = text

    def restyle(self, theme: str) -> None:
        self._session.style = Style.from_dict(toolbar.style(theme))

    def refresh(self) -> None:
        """Paint it again: something that it shows has changed."""
        self._session.app.invalidate()

    def _made(self) -> PromptSession[str]:
        repl, path = self._repl, os.path.join(env.home(os.environ, "data"), "inputs.jsonl")
        return PromptSession(
            message=[("class:prompt", "› ")],
            prompt_continuation=[("class:continuation", "· ")],
            style=Style.from_dict(toolbar.style(repl.theme)),
            color_depth=None if repl.color else ColorDepth.DEPTH_1_BIT,
            multiline=True,
            vi_mode=repl.settings["ui.keys"] == "vi",
            key_bindings=bindings(self._pastes, lambda: repl.multiline, self._cleared),
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

    def _cleared(self, text: str) -> None:
        """Ctrl-C at the prompt: the line goes to the input history, an edit is given up."""
        self._repl.editing = False
        if not text:
            self.hint(LEAVE_HINT)

    def _at_a_command(self) -> bool:
        return self._session.default_buffer.text.startswith("/")

    def _typed(self, _: Any) -> None:
        """A key was pressed: the hint has been read, and a connection will be wanted soon."""
        self._hint = ""
        self.later()
        session, chat = self._repl.opened, self._repl.talk
        now = asyncio.get_running_loop().time()
        if session and chat and now - self._warmed > WARM_EVERY:
            self._warmed = now
            session.client.warm(chat.provider)

    def later(self) -> None:
        """Keep in a moment what is typed, at the prompt or ahead of it."""
        if self._draft is None:
            self._draft = asyncio.get_running_loop().call_later(DRAFT, self._keep_draft)

    def _keep_draft(self) -> None:
        """What is being typed survives us too; once more when there are more keys."""
        self._draft = None
        if self._repl.opened is None:  # it is being loaded
            self.later()
        elif self._repl.busy or self.is_open:  # in between, what was sent stands there still
            text = self._repl.ahead if self._repl.busy else self._session.default_buffer.text
            text = self._pastes.unfold(text)
            if text or self._draft_kept:
                self._repl.opened.recorder.draft(text)
            self._draft_kept = bool(text)

    def _toolbar(self) -> FormattedText:
        repl = self._repl
        return toolbar.line(
            who(*repl.asked),
            repl.talk.used if repl.talk else Usage(),
            self._hint,
            cash=repl.settings.cash,
            title=repl.title,
            multiline=repl.multiline,
            width=env.width(),
            fill=repl.talk.fitting.fill(repl.talk) if repl.talk else None,
        )

    def _offers(self, kind: str) -> dict[str, str]:
        """What completion offers: value -> description."""
        settings = self._repl.settings
        if kind == "providers":
            names = settings.names()
            return {name: "" if settings.has_key(name) else "no key" for name in names}
        if kind == "sessions":
            return self.sessions
        if kind == "params":
            return {f"{name}=": "" for name in PARAMS}
        return self._models() if kind == "models" else dict.fromkeys(kind.split(), "")

    def _models(self) -> dict[str, str]:
        """Those of this provider by their names, those of the others with their provider's."""
        session, chat, settings = self._repl.opened, self._repl.talk, self._repl.settings
        if session is None or chat is None:
            return {}
        offers = dict.fromkeys(session.learned.models(chat.provider.name), chat.provider.name)
        for name in settings.names():
            if settings.has_key(name):
                for model in session.learned.models(name):
                    offers.setdefault(f"{name}/{model}", name)
        return offers
