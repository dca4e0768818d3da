"""Serialization of values between an untrusted program and its tests.

`decode` returns values of built-in types only, whatever was sent, so that no class of the program takes part in a
comparison. Any other object becomes an `Opaque`, which equals only itself.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

MAX_DEPTH: Final = 200  # deeper values are opaque; JSON's parser fails at about a thousand
MAX_ITEMS: Final = 100_000  # items taken from an iterator, which may be infinite
_MAX_JSON_INT: Final = 1 << 63
_NUMBER_TYPES: Final = (("decimal", "Decimal"), ("fractions", "Fraction"))


class Opaque:
    """Placeholder for an object that is not serialized, such as an instance of the program's own class."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{self.kind}>"


def dumps(value: Any) -> str:
    """A value as one line of ASCII."""
    return json.dumps(encode(value))


def loads(text: str | bytes) -> Any:
    """The plain value of a line. Raises `ValueError` for a line that `dumps` would not write."""
    try:
        return decode(json.loads(text))
    except (TypeError, KeyError, ValueError, AttributeError, RecursionError, ArithmeticError) as error:
        raise ValueError(f"not a value: {type(error).__name__}") from None


def encode(value: Any, depth: int = 0) -> Any:
    """A value as JSON data. Subclasses become the built-in class; other objects become opaque."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        number = int.__int__(value)
        return number if -_MAX_JSON_INT < number < _MAX_JSON_INT else {"type": "int", "value": hex(number)}
    if isinstance(value, float):
        return float.__float__(value)
    if depth > MAX_DEPTH:
        return _encode_opaque(value)
    if type(value).__module__.partition(".")[0] == "numpy" and getattr(value, "shape", None) == ():
        return encode(value.item(), depth + 1)
    if isinstance(value, list):
        return [encode(item, depth + 1) for item in list.__iter__(value)]
    for name, kind, encoder in _ENCODERS:
        if isinstance(value, kind):
            return {"type": name, "value": encoder(value, depth + 1)}
    for module, kind_name in _NUMBER_TYPES:  # if the module is not loaded, the value is not one of its numbers
        if module in sys.modules and isinstance(value, getattr(sys.modules[module], kind_name)):
            return {"type": "number", "value": [module, str(value)]}
    return _encode_opaque(value)


def decode(data: Any) -> Any:
    """The plain value of JSON data. Its size and the work are in proportion to the data's size."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if isinstance(data, dict):
        return _DECODERS[data["type"]](data["value"])
    return data


def _decode_items(data: Any) -> list[Any]:
    """The items of a container. Only a list: what `encode` sends, and not a range of any length."""
    if not isinstance(data, list):
        raise TypeError("expected a list")
    return [decode(item) for item in data]


def _decode_range(data: Any) -> range:
    start, stop, step = data
    return range(start, stop, step)


def _decode_number(data: Any) -> Any:
    from decimal import Decimal
    from fractions import Fraction

    module, text = data
    if module == "decimal":
        return Decimal(text)
    numerator, _, denominator = text.partition("/")  # Fraction("1e99999999") would have as many digits
    return Fraction(int(numerator), int(denominator or 1))


def _encode_opaque(value: Any) -> dict[str, Any]:
    return {"type": "opaque", "value": type(value).__name__[:80]}


def _encode_items(items: Any, depth: int) -> list[Any]:
    return [encode(item, depth) for item in items]


def _encode_pairs(value: dict[Any, Any], depth: int) -> list[Any]:
    return [[encode(key, depth), encode(item, depth)] for key, item in dict.items(value)]


_ENCODERS: Final[tuple[tuple[str, Any, Callable[[Any, int], Any]], ...]] = (
    ("tuple", tuple, lambda value, depth: _encode_items(tuple.__iter__(value), depth)),
    ("dict", dict, _encode_pairs),
    ("set", set, lambda value, depth: _encode_items(set.__iter__(value), depth)),
    ("frozenset", frozenset, lambda value, depth: _encode_items(frozenset.__iter__(value), depth)),
    ("bytes", bytes, lambda value, depth: bytes.hex(value)),
    ("bytearray", bytearray, lambda value, depth: bytearray.hex(value)),
    ("complex", complex, lambda value, depth: [value.real, value.imag]),
    ("range", range, lambda value, depth: [value.start, value.stop, value.step]),
    ("deque", deque, lambda value, depth: _encode_items(deque.__iter__(value), depth)),
    ("keys", type({}.keys()), _encode_items),
    ("values", type({}.values()), _encode_items),
    ("iterator", Iterator, lambda value, depth: _encode_items(islice(value, MAX_ITEMS), depth)),
)
_DECODERS: Final[dict[str, Callable[[Any], Any]]] = {
    "int": lambda data: int(data, 16),
    "tuple": lambda data: tuple(_decode_items(data)),
    "dict": lambda data: {decode(key): decode(item) for key, item in data},
    "set": lambda data: set(_decode_items(data)),
    "frozenset": lambda data: frozenset(_decode_items(data)),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "complex": lambda data: complex(*data),
    "range": _decode_range,
    "deque": lambda data: deque(_decode_items(data)),
    "keys": lambda data: dict.fromkeys(_decode_items(data)).keys(),
    "values": lambda data: dict(enumerate(_decode_items(data))).values(),
    "number": _decode_number,
    "iterator": lambda data: iter(_decode_items(data)),
    "opaque": lambda data: Opaque(str(data)[:80]),
}
