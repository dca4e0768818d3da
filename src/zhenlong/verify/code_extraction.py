"""Extraction of the program from a response: as readers find it, and by the official rules that differ.

| name | the program |
|---|---|
| `program` | the response itself |
| `completion` | the prompt and the response (openai/human-eval:human_eval/execution.py) |
| `chat` | the prompt's helpers, and the blocks that define the function; a mere body completes the prompt |
| `block` | the blocks that make up the program; without a block the response, up to `[DONE]` (MBPP's prompt) |
| `last_block` | the lines between the last two lines with ``` (LiveCodeBench:lcb_runner/utils/extraction_utils.py) |

Blocks are fenced by three or more backticks or tildes, indented in a list or not, closed or not. A block that uses
names of another block (its imports, a helper function) is joined with it; examples of use and of output are left out.
"""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from zhenlong.errors import UserError

EXTRACTION_MODES: Final = ("program", "completion", "chat", "last_block", "block")
STOP_SEQUENCES: Final = (
    "\nclass",
    "\ndef",
    "\n#",
    "\nif",
    "\nprint",
)  # stop sequences of a base model's completion (Codex paper)
MAX_PARSED: Final = 200_000  # characters of a block that is parsed; a longer one is taken as it is
MAX_FENCES: Final = 100  # lines with a fence that are looked at
MAX_CLOSINGS: Final = 5  # of those, the ones that may close a block
_MAX_TRIES: Final = 30  # ends of an unfenced program that are tried
_FENCE: Final = re.compile(r"^((?:[ \t]{0,40}(?:[-*+>]|\d{1,9}[.)]) )?[ \t]{0,40})(`{3,}|~{3,})[ \t]*([^`\n]*)$")
_PYTHON: Final = ("python", "py", "python3", "python2", "py3", "pycon", "ipython")
_READS_INPUT: Final = re.compile(r"\binput\s*\(|\bstdin\b|open\s*\(\s*0|\bos\.read\b|/dev/stdin")
_FIRST_LINE: Final = re.compile(r"(?:import|from|def|async def|class|@)\b|@")
_FUTURE: Final = re.compile(
    r"^from[ \t]+__future__[ \t]+import[ \t]+(?:\([^)]*\)|[^\n;(]*)[ \t]*;?[^\n]*$", re.MULTILINE
)


@dataclass(frozen=True)
class _Block:
    """One fenced block: its text without the indentation of its fence, and whether it is marked as Python."""

    code: str
    is_python: bool
    has_info: bool


@dataclass(frozen=True)
class _Names:
    """What a program defines at its top level, and what it uses without defining it."""

    defined: frozenset[str]
    missing: frozenset[str]
    only_defines: bool


def extract_program(
    response: str, extraction: str = "program", *, prompt: str = "", entry_point: str = "", stop: Sequence[str] = ()
) -> str:
    """The program to run. `stop` truncates a completion at the first of these texts; empty: no truncation."""
    if extraction == "program":
        return response
    if extraction == "completion":
        return prompt + truncate_at_stop(response, stop)
    if extraction == "chat":
        return _extract_from_chat(response, prompt, entry_point)
    if extraction == "last_block":
        return last_fenced_block(response)
    if extraction == "block":
        found = _from_blocks(_fenced_blocks(response), entry_point)
        return found if found is not None else _unfenced(response.split("[DONE]")[0].removeprefix("[BEGIN]"))
    raise UserError(f"code: extraction {extraction!r} is not known; expected one of {', '.join(EXTRACTION_MODES)}")


def truncate_at_stop(text: str, stop: Sequence[str] = STOP_SEQUENCES) -> str:
    """The text up to the first stop sequence."""
    return text[: min((found for one in stop if (found := text.find(one)) >= 0), default=len(text))]


def last_fenced_block(response: str) -> str:
    """The lines between the last two lines with three backticks; empty if there are fewer than two."""
    lines = response.split("\n")
    fences = [number for number, line in enumerate(lines) if "```" in line]
    return "\n".join(lines[fences[-2] + 1 : fences[-1]]) if len(fences) > 1 else ""


def join_programs(*parts: str) -> str:
    """The parts one after the other, with every `from __future__` import first, where Python wants it."""
    future = [line.strip().rstrip(";") for part in parts for line in _future_imports(part)]
    rest = [_FUTURE.sub("", part) if "__future__" in part else part for part in parts]
    return "\n".join([*dict.fromkeys(future), *(part for part in rest if part)])


def executable_prompt(prompt: str) -> str:
    """A prompt as runnable code: its imports and helpers, and the function with an empty body.

    Empty if the prompt cannot be made to run.
    """
    for code in (prompt, f"{prompt.rstrip()}\n    pass\n"):
        try:
            compile(code, "prompt", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            continue
        return code
    return ""


def _extract_from_chat(response: str, prompt: str, entry_point: str) -> str:
    blocks = _fenced_blocks(response)
    code = _from_blocks(blocks, entry_point)
    if code is None:
        code = _unfenced(response)
    if _defines(code, entry_point):
        return join_programs(executable_prompt(prompt), f"\n{code}")  # responses omit the prompt's imports and helpers
    is_indented = code.lstrip("\n")[:1] in (" ", "\t")
    body = code if is_indented else textwrap.indent(code, "    ")
    if _parse(prompt + body) is not None:
        return prompt + body
    return prompt + code


def _future_imports(part: str) -> list[str]:
    return [found[0] for found in _FUTURE.finditer(part)] if "__future__" in part else []


def _fenced_blocks(response: str) -> list[_Block]:
    """The fenced blocks with text, in order; one whose Python ends within a string at a fence goes on after it."""
    lines = response.split("\n")
    fences = [number for number, line in enumerate(lines) if _FENCE.match(line)][:MAX_FENCES]
    blocks: list[_Block] = []
    number = 0
    for start in fences:
        opening = _FENCE.match(lines[start])
        if start < number or opening is None:
            continue
        indent, fence, info = opening[1], opening[2], opening[3].strip().lower()
        ends = [end for end in fences if end > start and _closes(lines[end], fence)][:MAX_CLOSINGS]
        language = re.split(r"[\s{:,]+", info.strip("{.} "))[0]
        is_python = language in _PYTHON
        end = _block_end(lines, start + 1, ends, len(indent)) if is_python else (ends[0] if ends else len(lines))
        code = _without_indent(lines[start + 1 : end], len(indent))
        if code.strip():
            blocks.append(_Block(code, is_python, bool(info)))
        number = end + 1
    return blocks


def _closes(line: str, fence: str) -> bool:
    mark = line.strip()
    return len(mark) >= len(fence) and set(mark) == {fence[0]}


def _block_end(lines: Sequence[str], start: int, ends: Sequence[int], indent: int) -> int:
    """The first closing fence up to which the code is Python, else the first one."""
    for end in [*ends, len(lines)]:
        if _parse(_without_indent(lines[start:end], indent)) is not None:
            return end
    return ends[0] if ends else len(lines)


def _without_indent(lines: Sequence[str], indent: int) -> str:
    """The lines without at most so many leading blanks, as a list's indentation adds them."""
    kept = [line[min(indent, len(line) - len(line.lstrip(" \t"))) :] for line in lines]
    return "\n".join([*kept, ""])


def _from_blocks(blocks: Sequence[_Block], entry_point: str) -> str | None:
    """The program that the blocks make up; None where there is no block."""
    marked = [one.code for one in blocks if one.is_python]
    unmarked = [one.code for one in blocks if not one.has_info]
    codes = marked or [one for one in unmarked if _parse(one) is not None] or [one.code for one in blocks]
    if not codes:
        return None
    if entry_point:
        chosen = [place for place, code in enumerate(codes) if _defines(code, entry_point)]
    else:
        chosen = [place for place, code in enumerate(codes) if "class Solution" in code or _READS_INPUT.search(code)]
    return _with_needed(codes, chosen[-1] if chosen else len(codes) - 1)


def _with_needed(codes: Sequence[str], main: int) -> str:
    """The main block, with the other blocks that define what it uses: earlier ones first, nearest first."""
    names = [_names(code) for code in codes]
    own = names[main]
    parts, missing = [codes[main]], set(own.missing) if own is not None else set()
    for place in [*range(main - 1, -1, -1), *range(main + 1, len(codes))]:
        other = names[place]
        if other is not None and other.only_defines and missing & other.defined:
            parts.insert(0, codes[place])
            missing = (missing - other.defined) | other.missing
    return join_programs(*parts)


def _names(code: str) -> _Names | None:
    tree = _parse(code)
    if tree is None:
        return None
    defined: set[str] = set()
    for statement in tree.body:
        defined |= _defined_by(statement)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    stored |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    missing = used - defined - stored - set(dir(builtins))
    only_defines = all(_defined_by(one) or _is_text(one) for one in tree.body)
    return _Names(frozenset(defined), frozenset(missing), only_defines)


def _defined_by(statement: ast.stmt) -> set[str]:
    """The names that a top-level statement defines; none for one that does something else."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
    if isinstance(statement, ast.Assign):
        return {node.id for target in statement.targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return {statement.target.id}
    return set()


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _defines(code: str, entry_point: str) -> bool:
    """Whether the code defines the name at its top level."""
    tree = _parse(code)
    if tree is None:
        return (
            re.search(rf"^(?:async )?def {re.escape(entry_point)}\b|^{re.escape(entry_point)}\s*=", code, re.M)
            is not None
        )
    return any(entry_point in _defined_by(statement) for statement in tree.body)


def _unfenced(response: str) -> str:
    """A program that stands in the text: without lone fences, and from its first line of code to the last that fits."""
    text = "\n".join(line for line in response.split("\n") if not _FENCE.match(line) or line.strip("`~ \t"))
    if len(text) > MAX_PARSED or _parse(text) is not None:
        return text
    lines = text.split("\n")
    starts = [number for number, line in enumerate(lines) if _FIRST_LINE.match(line)]
    if starts:
        for end in range(len(lines), max(starts[0], len(lines) - _MAX_TRIES), -1):
            code = "\n".join(lines[starts[0] : end])
            if _parse(code) is not None:
                return code + "\n"
    return text


def _parse(code: str) -> ast.Module | None:
    """The syntax tree; None for what is no Python, or too long to be parsed here."""
    if len(code) > MAX_PARSED:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None
