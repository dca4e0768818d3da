"""BFCL's rules for arguments of tool calls: types and equality with the accepted values.

ShishirPatil/gorilla: berkeley-function-call-leaderboard/bfcl_eval/eval_checker/ast_eval/ast_checker.py. Each function
returns a description of the error, or an empty text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

PYTHON_TYPES: Final[dict[str, type]] = {
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
_IGNORED_PATTERN: Final = re.compile(r"[ ,./\-_*^]")


def argument_error(name: str, value: Any, accepted: Sequence[Any], schema: Mapping[str, Any]) -> str:
    """Why a value is not among the accepted ones, by the parameter's schema; empty if it is.

    An integer is accepted for a float, a tuple for a parameter of type tuple. A value with the type of the accepted
    values passes even if the schema has another type: BFCL writes variables as strings, which are compared literally.
    """
    json_type = schema.get("type", "any")
    expected_type = PYTHON_TYPES.get(json_type, str)
    item_type = (
        PYTHON_TYPES.get((schema.get("items") or {}).get("type", "")) if json_type in ("array", "tuple") else None
    )
    if json_type == "tuple" and isinstance(value, tuple):
        value = list(value)
    if expected_type is float and type(value) is int:
        value = _as_float(value)
    accepted_type = _type_of(accepted)
    if type(value) is expected_type:
        if item_type is not None and not _items_have_type(value, accepted, item_type):
            return f"{name}: expected {json_type} of {item_type.__name__}, got {value!r:.200}"
        is_variable = accepted_type not in (None, expected_type)
    elif accepted_type is not None and type(value) is accepted_type:
        is_variable = True
    else:
        return f"{name}: expected {json_type}, got {value!r:.200}"
    matches = value in accepted if is_variable else _is_accepted(value, accepted, item_type)
    return "" if matches else f"{name}: {value!r:.200} is not among {list(accepted)!r:.400}"


def standardize_string(text: str) -> str:
    """The normalised string for comparison: lower case, without spaces and `,./-_*^`, single quotes as double ones."""
    return _IGNORED_PATTERN.sub("", text).lower().replace("'", '"')


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _type_of(accepted: Sequence[Any]) -> type | None:
    """The type of the first accepted value; None if there is only `""`, the mark of an optional parameter."""
    return next((type(one) for one in accepted if one != ""), None)


def _items_have_type(value: Any, accepted: Sequence[Any], item_type: type) -> bool:
    """Whether all elements have the item type, or the type of the elements of one of the accepted lists."""

    def fits(one: Any, among: Any) -> bool:
        return not isinstance(among, list) or type(one) is item_type or type(one) is _type_of(among)

    return any(all(fits(one, among) for one in value) for among in accepted)


def _is_accepted(value: Any, accepted: Sequence[Any], item_type: type | None) -> bool:
    if isinstance(value, dict):
        return any(_same_mapping(value, one) for one in accepted if isinstance(one, dict))
    if isinstance(value, list) and item_type is dict:
        return any(_same_mappings(value, one) for one in accepted)
    if isinstance(value, str):
        return standardize_string(value) in [standardize_string(one) for one in accepted if isinstance(one, str)]
    if isinstance(value, list):
        return _standardize_strings(value) in [
            _standardize_strings(one) for one in accepted if isinstance(one, list | str)
        ]
    return value in accepted


def _standardize_strings(values: Sequence[Any]) -> list[Any]:
    return [standardize_string(one) if isinstance(one, str) else one for one in values]


def _same_mapping(value: Mapping[Any, Any], accepted: Mapping[Any, Any]) -> bool:
    """Whether every key is known and its value accepted; missing keys must be marked as optional with `""`."""
    for key, one in value.items():
        if key not in accepted or (
            standardize_string(one) if isinstance(one, str) else one
        ) not in _standardize_strings(_listed(accepted[key])):
            return False
    return all(key in value or "" in _listed(values) for key, values in accepted.items())


def _listed(accepted: Any) -> Sequence[Any]:
    """The accepted values; some rows have a plain value in place of a list of one."""
    return accepted if isinstance(accepted, list | tuple) else [accepted]


def _same_mappings(values: Sequence[Any], accepted: Any) -> bool:
    """Pairwise equality of two lists of mappings; `""` (nothing given) is an empty list."""
    if not isinstance(accepted, list | str) or len(values) != len(accepted):
        return False
    pairs = zip(values, accepted, strict=True)
    return all(isinstance(one, dict) and isinstance(right, dict) and _same_mapping(one, right) for one, right in pairs)
