"""Options that several commands share: declared once, as the fields of a frozen dataclass, and taken by one call.

    def dpo(*, model: str, beta: float = 0.1, **options: Unpack[PreferenceKwargs]) -> Path:
        data_options, training = take_options(options, DataOptions(), TrainingOptions(lr=1e-6))

The line under a field is its help. The command line reads that call in the source (`zhenlong.options.signature`), so
every field is an option of the command, with the defaults given there; `zhenlong.options.keywords` has the same names
for type checkers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field, fields, replace
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, ClassVar, Final, Literal, Union, get_args, get_origin, get_type_hints

from typing_extensions import TypeVarTuple, Unpack

from zhenlong.errors import UserError

OptionClasses = TypeVarTuple("OptionClasses")
DESCRIBED: Final = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


class Options:
    """What a class of options is: it checks the types of its fields, then what `validate` says."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            if name in self.__dataclass_fields__:
                object.__setattr__(self, name, _coerce(name, getattr(self, name), kind))
        self.validate()

    def validate(self) -> None:
        """Raise `UserError` for a value that is out of range."""

    def as_dict(self) -> dict[str, Any]:
        """Every option and its value, in the order of the fields."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def take_options(given: Mapping[str, object], *defaults: Unpack[OptionClasses]) -> tuple[Unpack[OptionClasses]]:
    """The same classes with the values given; the instances hold the command's own defaults.

    Raises `UserError` for a name that is in none of them, with the names nearest to it.
    """
    classes: Sequence[Any] = defaults
    known = [field.name for one in classes for field in fields(one)]
    for name in given:
        if name not in known:
            raise UserError(unknown_option(name, known))
    taken = (replace(one, **{name: given[name] for name in _names(one) if name in given}) for one in classes)
    return tuple(taken)


def unknown_option(name: str, known: Sequence[str]) -> str:
    """One line about a name that is no option, with the known ones nearest to it."""
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    return f"{name}: no such option" + (
        f"; the nearest {'are' if near[1:] else 'is'} {', '.join(near)}" if near else ""
    )


def require_option(name: str, value: Any, expected: str, is_valid: bool) -> None:
    """Raise `UserError` naming the option, unless its value is valid."""
    if not is_valid:
        raise UserError(f"{name}: expected {expected}, got {value!r}")


def _names(options: Any) -> list[str]:
    return [field.name for field in fields(options)]


def _coerce(name: str, value: Any, kind: Any) -> Any:
    """The value as the field's type: whole numbers pass as floats, lists as tuples, nothing else is converted."""
    if get_origin(kind) in (Union, UnionType):
        inner = [one for one in get_args(kind) if one is not NoneType]
        return value if value is None or inner[1:] else _coerce(name, value, inner[0])  # several: `validate` reads it
    if get_origin(kind) is Literal:
        require_option(name, value, "one of " + ", ".join(map(str, get_args(kind))), value in get_args(kind))
        return value
    if kind == Sequence[str]:
        words = (value,) if isinstance(value, str) else value
        is_list = isinstance(words, Sequence) and all(isinstance(one, str) for one in words)
        require_option(name, value, "a list of words", is_list)
        return tuple(words)
    if kind is float:
        require_option(name, value, DESCRIBED[float], isinstance(value, int | float) and not isinstance(value, bool))
        return float(value)
    if kind in DESCRIBED:
        require_option(name, value, DESCRIBED[kind], type(value) is kind)
    return value
