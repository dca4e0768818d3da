"""Mathematical equality by math-verify, with a time limit that works in every thread.

math-verify stops an endless simplification by SIGALRM, which works only in a process's main thread. Calls from other
threads therefore go to one child process, which is started on first use and ends with its parent.
"""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.guarded_call import ANYTHING, describe_error, time_limit
from zhenlong.verify.math_answer import read_math
from zhenlong.verify.math_notation import NumberRange, as_intervals, as_ratio, as_tuples, clean_math, same_notation

TIMEOUT_SECONDS: Final = 3  # for parsing one expression, and for one comparison; normal answers take milliseconds

CHECK_SECONDS: Final = 30.0  # for the whole check: more than all of its own limits together
MAX_RESPONSE_CHARACTERS: Final = 100_000

_child: subprocess.Popen[str] | None = None
_child_lock = threading.Lock()


class MathCheckFailed(RuntimeError):
    """math-verify raised something or did not end: there is no verdict on the answer."""


def check_math(response: str, reference: str) -> float:
    """1.0 if the response's final answer is mathematically equal to the reference, else 0.0.

    The reference is an expression, LaTeX or plain, or a worked solution. `math_answer` says what counts as the answer:
    the last box, GSM8K's number or what is stated; without any there is no answer, which is wrong. So is one that
    cannot be parsed, or compared in time. Of a response of more than 100,000 characters
    the end is read. Raises UserError for a reference without an answer, and `MathCheckFailed` where math-verify itself
    fails or does not end.
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
    gold_text = clean_math(read_math(reference) or reference)
    said = read_math(response)
    if said is None:
        return False if _parse_reference(gold_text) else None
    answer = clean_math(said)
    for split, in_order in ((as_tuples, False), (as_ratio, True)):
        golds, answers = split(gold_text), split(answer)
        if golds or answers:
            return _parts_equal(golds, answers, in_order)
    unions = as_intervals(gold_text), as_intervals(answer)
    if unions[0] and unions[1]:
        return _unions_equal(*unions)
    same = same_notation(gold_text, answer)
    if same is not None:
        return same
    gold = _parse_reference(gold_text)
    return _equal(gold, answer) if gold else None


def _equal(gold: list[Any], answer: str) -> bool:
    from math_verify import verify  # slow to import

    parsed = _parse(f"\\boxed{{{answer}}}")
    candidates = [parsed]
    added = re.search(r"\s[-+]\s*[A-Za-z]", answer)  # "42 + C" is not 42, as "42 cm" is
    if "," not in answer and not added and (" " in answer or all(isinstance(part, str) for part in parsed)):
        candidates.append(_parse(answer if "$" in answer or "\\" not in answer else f"${answer}$"))
    return bool(gold) and any(bool(verify(gold, one, timeout_seconds=TIMEOUT_SECONDS)) for one in candidates)


def _unions_equal(golds: Sequence[NumberRange], answers: Sequence[NumberRange]) -> bool:
    return len(golds) == len(answers) and all(
        (gold[0], gold[3]) == (answer[0], answer[3])
        and all(_part_equals(one, other) for one, other in zip(gold[1:3], answer[1:3], strict=True))
        for gold, answer in zip(golds, answers, strict=True)
    )


def _parts_equal(golds: Sequence[str], answers: Sequence[str], in_order: bool) -> bool:
    """Whether each part of the gold answer has its own equal part in the answer, at the same place if `in_order`."""
    if len(golds) != len(answers):
        return False
    left = list(answers)
    for gold in golds:
        candidates = left[:1] if in_order else left
        match = next((one for one in candidates if _part_equals(gold, one)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _part_equals(gold: str, answer: str) -> bool:
    same = same_notation(gold, answer)
    return _equal(_parse_reference(gold), answer) if same is None else same


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
