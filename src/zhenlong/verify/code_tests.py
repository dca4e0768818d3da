"""The format of the tests of a programming problem, which `check_code` runs.

| kind | keys | passes when |
|---|---|---|
| `check` | `test`, `entry_point`, `prompt` | `check(entry_point)` returns without an exception (HumanEval) |
| `asserts` | `asserts`, `setup`, `imports`, `same_process` | all assertions hold (MBPP) |
| `stdin` | `inputs`, `outputs` | the program prints each output for its input (LiveCodeBench, APPS) |
| `functional` | `inputs`, `outputs`, `function`, `class` | the function returns each output (the same) |

Other keys: `extraction` (code_extraction.py) with its `prompt`, `entry_point` and `stop`; `seconds`, for all of `check`
and `asserts` and for each test of the others; `prelude` (a name of `PRELUDES`); `packages`; `memory` in bytes. For
`stdin` and `functional` also `compare` (`lines` or `apps`) and `all_tests` (do not stop at the first failure).

Upstream schemas are accepted too: `fn_name` for `function` (APPS), `public_test_cases` and `private_test_cases` for
inputs and outputs (LiveCodeBench); `kind` is then optional.
"""

from __future__ import annotations

import ast
import base64
import binascii
import builtins
import io
import json
import pickle
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from zhenlong.errors import UserError

REQUIRED_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "check": ("test", "entry_point"),
    "asserts": ("asserts",),
    "stdin": ("inputs", "outputs"),
    "functional": ("inputs", "outputs", "function"),
}
DEFAULT_SECONDS: Final = {"check": 3.0, "asserts": 3.0, "stdin": 6.0, "functional": 6.0}
COMMON_KEYS: Final = ("kind", "extraction", "prompt", "entry_point", "stop", "seconds", "prelude", "packages", "memory")
OPTIONAL_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "check": (),
    "asserts": ("setup", "imports", "same_process"),
    "stdin": ("compare", "all_tests"),
    "functional": ("compare", "all_tests", "class"),
}
UPSTREAM_KEYS: Final = ("fn_name", "public_test_cases", "private_test_cases")
KEYS: Final = tuple(
    dict.fromkeys(
        (
            *COMMON_KEYS,
            *(key for kind in REQUIRED_KEYS for key in (*REQUIRED_KEYS[kind], *OPTIONAL_KEYS[kind])),
            *UPSTREAM_KEYS,
        )
    )
)
COMPARISONS: Final = ("lines", "apps")
MAX_DECODED_BYTES: Final = 1 << 30  # bytes; the largest test sets are a few hundred megabytes

# Preludes that the official scorers insert before a program, so that `List` and `heappush` need no import.
_MODULES: Final = (
    "string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys json"
)
PRELUDES: Final = {
    "": "",
    "livecodebench": "".join(f"from {name} import *\n" for name in (*_MODULES.split(), "builtins", "typing"))
    + "".join(f"import {name}\n" for name in _MODULES.split())
    + "sys.setrecursionlimit(50000)\n",
    "apps": "import sys\nimport time\nimport itertools\n"
    "from itertools import accumulate, product, permutations, combinations\n"
    "import collections\nfrom collections import Counter, OrderedDict, deque, defaultdict, ChainMap\n"
    "from functools import lru_cache\nimport math\n"
    "from math import sqrt, sin, cos, tan, ceil, fabs, floor, gcd, exp, log, log2\nimport fractions\n"
    "from typing import List, Tuple\ntry:\n    import numpy as np\nexcept ImportError:\n    pass\n"
    "import random\nimport heapq\nfrom heapq import *\n",
}


def normalize_tests(raw_tests: Mapping[str, Any], rules: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The tests with the keys of the table above; `rules` are defaults for missing keys.

    Raises `UserError` naming a missing, unknown or wrong key.
    """
    unknown_rules = sorted(set(rules or {}) - set(KEYS))
    if unknown_rules:
        raise UserError(f"code tests: rules: no key {', '.join(unknown_rules)}; expected some of {', '.join(KEYS)}")
    tests = dict(raw_tests)
    if "fn_name" in tests:
        tests["function"] = tests.pop("fn_name")
    if "public_test_cases" in tests:
        tests |= _livecodebench_cases(
            tests.pop("public_test_cases"), tests.pop("private_test_cases", "[]"), "function" in tests
        )
    if "inputs" in tests:
        tests.setdefault("kind", "functional" if "function" in tests else "stdin")
    kind = tests.get("kind")
    if kind not in REQUIRED_KEYS:
        raise UserError(f"code tests: kind {kind!r} is not known; expected one of {', '.join(REQUIRED_KEYS)}")
    accepted = (*REQUIRED_KEYS[kind], *OPTIONAL_KEYS[kind], *COMMON_KEYS)
    tests = {key: value for key, value in (rules or {}).items() if key in accepted} | tests
    missing = [key for key in REQUIRED_KEYS[kind] if key not in tests]
    if missing:
        raise UserError(
            f"code tests: {missing[0]} is missing; tests of kind {kind} need {', '.join(REQUIRED_KEYS[kind])}"
        )
    unknown = sorted(set(tests) - set(accepted))
    if unknown:
        raise UserError(f"code tests: no key {', '.join(unknown)} for kind {kind}; expected {', '.join(accepted)}")
    if "inputs" in tests and (len(tests["inputs"]) != len(tests["outputs"]) or not len(tests["inputs"])):
        counts = f"{len(tests['inputs'])} inputs and {len(tests['outputs'])} outputs"
        raise UserError(f"code tests: expected equally many inputs and outputs, at least one; got {counts}")
    for key, known in (("prelude", tuple(PRELUDES)), ("compare", COMPARISONS)):
        if tests.get(key, known[0]) not in known:
            raise UserError(f"code tests: {key}: expected one of {', '.join(filter(None, known))}, got {tests[key]!r}")
    return tests


def _livecodebench_cases(public: str, private: str, functional: bool) -> dict[str, Any]:
    """LiveCodeBench's tests, public then private. For functions, each line of the input is a JSON value."""
    try:
        cases = [*decode_private_tests(public), *decode_private_tests(private)]
        inputs, outputs = [str(one["input"]) for one in cases], [str(one["output"]) for one in cases]
        if not functional:
            return {"inputs": inputs, "outputs": outputs}
        arguments = [[json.loads(line) for line in text.split("\n")] for text in inputs]
        return {"inputs": arguments, "outputs": [json.loads(text) for text in outputs]}
    except ValueError as error:
        raise UserError(f"code tests: private_test_cases or public_test_cases: {error}") from None


def required_functions(tests: str, context: str = "") -> tuple[str, ...]:
    """The functions that the program has to define: called by the tests, and not defined by them or by `context`.

    Raises `ValueError` for tests that are not valid Python.
    """
    try:
        trees = [ast.parse(context), ast.parse(tests)]
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"not valid Python: {error}") from None
    bound = {name for tree in trees for node in ast.walk(tree) for name in _bound_names(node)}
    calls = [node.func for node in ast.walk(trees[1]) if isinstance(node, ast.Call)]
    names = [func.id for func in calls if isinstance(func, ast.Name)]
    return tuple(dict.fromkeys(name for name in names if name not in bound and not hasattr(builtins, name)))


def _bound_names(node: ast.AST) -> Iterable[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return [node.id]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    return []


def decode_private_tests(text: str) -> list[dict[str, Any]]:
    """LiveCodeBench's private tests: JSON, or a base64-encoded, zlib-compressed pickle of JSON.

    Only strings, numbers, lists and dictionaries are unpickled. Raises `ValueError` for anything else.
    """
    try:
        found = json.loads(text)
    except ValueError:
        found = _decode_pickle(text)
    if not isinstance(found, list) or not all(
        isinstance(one, dict) and {"input", "output"} <= set(one) for one in found
    ):
        raise ValueError("expected a list of tests with input and output")
    return found


def _decode_pickle(text: str) -> Any:
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(text, validate=True), MAX_DECODED_BYTES)
        if unpacker.unconsumed_tail:
            raise ValueError(f"more than {MAX_DECODED_BYTES} bytes")
        value = _RestrictedUnpickler(io.BytesIO(data)).load()
        return json.loads(value) if isinstance(value, str | bytes) else value
    except (
        binascii.Error,
        zlib.error,
        pickle.UnpicklingError,
        EOFError,
        IndexError,
        KeyError,
        AttributeError,
    ) as error:
        raise ValueError(f"not encoded tests ({error or type(error).__name__})") from None


class _RestrictedUnpickler(pickle.Unpickler):
    """An unpickler that refuses every global: a pickle could otherwise call any function."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"pickle refers to {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("pickle has a persistent reference")
