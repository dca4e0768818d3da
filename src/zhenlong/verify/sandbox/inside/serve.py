"""Load a program and answer calls of its functions: a line of JSON in, a line of JSON out."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final

from .plain import encode, loads
from .program import load

REQUESTS: Final = 4  # file descriptors
REPLIES: Final = 5


def serve(path: str) -> None:
    """Load a file, say so, and answer requests until there are none."""
    requests = os.fdopen(REQUESTS, "rb")
    os.set_inheritable(REQUESTS, False)
    os.set_inheritable(REPLIES, False)
    read, answer, reply = requests.readline, _answer, _reply  # taken now: the program may change what names mean
    try:
        module = load(path, "candidate")
    except BaseException as error:
        return reply(_failure(error))
    reply({"loaded": True})
    objects: dict[str, Any] = {}
    while line := read():
        try:
            reply(answer(module, objects, line))
        except BaseException as error:
            reply(_failure(error))


def _answer(
    module: Any, objects: dict[str, Any], line: bytes, parse: Any = json.loads, execute: Any = exec, make: Any = compile
) -> dict[str, Any]:
    request = parse(line)
    if "tests" in request:  # tests that share objects with the program, and so its process
        sys.settrace(None)
        sys.setprofile(None)
        execute(make(request["tests"], "tests", "exec"), module.__dict__)
        return {"nonce": request["nonce"]}
    owner = module
    if request["class"]:
        if request["class"] not in objects:
            objects[request["class"]] = getattr(module, request["class"])()
        owner = objects[request["class"]]
    arguments, keywords = loads(json.dumps(request["arguments"])), loads(json.dumps(request["keywords"]))
    return {"value": encode(getattr(owner, request["name"])(*arguments, **keywords))}


def _reply(answer: dict[str, Any], write: Any = os.write, form: Any = json.dumps) -> None:
    data = form(answer).encode() + b"\n"
    while data:
        data = data[write(REPLIES, data) :]


def _failure(error: BaseException) -> dict[str, Any]:
    try:
        return {"error": type(error).__name__, "message": str(error)[:500]}
    except BaseException:
        return {"error": "Exception", "message": ""}
