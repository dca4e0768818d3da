"""The tests' process: run test code with proxies for the program's functions, which run in another process.

The program runs in another process under another user id. It returns plain values only, so a test's `==` is that of the
built-in types and its `assert` that of this interpreter, whatever the program did to its own.
"""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

from .serialization import Opaque, encode, loads

MAX_LINE_BYTES = 64 << 20  # bytes; a longer reply breaks the connection


class ProtocolError(Exception):
    """The program ended, or violated the protocol."""


def run_tests(context: str, names: Sequence[str], tests: str, request_fd: int, reply_fd: int) -> dict[str, Any]:
    """Whether the tests finish without an exception: `{"passed": bool, "error": why not}`.

    `context` is code that the tests need besides the program (imports, functions given in the prompt); `names` are the
    program's functions, called through the file descriptors `request_fd` and `reply_fd`.
    """
    protocol_errors: list[str] = []
    with os.fdopen(reply_fd, "rb") as reply_stream:
        try:
            _await_loaded(reply_stream)
            namespace: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins}
            exec(compile(context, "context", "exec"), namespace)
            for name in names:
                namespace[name] = _proxy_function(name, request_fd, reply_stream, protocol_errors)
            exec(compile(tests, "tests", "exec"), namespace)
        except BaseException as error:
            return {"passed": False, "error": f"{type(error).__name__}: {error}"[:500]}
    return {"passed": not protocol_errors, "error": protocol_errors[0] if protocol_errors else ""}


def _proxy_function(
    name: str, request_fd: int, reply_stream: BinaryIO, protocol_errors: list[str]
) -> Callable[..., Any]:
    def call(*arguments: Any, **keywords: Any) -> Any:
        request = {"name": name, "class": "", "arguments": encode(list(arguments)), "keywords": encode(keywords)}
        try:
            _send_request(request_fd, request)
            answer = _read_reply(reply_stream)
            if "value" in answer:
                return loads(json.dumps(answer["value"]))
        except (OSError, ValueError, ProtocolError) as error:
            protocol_errors.append(f"{type(error).__name__}: {error}")  # recorded: a test may catch the exception
            raise ProtocolError(str(error)) from None
        raise _to_exception(answer)

    call.__name__ = name
    return call


def _await_loaded(reply_stream: BinaryIO) -> None:
    first = _read_reply(reply_stream)
    if "loaded" not in first:
        raise _to_exception(first)


def _read_reply(reply_stream: BinaryIO) -> Mapping[str, Any]:
    line = reply_stream.readline(MAX_LINE_BYTES)
    if not line.endswith(b"\n"):
        raise ProtocolError("the program ended without a reply")
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise ProtocolError("not a reply")
    return answer


def _send_request(request_fd: int, request: Mapping[str, Any]) -> None:
    data = json.dumps(request).encode() + b"\n"
    while data:
        data = data[os.write(request_fd, data) :]


def _to_exception(answer: Mapping[str, Any]) -> Exception:
    """The exception that the program raised, if it is built in; else one that no test expects."""
    kind = getattr(builtins, str(answer.get("error")), None)
    message = str(answer.get("message", ""))[:500]
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(message)
        except TypeError:  # such as UnicodeDecodeError, which takes five arguments
            pass
    return RuntimeError(f"{answer.get('error')}: {message}")


__all__ = ["Opaque", "ProtocolError", "run_tests"]
