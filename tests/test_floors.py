"""The floors of the house: calls go down, values come up.

Every import in the package is looked at, the lazy ones inside functions too. One that is for types
only (`if TYPE_CHECKING`) binds nothing when the program runs, so it may go sideways, but not up.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import holychat

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(holychat.__file__).parent

# Each room and its floor; what is not named here does not pass.
FLOORS = {
    "core": 1,
    "settings": 2,
    "env": 2,
    "net": 2,
    "prices": 2,
    "store": 2,
    "screen": 2,
    "engine": 3,
    "commands": 4,
    "exits": 5,
    "cli": 5,
    "__main__": 5,
}
# Known to all: the version, and the exit codes, which know only the failures that they stand for.
LEAVES = {"holychat", "exits"}
# The one exception among the borders: env owns the streams that screen writes to.
SIDEWAYS = {("screen", "env"), ("__main__", "cli"), ("__main__", "env")}
# Who may import a package from outside, where that is not everybody above floor 1.
RESERVED = {
    "httpx": {"net.client"},
    "h11": {"net"},
    "prompt_toolkit": {"commands.repl"},
    "rich": {"screen", "commands.repl"},
    "pygments": {"screen", "commands.repl"},
    "typer": {"cli"},
    "dotenv": {"settings"},
    "tomlkit": {"settings"},
    "platformdirs": {"env", "settings"},
    "certifi": {"net"},
    "markdown_it": {"core.blocks", "screen"},
    "sqlite3": {"store"},
    "click": set(),
    "starlette": {"commands.serve"},
    "uvicorn": {"commands.serve"},
}
# The clock, chance, the process and its streams are nobody's below the borders.
IMPURE = {
    "asyncio", "time", "os", "random", "secrets", "socket", "ssl", "subprocess", "threading",
    "pathlib", "io", "shutil", "tempfile", "signal", "select", "datetime", "logging", "sqlite3",
}  # fmt: skip


@dataclass(frozen=True)
class Import:
    where: str  # the importing module, without `holychat.`
    line: int
    what: str  # the imported module, absolute
    typing: bool


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append((name or "holychat", path))
    return found


def imports(name: str, path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            typing |= {inner for each in node.body for inner in ast.walk(each)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, node.lineno, alias.name, node in typing)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}:{node.lineno}: imports are absolute here"
            base = node.module or ""
            for alias in node.names:
                inner = ROOT.parent / f"{base}.{alias.name}".replace(".", "/")
                deeper = inner.is_dir() or inner.with_suffix(".py").exists()
                what = f"{base}.{alias.name}" if deeper else base
                yield Import(name, node.lineno, what, node in typing)
        elif isinstance(node, ast.Constant) and _is_module(node.value):
            # One that is named and imported later: WRITERS, import_module.
            yield Import(name, node.lineno, str(node.value), typing=False)


def _is_module(value: object) -> bool:
    text = value if isinstance(value, str) else ""
    return text.startswith("holychat.") and text.replace(".", "").isidentifier()


ALL = [each for name, path in modules() for each in imports(name, path)]


def room(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def front(module: str) -> str:
    """A room of the fronts: one for each command, and repl/ is one."""
    return ".".join(module.split(".")[:2])


def own(each: Import) -> str:
    """What is imported of ours, without `holychat.`; empty for a package from outside."""
    head, _, tail = each.what.partition(".")
    return (tail or "holychat") if head == "holychat" else ""


def fault(each: Import) -> str:
    """Why an import of ours is wrong; empty where it is not."""
    here, there = room(each.where), room(own(each))
    if there in LEAVES or here == "holychat":
        return ""
    if here == there:
        apart = here == "commands" and front(each.where) != front(own(each))
        return "a front imports another" if apart and own(each) != here and not each.typing else ""
    if FLOORS[there] > FLOORS[here]:
        return "up"
    if FLOORS[there] == FLOORS[here] and (here, there) not in SIDEWAYS and not each.typing:
        return "sideways"
    return ""


def test_every_room_has_a_floor() -> None:
    assert {room(name) for name, _ in modules()} - {"holychat"} <= set(FLOORS)


def test_the_walk_sees_imports_of_all_kinds() -> None:
    seen = {(each.where, own(each) or each.what, each.typing) for each in ALL}
    assert ("cli", "commands.ask", False) in seen  # lazy, inside a function
    assert ("engine.conversation", "net.client", True) in seen  # for types only
    assert ("screen", "screen.live", False) in seen  # by its name in a table
    assert ("net.client", "httpx", False) in seen


def test_imports_run_down() -> None:
    wrong = [(fault(each), each) for each in ALL if own(each) and fault(each)]
    assert not wrong, "\n".join(
        f"{each.where}:{each.line} imports {each.what}: {why}" for why, each in wrong
    )


@pytest.mark.parametrize(
    ("where", "what", "typing", "expected"),
    [
        ("core.wire", "net.client", False, "up"),
        ("core.wire", "net.client", True, "up"),
        ("store.files", "settings", False, "sideways"),
        ("store.files", "settings", True, ""),
        ("net.client", "env", False, "sideways"),
        ("screen.plain", "env", False, ""),
        ("engine.session", "commands.ask", True, "up"),
        ("commands.ask", "commands.config", False, "a front imports another"),
        ("commands.ask", "commands.repl.loop", False, "a front imports another"),
        ("commands.repl.loop", "commands.repl.keys", False, ""),
        ("commands.ask", "exits", False, ""),
        ("commands.ask", "cli", False, "up"),
        ("cli", "commands.ask", False, ""),
    ],
)
def test_what_counts_as_wrong(where: str, what: str, typing: bool, expected: str) -> None:
    assert fault(Import(where, 1, f"holychat.{what}", typing)) == expected


def test_packages_from_outside_have_one_home() -> None:
    wrong = []
    for each in ALL:
        package = each.what.split(".")[0]
        homes = RESERVED.get(package)
        inside = homes is None or any(
            each.where == home or each.where.startswith(f"{home}.") for home in homes
        )
        if not own(each) and not inside and not each.typing:
            wrong.append(f"{each.where}:{each.line} imports {each.what}")
        if not own(each) and package not in sys.stdlib_module_names and homes is None:
            wrong.append(f"{each.where}:{each.line}: {package} has no home in RESERVED")
    assert not wrong, "\n".join(wrong)


def test_core_imports_nothing_of_the_world() -> None:
    wrong = []
    for each in ALL:
        package = each.what.split(".")[0]
        known = (each.where, package) == ("core.blocks", "markdown_it")
        if room(each.where) != "core" or own(each) or each.typing or known:
            continue
        if package in IMPURE or package not in sys.stdlib_module_names:
            wrong.append(f"{each.where}:{each.line} imports {each.what}")
    assert not wrong, "\n".join(wrong)


def test_core_does_nothing_to_the_world() -> None:
    wrong = []
    for name, path in modules():
        if room(name) == "core":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            wrong += [f"{name}:{node.lineno} {deed(node)}" for node in acts(tree) if deed(node)]
    assert not wrong, "\n".join(wrong)


def acts(tree: ast.AST) -> list[ast.expr | ast.stmt]:
    return [node for node in ast.walk(tree) if isinstance(node, (ast.expr, ast.stmt))]


def deed(node: ast.AST) -> str:
    """What a line of code does that a pure room must not; mostly nothing."""
    match node:
        case ast.Call(func=ast.Name(id="print" | "open" | "input" | "exec" | "eval" as name)):
            return f"calls {name}"
        case ast.AsyncFunctionDef() | ast.Await():
            return "is async"
        case ast.Attribute(value=ast.Name(id="sys"), attr="stdin" | "stdout" | "stderr" as name):
            return f"touches {name}"
    return ""


def test_every_module_says_what_it_is() -> None:
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in modules()}
    assert [name for name, tree in trees.items() if not ast.get_docstring(tree)] == []
