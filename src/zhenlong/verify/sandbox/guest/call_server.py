"""Load a program and serve calls of its functions: one line of JSON in, one line of JSON out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any, Final

from .serialization import encode, loads

REQUEST_FD: Final = 4  # file descriptors
REPLY_FD: Final = 5


def serve_calls(path: str, load_module: Callable[[str, str], object]) -> None:
    """Load a file, report that it is loaded, and serve requests until end of input."""
    requests = os.fdopen(REQUEST_FD, "rb")
    os.set_inheritable(REQUEST_FD, False)
    os.set_inheritable(REPLY_FD, False)
    read, answer, reply = (
        requests.readline,
        _handle_request,
        _send_reply,
    )  # bound now: the program may rebind names
    try:
        module = load_module(path, "candidate")
    except BaseException as error:
        return reply(_error_reply(error))
    reply({"loaded": True})
    objects: dict[str, Any] = {}
    while line := read():
        try:
            reply(answer(module, objects, line))
        except BaseException as error:
            reply(_error_reply(error))


def _handle_request(
    module: Any,
    objects: dict[str, Any],
    line: bytes,
    parse: Any = json.loads,
    execute: Any = exec,
    compile_code: Any = compile,
) -> dict[str, Any]:
    request = parse(line)
    if "tests" in request:  # tests that share objects, and so a process, with the program
        sys.settrace(None)
        sys.setprofile(None)
        execute(compile_code(request["tests"], "tests", "exec"), module.__dict__)
        return {"nonce": request["nonce"]}
    target = module
    if request["class"]:
        if request["class"] not in objects:
            objects[request["class"]] = getattr(module, request["class"])()
        target = objects[request["class"]]
    arguments, keywords = loads(json.dumps(request["arguments"])), loads(json.dumps(request["keywords"]))
    return {"value": encode(getattr(target, request["name"])(*arguments, **keywords))}


def _send_reply(answer: dict[str, Any], write: Any = os.write, dumps: Any = json.dumps) -> None:
    data = dumps(answer).encode() + b"\n"
    while data:
        data = data[write(REPLY_FD, data) :]


def _error_reply(error: BaseException) -> dict[str, Any]:
    try:
        return {"error": type(error).__name__, "message": str(error)[:500]}
    except BaseException:
        return {"error": "Exception", "message": ""}
