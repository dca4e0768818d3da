"""Is this argument one of the accepted values? BFCL's rules of types and of equality.

ShishirPatil/gorilla: berkeley-function-call-leaderboard/bfcl_eval/eval_checker/ast_eval/ast_checker.py. Each function
returns what is wrong, or an empty text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

TYPES: Final[dict[str, type]] = {
    "string": str,
    "integer": int,
    "float": float,
    "number": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "object": dict,
    "any": str,
}
_IGNORED: Final = re.compile(r"[ ,./\-_*^]")


def argument_problem(name: str, value: Any, accepted: Sequence[Any], schema: Mapping[str, Any]) -> str:
    """Why a value is not among the accepted ones, by the parameter's schema; empty where it is.

    A whole number may stand for a float, a tuple for a parameter of type tuple. A value of the accepted values' own
    type passes where that is not the schema's: BFCL writes variables as strings, which are compared as they are.
    """
    kind = schema.get("type", "any")
    expected = TYPES.get(kind, str)
    inner = TYPES.get((schema.get("items") or {}).get("type", "")) if kind in ("array", "tuple") else None
    if kind == "tuple" and isinstance(value, tuple):
        value = list(value)
    if expected is float and type(value) is int:
        value = float(value)
    own = _type_of(accepted)
    if type(value) is expected:
        if inner is not None and not _inner_types(value, accepted, inner):
            return f"{name}: expected {kind} of {inner.__name__}, got {value!r}"
        is_variable = own not in (None, expected)
    elif own is not None and type(value) is own:
        is_variable = True
    else:
        return f"{name}: expected {kind}, got {value!r}"
    right = value in accepted if is_variable else _accepted(value, accepted, inner)
    return "" if right else f"{name}: {value!r} is none of {list(accepted)!r}"


def same_spelling(text: str) -> str:
    """A string as strings are compared: small letters, without spaces and `,./-_*^`, single quotes as double ones."""
    return _IGNORED.sub("", text).lower().replace("'", '"')


def _type_of(accepted: Sequence[Any]) -> type | None:
    """The type of the first accepted value; None where there is only the mark `""` of what may be left out."""
    return next((type(one) for one in accepted if one != ""), None)


def _inner_types(value: Any, accepted: Sequence[Any], inner: type) -> bool:
    """Whether all elements have the inner type, or that of the elements of one of the accepted lists."""

    def fits(one: Any, among: Any) -> bool:
        return not isinstance(among, list) or type(one) is inner or type(one) is _type_of(among)

    return any(all(fits(one, among) for one in value) for among in accepted)


def _accepted(value: Any, accepted: Sequence[Any], inner: type | None) -> bool:
    if isinstance(value, dict):
        return any(_same_mapping(value, one) for one in accepted if isinstance(one, dict))
    if isinstance(value, list) and inner is dict:
        return any(_same_mappings(value, one) for one in accepted)
    if isinstance(value, str):
        return same_spelling(value) in [same_spelling(one) for one in accepted if isinstance(one, str)]
    if isinstance(value, list):
        return _spelt(value) in [_spelt(one) for one in accepted if isinstance(one, list | str)]
    return value in accepted


def _spelt(values: Sequence[Any]) -> list[Any]:
    return [same_spelling(one) if isinstance(one, str) else one for one in values]


def _same_mapping(value: Mapping[Any, Any], accepted: Mapping[Any, Any]) -> bool:
    """Every key is known and its value one of those listed; keys left out are marked with `""`."""
    for key, one in value.items():
        if key not in accepted or (same_spelling(one) if isinstance(one, str) else one) not in _spelt(accepted[key]):
            return False
    return all(key in value or "" in listed for key, listed in accepted.items())


def _same_mappings(values: Sequence[Any], accepted: Any) -> bool:
    """A list of mappings, one after the other; `""` (nothing given) is an empty one."""
    if not isinstance(accepted, list | str) or len(values) != len(accepted):
        return False
    pairs = zip(values, accepted, strict=True)
    return all(isinstance(one, dict) and isinstance(right, dict) and _same_mapping(one, right) for one, right in pairs)
