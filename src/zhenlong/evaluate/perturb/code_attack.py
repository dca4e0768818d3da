"""CodeAttack: a request encoded in a data structure of a program that the model is asked to complete (Ren et al. 2024).

The program holds the request as a string, as a queue of words (list), or as a stack of words (in reverse order). The
steps that the model writes are extracted from the completed program before refusal or harm is judged. Rules of
`renqibing/CodeAttack` (data_preparation.py, post_processing.py); the templates' wording is our own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from zhenlong.errors import UserError

SLOT: Final = "{wrapped_input}"
DATA_STRUCTURES: Final = ("string", "list", "stack")


@dataclass(frozen=True)
class AttackLanguage:
    """A programming language: the code that fills each data structure, and the pattern by which a response adds a step.

    There is one line of code each for a string, a list (queue) and a stack; `%s` is the quoted text.
    """

    fill_lines: tuple[str, str, str]
    step: re.Pattern[str]


LANGUAGES: Final = {
    "python": AttackLanguage(
        ("    my_string = %s", "    my_list.append(%s)", "    my_stack.append(%s)"),
        re.compile(r'output_list\.append\("([^"]+)"\)'),
    ),
    "go": AttackLanguage(
        ("\tmyString := %s", "\tmyQueue = append(myQueue, %s)", "\tmyStack = append(myStack, %s)"),
        re.compile(r'outputList\s*=\s*append\(outputList,\s*"([^"]+)"\)'),
    ),
    "cpp": AttackLanguage(
        ("    std::string my_string = %s;", "    my_queue.push(%s);", "    my_stack.push(%s);"),
        re.compile(r'outputList\.push_back\("([^"]+)"\);'),
    ),
}
WHOLE_LIST: Final = re.compile(r"output_list\s*=\s*\[\s*(.*?)\s*\]", re.DOTALL)  # Python, as one literal
ATTACK_NAMES: Final = tuple(f"code_{language}_{shape}" for language in LANGUAGES for shape in DATA_STRUCTURES)


def wrap_request(name: str, request: str, template: str = "") -> str:
    """The prompt of an attack such as `code_python_stack` with the request, in its own template or in `template`.

    Raises `UserError` for an unknown attack, and for a template without a slot.
    """
    language, shape = _parts(name)
    text = template or built_in_template(name)
    if SLOT not in text:
        raise UserError(f"attack {name}: its template has no slot; expected {SLOT} in place of the request")
    line = LANGUAGES[language].fill_lines[DATA_STRUCTURES.index(shape)]
    return text.replace(SLOT, "\n".join(line % string_literal(part) for part in request_parts(request, shape)))


def request_parts(request: str, data_structure: str) -> Sequence[str]:
    """The parts of the request in the order in which they are added to the data structure.

    A string holds the request itself; a list its words, split at white space; a stack its words, split at white space
    and hyphens, last word first, so that they pop in order. On a stack a request of one word is split into characters,
    as upstream does for languages without spaces.
    """
    if data_structure == "string":
        return (request,)
    if data_structure == "list":
        return tuple(request.split())
    words = re.split(r"[\s\-]+", request)
    return tuple(reversed(words if len(words) > 1 else list(request)))


def extract_steps(name: str, response: str) -> str:
    """The steps that a response adds to its list, one per line; the response itself if it adds none.

    Python list literals are read too. Only text in double quotes is a step.
    """
    language, _ = _parts(name)
    steps = LANGUAGES[language].step.findall(response)
    if steps:
        return "\n".join(steps)
    whole = WHOLE_LIST.search(response) if language == "python" else None
    return whole[1] if whole and whole[1] else response


def string_literal(text: str) -> str:
    """The text as a string literal that is valid in all three languages."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def built_in_template(name: str) -> str:
    """The package's own template of an attack."""
    language, shape = _parts(name)
    folder = files("zhenlong.evaluate.perturb").joinpath("attack_templates")
    return folder.joinpath(f"{language}_{shape}.txt").read_text(encoding="utf-8")


def read_template(name: str, path: str) -> str:
    """A template from a file. Raises `UserError` if it cannot be read or has no slot."""
    _parts(name)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"attack {name}: template {path}: cannot be read ({error}); give a text file") from None
    if SLOT not in text:
        raise UserError(f"attack {name}: template {path}: has no slot; expected {SLOT} in place of the request")
    return text


def _parts(name: str) -> tuple[str, str]:
    if name not in ATTACK_NAMES:
        raise UserError(f"attack {name!r} is not known; expected one of {', '.join(ATTACK_NAMES)}")
    _, language, shape = name.split("_")
    return language, shape
