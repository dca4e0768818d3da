"""The tests' process: run test code in which the program's functions are stand-ins that call the program elsewhere.

The program is in another process under another identity. What comes back from it are plain values, so that a test's
`==` is that of the built-in types and its `assert` that of this interpreter, whatever the program did to its own.
"""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

from .plain import Opaque, encode, loads

LINE = 64 << 20  # bytes; a longer answer breaks the connection


class Broken(Exception):
    """The program ended, or did not keep to the protocol."""


def check(context: str, names: Sequence[str], tests: str, requests: int, replies: int) -> dict[str, Any]:
    """Whether the tests run to their end: `{"passed": bool, "error": why not}`.

    `context` is code that the tests need beside the program (imports, the functions that a prompt gives); `names` are
    the program's functions, called over the file descriptors `requests` and `replies`.
    """
    broken: list[str] = []
    with os.fdopen(replies, "rb") as answers:
        try:
            _loaded(answers)
            space: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins}
            exec(compile(context, "context", "exec"), space)
            for name in names:
                space[name] = _stand_in(name, requests, answers, broken)
            exec(compile(tests, "tests", "exec"), space)
        except BaseException as error:
            return {"passed": False, "error": f"{type(error).__name__}: {error}"[:500]}
    return {"passed": not broken, "error": broken[0] if broken else ""}


def _stand_in(name: str, requests: int, answers: BinaryIO, broken: list[str]) -> Callable[..., Any]:
    def call(*arguments: Any, **keywords: Any) -> Any:
        request = {"name": name, "class": "", "arguments": encode(list(arguments)), "keywords": encode(keywords)}
        try:
            _send(requests, request)
            answer = _line(answers)
            if "value" in answer:
                return loads(json.dumps(answer["value"]))
        except (OSError, ValueError, Broken) as error:
            broken.append(f"{type(error).__name__}: {error}")  # kept, for a test may catch what is raised here
            raise Broken(str(error)) from None
        raise _exception(answer)

    call.__name__ = name
    return call


def _loaded(answers: BinaryIO) -> None:
    first = _line(answers)
    if "loaded" not in first:
        raise _exception(first)


def _line(answers: BinaryIO) -> Mapping[str, Any]:
    line = answers.readline(LINE)
    if not line.endswith(b"\n"):
        raise Broken("the program ended without an answer")
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise Broken("not an answer")
    return answer


def _send(requests: int, request: Mapping[str, Any]) -> None:
    data = json.dumps(request).encode() + b"\n"
    while data:
        data = data[os.write(requests, data) :]


def _exception(answer: Mapping[str, Any]) -> Exception:
    """What the program raised, where it is a built-in exception; else one that no test expects."""
    kind = getattr(builtins, str(answer.get("error")), None)
    message = str(answer.get("message", ""))[:500]
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(message)
        except TypeError:  # such as UnicodeDecodeError, which takes five arguments
            pass
    return RuntimeError(f"{answer.get('error')}: {message}")


__all__ = ["Broken", "Opaque", "check"]
