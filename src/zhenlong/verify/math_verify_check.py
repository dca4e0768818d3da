"""Mathematical equality by math-verify, with a time limit that works in every thread.

math-verify stops an endless simplification by SIGALRM, which works only in a process's main thread. Calls from other
threads therefore go to one child process, which is started on first use and ends with its parent.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import threading
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.guarded_call import ANYTHING, describe_error, time_limit

TIMEOUT_SECONDS: Final = 3  # for parsing one expression, and for one comparison; normal answers take milliseconds

CHECK_SECONDS: Final = 30.0  # for the whole check: more than all of its own limits together
MAX_RESPONSE_CHARACTERS: Final = 100_000

_child: subprocess.Popen[str] | None = None
_child_lock = threading.Lock()


class MathCheckFailed(RuntimeError):
    """math-verify raised something or did not end: there is no verdict on the answer."""


def check_math(response: str, reference: str) -> float:
    """1.0 if the response's final answer is mathematically equal to the reference, else 0.0.

    The reference is an expression, LaTeX or plain, or a GSM8K solution whose answer follows `####`. The response's
    answer is the first of these: the text after its last `####`; its `\\boxed{}` (several make a set, so hedging is
    wrong); the text after "answer is"; its last number or LaTeX expression. An answer that cannot be parsed, or
    compared in time, is wrong. Of a response of more than 100,000 characters the end is read. Raises UserError for a
    reference without an answer, and `MathCheckFailed` where math-verify itself fails or does not end.
    """
    response = response[-MAX_RESPONSE_CHARACTERS:]
    if threading.current_thread() is threading.main_thread():
        try:
            with time_limit(CHECK_SECONDS):  # math-verify's own alarm is lost where it goes off in a callback
                equal = _math_equal(response, reference)
        except ANYTHING as error:
            raise MathCheckFailed(describe_error(error)) from None
    else:
        equal = _math_equal_in_child(response, reference)
    if equal is None:
        raise UserError(f"task: its reference {reference[:60]!r} is not a mathematical expression; use verifier exact")
    return float(equal)


def _math_equal(response: str, reference: str) -> bool | None:
    """Whether the two agree; None if the reference cannot be parsed."""
    from math_verify import verify  # slow to import

    gold = _parse_reference(_gsm8k_answer_line(reference))
    if not gold:
        return None
    return bool(verify(gold, _parse(_gsm8k_answer_line(response)), timeout_seconds=TIMEOUT_SECONDS))


def _gsm8k_answer_line(text: str) -> str:
    """GSM8K's convention: the answer is on the line of the last `####`; without one, the whole text."""
    return text.rsplit("####", 1)[-1].strip().split("\n", 1)[0] if "####" in text else text


def _parse_reference(text: str) -> list[Any]:
    """The parsed reference, or an empty list. A bare `x^2 + 1` is recognised as an expression only inside a box."""
    is_latex = "$" in text or "\\boxed" in text or "\\(" in text or "\\[" in text
    candidates = [_parse(text)] if is_latex else [_parse(f"\\boxed{{{text}}}"), _parse(text)]
    return next((r for r in candidates if any(not isinstance(part, str) for part in r)), [])


def _parse(text: str) -> list[Any]:
    from math_verify import parse

    return list(parse(text, parsing_timeout=TIMEOUT_SECONDS))


def _math_equal_in_child(response: str, reference: str) -> bool | None:
    global _child
    with _child_lock:
        if _child is None or _child.poll() is not None:
            command = [sys.executable, "-c", f"from {__name__} import serve_checks; serve_checks()"]
            _child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
            )
        assert _child.stdin is not None
        assert _child.stdout is not None
        _child.stdin.write(json.dumps([response, reference]) + "\n")
        _child.stdin.flush()
        if select.select([_child.stdout], [], [], CHECK_SECONDS * 2)[0]:
            line = _child.stdout.readline()
        else:
            _child.kill()
            line = ""
        if not line:
            _child.wait()
    if not line:
        raise MathCheckFailed("the process that checks mathematics ended, or took too long")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise MathCheckFailed(answer["error"])
    equal: bool | None = answer["equal"]
    return equal


def serve_checks() -> None:
    """The child process: reads one JSON pair per line and writes one JSON verdict per line, until end of input."""
    for line in sys.stdin:
        try:
            with time_limit(CHECK_SECONDS):
                answer: dict[str, Any] = {"equal": _math_equal(*json.loads(line))}
        except ANYTHING as error:
            answer = {"error": describe_error(error)}
        print(json.dumps(answer), flush=True)
