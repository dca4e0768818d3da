"""A reward written in one line, such as `0.7*model:runs/rm + 0.3*verifier` or `gate(verifier, model:runs/rm, -5)`.

    sum  = term { "+" term }
    term = [ number "*" ] part
    part = "gate" "(" sum "," sum [ "," number ] ")"  |  "(" sum ")"  |  name
    name = verifier | truncated | model:PATH | regex:PATTERN | python:MODULE.FUNCTION | FILE.py:FUNCTION

Spaces and any of + * ( ) , belong to a name only between double quotes: regex:"(yes|no), sir".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NoReturn

from zhenlong.errors import UserError

NAMES: Final = "verifier, truncated, model:PATH, regex:PATTERN, python:MODULE.FUNCTION, FILE.py:FUNCTION"
KNOWN: Final = re.compile(r"verifier|truncated|model:.+|regex:.+|python:[\w.]+\.\w+|.+\.py:\w+", re.DOTALL)
TOKEN: Final = re.compile(r'\s*([+*(),]|(?:[^\s+*(),"]|"[^"]*")+)')
NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True)
class Name:
    """A single reward."""

    text: str


@dataclass(frozen=True)
class Sum:
    """Weights, and what they weigh."""

    terms: tuple[tuple[float, Part], ...]


@dataclass(frozen=True)
class Gate:
    """`reward` where `gate` passes, `floor` elsewhere."""

    gate: Part
    reward: Part
    floor: float


Part = Name | Sum | Gate


def parse(text: str) -> Part:
    """The structure of a reward's text. Raises UserError with the place where it stops making sense."""
    parser = _Parser(text)
    whole = parser.sum()
    if parser.here is not None:
        parser.fail("expected + or the end")
    return whole


class _Parser:
    """Reads a text from left to right; `here` is the token it stands at, None at the end."""

    def __init__(self, text: str) -> None:
        self.text, self.start, self.end = text, 0, 0
        self.here: str | None = None
        self._step()

    def sum(self) -> Part:
        terms = [self.term()]
        while self.here == "+":
            self._step()
            terms.append(self.term())
        return terms[0][1] if len(terms) == 1 and terms[0][0] == 1.0 else Sum(tuple(terms))

    def term(self) -> tuple[float, Part]:
        if self.here is None or not NUMBER.fullmatch(self.here):
            return 1.0, self.part()
        weight = self.number()
        self.take("*")
        return weight, self.part()

    def part(self) -> Part:
        name = self.here
        if name == "(":
            self._step()
            inner = self.sum()
            self.take(")")
            return inner
        if name == "gate":
            return self.gate()
        plain = (name or "").replace('"', "")
        if not KNOWN.fullmatch(plain):
            self.fail(f"expected one of {NAMES}, gate(...) or a bracket")
        self._step()
        return Name(plain)

    def gate(self) -> Gate:
        self._step()
        self.take("(")
        gate = self.sum()
        self.take(",")
        reward, floor = self.sum(), 0.0
        if self.here == ",":
            self._step()
            floor = self.number()
        self.take(")")
        return Gate(gate, reward, floor)

    def number(self) -> float:
        if self.here is None or not NUMBER.fullmatch(self.here):
            self.fail("expected a number")
        value = float(self.here)
        self._step()
        return value

    def take(self, mark: str) -> None:
        if self.here != mark:
            self.fail(f"expected {mark!r}")
        self._step()

    def fail(self, expected: str) -> NoReturn:
        found = "the end" if self.here is None else repr(self.here)
        raise UserError(f"reward {self.text!r}: {expected}, got {found} at character {self.start + 1}")

    def _step(self) -> None:
        match = TOKEN.match(self.text, self.end)
        rest = self.text[self.end :]
        at = match.end(1) if match else self.end + len(rest) - len(rest.lstrip())
        if self.text[at : at + 1] == '"' and not (match and match[1] in "+*(),"):
            self.start, self.here = at, self.text[at:]  # a closed one would have been read as part of the name
            self.fail("a double quote is never closed; expected another one")
        self.start, self.end, self.here = (match.start(1), match.end(1), match[1]) if match else (at, at, None)
