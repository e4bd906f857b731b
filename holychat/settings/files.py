"""The two files that settings are read from, and the one that is written.

Owns the reading of `config.toml` and `.env` with the line of every value, and the careful writing
of the former. Must not know what a setting means: `settings` and its fields do.

Everything here is read when it is needed and imported when it is there: `holychat ask` in a pipe
passes through, mostly without either file.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from holychat.core.failure import SettingsError
from holychat.core.sanitize import one_line

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, MutableMapping
    from pathlib import Path

    from holychat.settings.fields import Keys

LARGEST_DOTENV = 1 << 20  # bytes: a stranger's file is not read without bound


class ConfigFile:
    """`config.toml` as it was read; an empty one where there is no file."""

    __slots__ = ("_lines", "_text", "path", "table")

    def __init__(self, path: Path, text: str = "") -> None:
        self.path = path
        self._text = text
        self._lines: dict[Keys, int] | None = None
        self.table: dict[str, Any] = _parsed(path, text) if text else {}

    def line(self, keys: Keys) -> int:
        """The line of the value at `keys`, or of the nearest table around it; 0 for none."""
        if self._lines is None:
            self._lines = key_lines(self._text)
        while keys and keys not in self._lines:
            keys = keys[:-1]
        return self._lines.get(keys, 0)

    def where(self, keys: Keys) -> str:
        return f"{self.path.name}:{self.line(keys)}"

    def error(self, keys: Keys, what: str, hint: str = "") -> SettingsError:
        line = self.line(keys)
        at = f"{self.path}:{line}" if line else str(self.path)
        return SettingsError(f"{at}: {one_line('.'.join(keys))} {what}", hint)


def read_config(path: Path) -> ConfigFile:
    """The file at `path`. Raises SettingsError where it is there but cannot be used."""
    try:
        if path.is_fifo() or path.is_socket():  # reading one would wait for ever
            raise SettingsError(f"{path}: is no file")
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return ConfigFile(path)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}:{line}: is not UTF-8") from error
    return ConfigFile(path, text.replace("\r\n", "\n"))


def _parsed(path: Path, text: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).rpartition(" (at ")
        number = place.removeprefix("line ").partition(",")[0]
        line = number if number.isdecimal() else str(text.rstrip("\n").count("\n") + 1)
        raise SettingsError(f"{path}:{line}: is not valid TOML: {what or error}") from error
    except RecursionError as error:
        raise SettingsError(f"{path}: is not valid TOML: it is nested too deeply") from error


# --- Where a key stands in TOML -----------------------------------------------------------------

_PIECE = (
    r'"""(?:\\.|[^\\])*?""""{0,2}'
    r"|'''.*?''''{0,2}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*|[A-Za-z0-9_-]+|[^\s]|\n"
)


_DEPTH = {"[": 1, "{": 1, "]": -1, "}": -1}


def key_lines(text: str) -> dict[Keys, int]:
    """The line of every key and table of a valid TOML text; inline tables count as one value.

    `tomllib` does not keep lines and tomlkit costs 40 ms, so this walks the text piece by piece: a
    statement starts a line outside of brackets, is a header or a key, and the rest is skipped.
    """
    import re

    lines: dict[Keys, int] = {}
    table: Keys = ()
    parts: list[str] = []
    line, depth, reading = 1, 0, True
    for piece in re.findall(_PIECE, text, re.DOTALL):
        if piece == "\n" and depth == 0:
            parts, reading = [], True
        elif reading and piece in ("=", "]"):
            reading = False
            place = table + tuple(parts) if piece == "=" else tuple(parts)
            lines.setdefault(place, line)
            table = table if piece == "=" else place
        elif reading and piece not in ("[", ".") and piece[0] != "#":
            parts.append(_unquoted(piece))
        elif not reading:
            depth = max(0, depth + _DEPTH.get(piece, 0))
        line += piece.count("\n")
    return lines


def _unquoted(piece: str) -> str:
    if piece[0] == "'":
        return piece[1:-1]
    if piece[0] == '"':
        import tomllib

        return str(tomllib.loads(f"key = {piece}")["key"])
    return piece


# --- .env ---------------------------------------------------------------------------------------


class DotEnv:
    """The names of a `.env` that somebody asked for: name -> (value, line)."""

    __slots__ = ("notices", "values")

    def __init__(self) -> None:
        self.values: dict[str, tuple[str, int]] = {}
        self.notices: list[str] = []


def read_dotenv(path: Path, wanted: Collection[str]) -> DotEnv:
    """What the file at `path` says of the `wanted` names, the last word for each; never raises.

    A directory of that name is somebody's virtual environment, and none of our business. A file
    that mentions none of the names is not parsed at all: importing dotenv costs 15 ms.
    """
    found = DotEnv()
    try:
        text = _dotenv_text(path)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        found.notices.append(f".env is ignored: {why}")
        return found
    if any(name in text for name in wanted):
        _bind(text, wanted, found)
    return found


def _dotenv_text(path: Path) -> str:
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if stat.S_ISDIR(facts.st_mode):
        return ""
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > LARGEST_DOTENV:
        raise OSError(0, "it is no regular file of a reasonable size")
    return path.read_text(encoding="utf-8-sig")


def _bind(text: str, wanted: Collection[str], found: DotEnv) -> None:
    """As `dotenv_values(interpolate=False)` binds, from the same parser.

    Taken one floor lower for the line of each value, and because `dotenv_values` logs what it
    cannot parse.
    """
    from io import StringIO

    from dotenv.parser import parse_stream

    broken = 0
    for binding in parse_stream(StringIO(text)):
        # A binding starts with the blank lines before it.
        whole = binding.original.string
        blank = whole[: len(whole) - len(whole.lstrip())]
        line = binding.original.line + blank.replace("\r\n", "\n").count("\n")
        if binding.error:
            broken = broken or line
        elif binding.key in wanted and binding.key is not None:
            found.values[binding.key] = (binding.value or "", line)
    if broken:
        found.notices.append(f".env:{broken}: is not NAME=value; what cannot be read is ignored")


# --- Writing ------------------------------------------------------------------------------------


def rewrite(path: Path, changes: Mapping[Keys, Any]) -> None:
    """Set (or with None remove) values in the file, which keeps its comments and its order.

    Atomic: whoever reads or crashes meanwhile has the old file or the new one. The text is parsed
    again before it replaces anything, and must say exactly what was asked for. Raises
    SettingsError.
    """
    import tomllib

    import tomlkit

    before = read_config(path)
    try:
        document = tomlkit.parse(_source(path))
        for keys, value in changes.items():
            _change(document, keys, value, before)
            _change(before.table, keys, value, before)
        after = tomlkit.dumps(document)
        same = tomllib.loads(after) == before.table
    except (tomlkit.exceptions.TOMLKitError, tomllib.TOMLDecodeError):
        same = False
    if not same:
        what = "could not be changed without touching something else"
        raise SettingsError(f"{path}: {what}", "`holychat config edit` opens it.")
    try:
        save(path, after)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be written: {error.strerror}") from error


def _source(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _change(root: MutableMapping[str, Any], keys: Keys, value: Any, file: ConfigFile) -> None:
    """Apply one change to a tomlkit document, or in the same way to a plain dict."""
    if value is None:
        _remove(root, keys)
        return
    table = root
    for depth, key in enumerate(keys[:-1], 1):
        if key not in table:
            table[key] = {} if type(root) is dict else _new_table(within=depth < len(keys) - 1)
        table = table[key]
        if not isinstance(table, dict):
            raise file.error(keys[:depth], "must be a table")
    if type(root) is dict or keys[-1] in table:
        table[keys[-1]] = value if type(root) is dict else _item(value)
    else:
        _append(table, keys[-1], _item(value))


def _remove(root: MutableMapping[str, Any], keys: Keys) -> None:
    """Without its value, and without the tables that are empty then."""
    table: Any = root.get(keys[0]) if len(keys) > 1 else root
    if len(keys) > 1:
        if not isinstance(table, dict):
            return
        _remove(table, keys[1:])
        if not table:
            del root[keys[0]]
    elif keys[0] in root:
        del root[keys[0]]


def _new_table(within: bool) -> Any:
    """`within`: only a frame for the next one, without a header of its own."""
    import tomlkit

    return tomlkit.table(is_super_table=within)


def _item(value: Any) -> Any:
    import tomlkit

    if isinstance(value, str) and "\n" in value:
        return tomlkit.string(value, multiline=True)
    return tomlkit.item(value)


def _append(table: Any, key: str, item: Any) -> None:
    """Add behind the last value, not behind the comments that lead the next table."""
    body = getattr(getattr(table, "value", None), "body", None)
    if body is None:
        table[key] = item
        return
    end = len(body)
    while end and body[end - 1][0] is None:
        end -= 1
    trailing = body[end:]
    del body[end:]
    table[key] = item
    body.extend(trailing)


def save(path: Path, text: str) -> None:
    """Replace the file at once, readable by its owner only; folders it needs are private too.

    A link (to somebody's dotfiles) stays one: what it points to is replaced. Raises OSError.
    """
    import tempfile
    from pathlib import Path

    target = path.resolve()
    _make_private(target.parent)
    handle, name = tempfile.mkstemp(prefix=".config-", suffix=".toml", dir=target.parent)  # 0600
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink()
        raise
    _sync_folder(target.parent)


def _make_private(folder: Path) -> None:
    """Like mkdir with parents, but with mode 0700 for every folder that is made."""
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _sync_folder(folder: Path) -> None:
    """The new name outlives a power cut too. Systems that cannot open a folder do without."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass  # not every file system can
    finally:
        os.close(handle)
