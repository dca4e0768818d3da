"""Running a page as its reader would: its files are written, its commands run in order, in one folder.

Commands run in this process, with small settings put behind their own, so the last ones win: the test is about whether
the page works, not about what the models learn.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from zhenlong.cli import main

LEARNING: Final = ("--steps=1", "--batch_size=2", "--progress=false", "--evaluation_limit=2")
ROLLOUTS: Final = (*LEARNING, "--rollout_prompts=2", "--max_tokens=4", "--samples_per_prompt=2")
SMALL: Final[Mapping[str, tuple[str, ...]]] = {
    "sft": LEARNING,
    "dpo": LEARNING,
    "grpo": ROLLOUTS,
    "best_of_n": ("--max_tokens=4", "--samples_per_prompt=2", "--steps=1", "--batch_size=2", "--progress=false"),
    "sample": ("--max_tokens=4",),
    "evaluate": ("--limit=2", "--max_tokens=4", "--progress=false"),
}
REPLACED: Final = {"Qwen/Qwen2.5-0.5B": "pocket", "2048": "512"}  # what only the hub has, and its longer context


class Block(NamedTuple):
    """A code block of a page: its language, the file it is the text of (or ""), and its text."""

    language: str
    file: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """The page's code blocks in order."""
    pattern = r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$'
    for found in re.finditer(pattern, page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        yield Block(found[1], found[2] or "", found[3])


def commands(text: str) -> list[list[str]]:
    """The words of each line of a shell block; lines that end in a backslash go on."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def walk(
    page: Path,
    folder: Path,
    instead: Mapping[str, Callable[[], None]] | None = None,
    small: Mapping[str, tuple[str, ...]] = SMALL,
) -> list[str]:
    """Write the page's files into the folder, which is the working one, and run its commands; their names in order.

    `instead` holds what to do for a line that is no command of zhenlong. `text` blocks show output.
    """
    ran = []
    others = instead or {}
    for block in blocks(page):
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            for words in commands(block.text):
                if (line := shlex.join(words)) in others:
                    others[line]()
                    continue
                assert words[0] == "zhenlong", f"{page.name}: no test runs {' '.join(words)!r}"
                run(words[1:], small)
                ran.append(words[1])
        elif block.language != "text":
            raise AssertionError(f"{page.name}: a {block.language} block that is neither a file nor commands")
    return ran


def run(words: list[str], small: Mapping[str, tuple[str, ...]]) -> None:
    """One command with small settings; a gate that fails is a result, and no fault of the page."""
    code: object = 0
    try:
        main([*(REPLACED.get(word, word) for word in words), *small.get(words[0], ())])
    except SystemExit as stopped:
        code = stopped.code
    assert code in ((0, 1) if words[0] == "gate" else (0, None)), f"zhenlong {shlex.join(words)} exits with {code}"
