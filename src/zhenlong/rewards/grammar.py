"""A reward written in one line, such as `0.7*model:runs/rm + 0.3*verifier` or `gate(verifier, model:runs/rm, -5)`.

    sum      = term { "+" term }
    term     = factor { "*" factor }, of which at least one is a part
    factor   = number | part
    part     = function "(" sum { "," sum } { "," number } ")"  |  "(" sum ")"  |  name
    function = gate | mean | min | mean_minus_std | llama2 | whiten | overlong
    name     = verifier | truncated | refuses | model:PATH | ... (see NAMES)

Spaces and any of + * ( ) , belong to a name only between double quotes: regex:"(yes|no), sir".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NoReturn

from zhenlong.errors import UserError

NAMES: Final = (
    "verifier, truncated, refuses, model:PATH, classifier:PATH:LABEL, probability:PATH:LABEL, regex:PATTERN, "
    "language:CODE, group:KEY=VALUE, refusal:KEY=VALUE, judge:MODEL, judge_pair:MODEL, python:MODULE.FUNCTION, "
    "FILE.py:FUNCTION"
)
KNOWN: Final = re.compile(
    r"verifier|truncated|refuses|(?:model|regex|language|judge|judge_pair):.+|(?:classifier|probability):.+:.+|"
    r"(?:group|refusal):[^=]+=.*|python:[\w.]+\.\w+|.+\.py:\w+",
    re.DOTALL,
)
TOKEN: Final = re.compile(r'\s*([+*(),]|(?:[^\s+*(),"]|"[^"]*")+)')
NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True)
class Form:
    """What stands in a function's brackets: at least and at most so many rewards (None: any number), then numbers.

    The last numbers have the values of `defaults` where they are left out.
    """

    usage: str
    least: int
    most: int | None
    numbers: int = 0
    defaults: tuple[float, ...] = ()


FUNCTIONS: Final[dict[str, Form]] = {
    "gate": Form("gate(condition, reward[, floor])", 2, 2, 1, (0.0,)),
    "mean": Form("mean(reward, reward, ...)", 2, None),
    "min": Form("min(reward, reward, ...)", 2, None),
    "mean_minus_std": Form("mean_minus_std(reward, reward, ...[, k])", 2, None, 1, (1.0,)),
    "llama2": Form("llama2(helpful, safe[, unsafe prompt][, threshold])", 2, 3, 1, (0.15,)),
    "whiten": Form("whiten(reward)", 1, 1),
    "overlong": Form("overlong(longest, cache)", 0, 0, 2),
}


@dataclass(frozen=True)
class Name:
    """A single reward."""

    text: str


@dataclass(frozen=True)
class Sum:
    """Weights, and what they weigh."""

    terms: tuple[tuple[float, Part], ...]


@dataclass(frozen=True)
class Product:
    """What is multiplied."""

    factors: tuple[Part, ...]


@dataclass(frozen=True)
class Call:
    """A function of rewards and numbers, such as `min(model:a, model:b)` or `overlong(4096, 512)`."""

    function: str
    parts: tuple[Part, ...]
    numbers: tuple[float, ...] = ()


Part = Name | Sum | Product | Call


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
        weight = 1.0
        factors: list[Part] = []
        while True:
            if self.here is not None and NUMBER.fullmatch(self.here):
                weight *= self.number()
                if self.here != "*" and not factors:
                    self.fail("expected '*'")
            else:
                factors.append(self.part())
            if self.here != "*":
                return weight, factors[0] if len(factors) == 1 else Product(tuple(factors))
            self._step()

    def part(self) -> Part:
        name = self.here
        if name == "(":
            self._step()
            inner = self.sum()
            self.take(")")
            return inner
        if name is not None and name in FUNCTIONS:
            return self.call(name)
        plain = (name or "").replace('"', "")
        if not KNOWN.fullmatch(plain):
            self.fail(f"expected one of {NAMES}, {'(...), '.join(FUNCTIONS)}(...) or a bracket")
        self._step()
        return Name(plain)

    def call(self, function: str) -> Call:
        form = FUNCTIONS[function]
        parts: list[Part] = []
        numbers: list[float] = []
        self._step()
        self.take("(")
        while True:
            number = self.plain_number()
            if number is not None:
                numbers.append(number)
            elif numbers or len(parts) == form.most:
                self.fail(f"expected a number, as in {form.usage}")
            else:
                parts.append(self.sum())
            if self.here != ",":
                break
            self._step()
        left = form.numbers - len(numbers)
        if self.here == ")" and (len(parts) < form.least or not 0 <= left <= len(form.defaults)):
            self.fail(f"expected {form.usage}")
        self.take(")")
        return Call(function, tuple(parts), (*numbers, *form.defaults[len(form.defaults) - left :]))

    def plain_number(self) -> float | None:
        """A number that ends an argument; None, with nothing read, where it is the weight of a reward."""
        place = self.start, self.end, self.here
        if self.here is None or not NUMBER.fullmatch(self.here):
            return None
        value = self.number()
        if self.here in (",", ")"):
            return value
        self.start, self.end, self.here = place
        return None

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
