"""The slash commands: one decorated function each, which also feeds help and completion.

Owns what they do to a conversation, and how a line finds its command. Adding a command is one
function here; those that work on what is kept are in `kept`, on what is sent in `context`.
"""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING

from holychat import env
from holychat.commands.repl import context, kept
from holychat.commands.repl.table import Command, Table
from holychat.core.choose import nearest
from holychat.core.codeblocks import CodeBlock, code_blocks
from holychat.core.failure import UsageError
from holychat.core.provider import DEMO
from holychat.core.sanitize import one_line, visible
from holychat.screen.standings import standings_table
from holychat.screen.theme import THEMES

if TYPE_CHECKING:
    from holychat.commands.repl.loop import Repl
    from holychat.core.chat import Turn


COMMANDS = command = Table()


async def dispatch(repl: Repl, line: str) -> None:
    """Run one slash command line. Raises HolychatError, which the loop shows."""
    word, _, rest = line[1:].partition(" ")
    found = COMMANDS.get(word.lower())
    if found is None:
        near = nearest(word.lower(), list(COMMANDS), 1)
        known = f"Did you mean /{near[0]}? " if near else ""
        raise UsageError(
            f"there is no /{word}", f"{known}/help lists all. A blank in front sends it as text."
        )
    if rest.strip() and not found.usage:
        raise UsageError(f"/{found.name} takes nothing behind it", "Nothing was done.")
    if found.kept and (why := kept.nowhere(repl.settings)):
        raise UsageError(f"nothing is kept here: {why}")
    if not found.alone:
        await repl.session()
    done = found.run(repl, rest.strip())
    if inspect.isawaitable(done):
        await done


@command(alone=True)
def help_(repl: Repl, _: str) -> None:
    """This list."""
    width = max(len(f"/{c.name} {c.usage}") for c in COMMANDS.values())
    for c in COMMANDS.values():
        repl.say(f"  {f'/{c.name} {c.usage}':<{width}}  {c.help}")
    repl.say("")
    repl.say('  Enter sends. Esc Enter, Ctrl-J, a trailing \\ or an open """ add a line.')
    repl.say("  Ctrl-C stops an answer and keeps what came. Ctrl-R searches what you typed.")
    repl.say("  Ctrl-X Ctrl-E opens $EDITOR. clear starts afresh, quit or Ctrl-D leaves.")


@command("[NAME]", takes="models")
async def model(repl: Repl, name: str) -> None:
    """Show the models, or go on with another."""
    session = await repl.session()
    if not name:
        ids = await session.models(repl.chat.provider)
        for known in ids[:40]:
            repl.say(f"{'›' if known == repl.chat.model else ' '} {known}")
        if len(ids) > 40:
            repl.say(f"  … {len(ids) - 40} more; Tab after /model searches them")
        return
    if len(name.split()) > 1:
        raise UsageError("a model's name has no blanks", "/model lists what there is.")
    # A bare name is a model of this provider; PROVIDER/NAME changes both, unless it is such a name.
    here = repl.chat.provider.name
    elsewhere = name in repl.settings.aliases or name.partition("/")[0] in repl.settings.names()
    own = name in session.learned.models(here)
    await repl.switch(name, "" if elsewhere and not own else here)
    listed = session.learned.models(repl.chat.provider.name)
    if listed and repl.chat.model not in listed:
        near = ", ".join(nearest(repl.chat.model, listed))
        repl.note(
            f"{repl.chat.provider.name} does not list it" + (f"; near: {near}" if near else "")
        )


@command("[NAME]", takes="providers", alone=True)
async def provider(repl: Repl, name: str) -> None:
    """Show the providers, or ask one and nobody else; auto: as the settings say."""
    if not name:
        for known in repl.settings.names():
            mark = "›" if known == repl.asked[1] else " "
            state = "" if repl.settings.has_key(known) else "  (no key)"
            repl.say(f"{mark} {known}{state}")
        return
    if name == "auto":
        await repl.unpin()
        return
    await repl.switch("", name)
    if name == DEMO:
        repl.note("the demo is a script, no model")


@command(alone=True)
async def providers(repl: Repl, _: str) -> None:
    """How the providers do: share, health, first token, errors."""
    session = await repl.session()
    names = [name for name in repl.settings.names() if repl.settings.has_key(name)]
    shares = await session.shares()
    told = {repl.asked[1], *shares}
    standings = await session.standings(names)
    asked = {name: one for name, one in standings.items() if one.calls or name in told}
    for row in standings_table(asked, shares, repl.asked[1]):
        repl.say(row)


@command("[TEXT]")
def system(repl: Repl, text: str) -> None:
    """Show or set the system prompt; /system - removes it."""
    if text:
        repl.chat.system = "" if text == "-" else text
        repl.note("system prompt removed" if text == "-" else "system prompt set")
    else:
        repl.say(repl.chat.system or "  (no system prompt)")


@command("[KEY=VALUE]", takes="params", name="set")
def set_(repl: Repl, text: str) -> None:
    """Show or set temperature and the like; KEY= removes."""
    from holychat import settings

    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        name, _, value = (part.strip() for part in text.partition(" "))
    if not name:
        for key, held in repl.chat.params.items():
            repl.say(f"  {key} = {held}")
        if not repl.chat.params:
            repl.say("  (no parameters set: the provider's defaults hold)")
    elif not value and not equals:
        repl.say(f"  {name} = {repl.chat.params.get(name, '(not set)')}")
    elif not value:
        repl.chat.params.pop(name, None)
        repl.note(f"{name} removed")
    else:
        repl.chat.params[name] = settings.parsed(f"params.{name}", value)
        repl.note(f"{name} = {repl.chat.params[name]}")


@command()
async def retry(repl: Repl, _: str) -> None:
    """Send the last prompt again, in place of its answer."""
    prompt = repl.chat.prompt_again()
    if not prompt:
        raise UsageError("there is nothing to send again")
    await repl.turn(prompt, again=True)


@command(name="continue")
async def continue_(repl: Repl, _: str) -> None:
    """Go on with an answer that was cut off, stopped, or too long."""
    await repl.carry_on()


@command()
async def discard(repl: Repl, _: str) -> None:
    """Throw the cut answer away that a killed holychat left."""
    if not repl.orphan:
        raise UsageError("there is no such answer", "/undo takes the last exchange back.")
    await repl.discard()
    repl.note("thrown away; its prompt stands in the line again")


COMMANDS |= context.COMMANDS | kept.COMMANDS  # they stand here in /help


@command("FILE")
def save(repl: Repl, file: str) -> None:
    """Save the last answer in a new file."""
    if not file:
        raise UsageError("/save takes a file's name")
    _write(file, _answer(repl).text.rstrip("\n") + "\n")
    repl.note(f"saved in {file}")


@command()
def edit(repl: Repl, _: str) -> None:
    """Edit the last prompt; what you send takes its place."""
    prompt = repl.chat.prompt_again()
    if not prompt:
        raise UsageError("there is nothing to edit")
    repl.default, repl.editing = prompt, True


@command()
def undo(repl: Repl, _: str) -> None:
    """Take the last exchange back."""
    prompt = repl.chat.take_back()
    if not prompt:
        raise UsageError("there is nothing to take back")
    repl.note(f"taken back: {prompt}")


@command()
def last(repl: Repl, _: str) -> None:
    """Open the last answer in the pager, with the reasoning behind it."""
    turn = _answer(repl)
    thoughts = visible(turn.reasoning).strip().replace("\n", "\n> ")
    repl.page(*([f"> {thoughts}"] if thoughts else []), turn.text)


@command()
def raw(repl: Repl, _: str) -> None:
    """Print the last answer's source."""
    repl.say(_answer(repl).text.removesuffix("\n"))


@command("[N]")
def copy(repl: Repl, number: str) -> None:
    """Copy the last answer, or its code block number N."""
    from holychat.screen import clipboard

    text, what = _answer(repl).text, "the answer"
    if number:
        text, what = _code(repl, number).code, f"code block {number}"
    try:
        repl.note(f"copied {what} {clipboard.copy(text, os.environ)}")
    except OSError as error:
        raise UsageError(f"nothing was copied: {error}") from error


@command("[N [FILE]]")
def code(repl: Repl, text: str) -> None:
    """List the last answer's code blocks, print number N, or save it in a new file."""
    number, _, file = (part.strip() for part in text.partition(" "))
    blocks = code_blocks(_answer(repl).text)
    if not number and len(blocks) != 1:
        for at, block in enumerate(blocks, 1):
            begin = block.code.strip().split("\n")[0]
            repl.say(f"  {at}  {block.language:<10}  {one_line(begin, 56)}")
        if not blocks:
            repl.say("  (no code blocks)")
        return
    block = _code(repl, number or "1")
    if not file:
        repl.say(block.code.removesuffix("\n"))
        return
    _write(file, block.code)
    lines = block.code.count("\n")
    repl.note(f"wrote {lines} {'line' if lines == 1 else 'lines'} to {file}")


def _write(file: str, text: str) -> None:
    """A new file with the text. Raises UsageError where there is one, or none can be."""
    try:
        with open(os.path.expanduser(file), "x", encoding="utf-8", newline="") as out:
            out.write(text.encode("utf-8", "replace").decode("utf-8"))
    except FileExistsError as error:
        raise UsageError(f"{file} is there already", "Nothing was written.") from error
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from error


def _answer(repl: Repl) -> Turn:
    """The last turn that has an answer. Raises UsageError."""
    if repl.chat.last is None:
        raise UsageError("there is no answer yet")
    return repl.chat.last


def _code(repl: Repl, number: str) -> CodeBlock:
    """The last answer's code block of that number. Raises UsageError."""
    blocks = code_blocks(_answer(repl).text)
    if number.isdecimal() and 1 <= int(number) <= len(blocks):
        return blocks[int(number) - 1]
    count = "one code block" if len(blocks) == 1 else f"{len(blocks) or 'no'} code blocks"
    raise UsageError(f"the answer has {count}, and {number} is none of them")


@command()
def tokens(repl: Repl, _: str) -> None:
    """Tokens of this conversation so far."""
    from holychat.screen.words import tokens as count

    asked = len(repl.chat.exchanges)
    repl.say(f"  {asked} {'exchange' if asked == 1 else 'exchanges'}: {count(repl.chat.used)}")


@command("[on|off]", takes="on off")
async def limits(repl: Repl, text: str) -> None:
    """What may be used, and how much of it is; off goes past it in this chat."""
    session = await repl.session()
    if session.purse is None:
        repl.say("  (no limits are set: `holychat config set limits.day 2.00`)")
        return
    if text in ("on", "off"):
        session.purse.on = text == "on"
    elif text:
        raise UsageError(f"/limits knows on and off, not {text}")
    for line in await session.purse.shown(repl.chat):
        repl.say(f"  {line}")


@command()
def cost(repl: Repl, _: str) -> None:
    """What this conversation cost so far, and would cost elsewhere."""
    from holychat.commands.repl import spent

    for line in spent.lines(repl.chat, repl.settings):
        repl.say(f"  {line}")


@command(kept=True)
async def stats(repl: Repl, _: str) -> None:
    """What was used today, in this conversation and in 30 days."""
    from holychat.engine.ledger import money_of
    from holychat.engine.statistics import brief
    from holychat.engine.times import now
    from holychat.screen import stats as drawn
    from holychat.screen.pen import Pen

    session = await repl.session()
    said = await session.stored(brief, repl.settings, now(), session.recorder.conversation)
    plain = not env.blocks(os.environ)
    looks = drawn.Looks(Pen(repl.theme), env.width() - 1, money_of(repl.settings), plain)
    for line in drawn.short(said, looks):
        repl.say(f"  {line}")


@command("[show|hide]", takes="show hide", alone=True)
def reasoning(repl: Repl, word: str) -> None:
    """Show or hide the model's reasoning."""
    if word not in ("", "show", "hide"):
        raise UsageError(f"/reasoning takes show or hide, not {word}")
    repl.reasoning = word == "show" if word else not repl.reasoning
    repl.note(f"reasoning is {'shown' if repl.reasoning else 'hidden'}")


@command("[NAME]", takes=" ".join(THEMES), alone=True)
def theme(repl: Repl, name: str) -> None:
    """Show the themes, or go on with another."""
    if not name:
        for known in THEMES:
            repl.say(f"{'›' if known == repl.theme else ' '} {known}")
        return
    if name not in THEMES:
        raise UsageError(f"there is no theme {name}", f"There are: {', '.join(THEMES)}.")
    repl.restyle(name)
    repl.note(f"theme {name}; holychat config set ui.theme {name} keeps it")


@command("[on|off]", takes="on off", alone=True)
def multiline(repl: Repl, word: str) -> None:
    """Enter adds a line, Esc Enter sends; and back."""
    if word not in ("", "on", "off"):
        raise UsageError(f"/multiline takes on or off, not {word}")
    repl.multiline = word == "on" if word else not repl.multiline
    repl.note("Enter adds a line, Esc Enter sends" if repl.multiline else "Enter sends")


@command(alone=True)
def clear(repl: Repl, _: str) -> None:
    """Start afresh: a new conversation with the same model."""
    repl.forget()
    repl.note("a new conversation")


@command(name="new", alone=True)
def new(repl: Repl, _: str) -> None:
    """The same as /clear."""
    clear(repl, "")


@command(alone=True)
def quit_(repl: Repl, _: str) -> None:
    """Leave; Ctrl-D does too."""
    repl.leaving = True


__all__ = ["COMMANDS", "Command", "dispatch"]
