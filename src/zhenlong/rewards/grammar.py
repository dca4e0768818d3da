"""A reward written in one line, such as `0.7*model:runs/rm + 0.3*verifier` or `gate(verifier, model:runs/rm, -5)`.

    sum      = term { "+" term }
    term     = factor { "*" factor }, of which at least one is a primary
    factor   = number | primary
    primary  = function "(" sum { "," sum } { "," number } ")"  |  "(" sum ")"  |  name
    function = gate | mean | min | mean_minus_std | safety_gate | whiten | overlong_penalty
    name     = verifier | truncated | is_refusal | toxicity | model:PATH | ... (see NAMES_USAGE)

Spaces and any of + * ( ) , are part of a name only within double quotes: regex:"(yes|no), sir".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NoReturn

from zhenlong.errors import UserError

NAMES_USAGE: Final = (
    "verifier, truncated, is_refusal, toxicity, model:PATH, classifier:PATH:LABEL, classifier_probability:PATH:LABEL, "
    "regex:PATTERN, language:CODE, group:KEY=VALUE, correct_refusal:KEY=VALUE, judge:MODEL, "
    "pairwise_judge:MODEL, python:MODULE.FUNCTION, FILE.py:FUNCTION"
)
NAME_PATTERN: Final = re.compile(
    r"verifier|truncated|is_refusal|toxicity|(?:model|regex|language|judge|pairwise_judge):.+|"
    r"(?:classifier|classifier_probability):.+:.+|(?:group|correct_refusal):[^=]+=.*|python:[\w.]+\.\w+|.+\.py:\w+",
    re.DOTALL,
)
TOKEN_PATTERN: Final = re.compile(r'\s*([+*(),]|(?:[^\s+*(),"]|"[^"]*")+)')
REWARD_NUMBER_PATTERN: Final = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True)
class FunctionSignature:
    """A function's arguments: a minimum and maximum number of rewards (None: any number), then numbers.

    `defaults` are the values of the last numbers if they are omitted.
    """

    usage: str
    min_rewards: int
    max_rewards: int | None
    num_numbers: int = 0
    defaults: tuple[float, ...] = ()


FUNCTIONS: Final[dict[str, FunctionSignature]] = {
    "gate": FunctionSignature("gate(condition, reward[, floor])", 2, 2, 1, (0.0,)),
    "mean": FunctionSignature("mean(reward, reward, ...)", 2, None),
    "min": FunctionSignature("min(reward, reward, ...)", 2, None),
    "mean_minus_std": FunctionSignature("mean_minus_std(reward, reward, ...[, k])", 2, None, 1, (1.0,)),
    "safety_gate": FunctionSignature("safety_gate(helpful, safe[, unsafe_prompt][, threshold])", 2, 3, 1, (0.15,)),
    "whiten": FunctionSignature("whiten(reward)", 1, 1),
    "overlong_penalty": FunctionSignature("overlong_penalty(max_tokens, cache)", 0, 0, 2),
}


@dataclass(frozen=True)
class RewardName:
    """A single reward."""

    text: str


@dataclass(frozen=True)
class WeightedSum:
    """A sum of weighted expressions."""

    terms: tuple[tuple[float, Expression], ...]


@dataclass(frozen=True)
class Product:
    """A product of expressions."""

    factors: tuple[Expression, ...]


@dataclass(frozen=True)
class FunctionCall:
    """A function of rewards and numbers, such as `min(model:a, model:b)` or `overlong_penalty(4096, 512)`."""

    function: str
    arguments: tuple[Expression, ...]
    numbers: tuple[float, ...] = ()


Expression = RewardName | WeightedSum | Product | FunctionCall


def parse_reward(text: str) -> Expression:
    """The syntax tree of a reward's text. Raises UserError with the position of a syntax error."""
    parser = _Parser(text)
    expression = parser.sum()
    if parser.token is not None:
        parser.fail("expected + or the end")
    return expression


class _Parser:
    """A recursive-descent parser; `token` is the current token, None at the end."""

    def __init__(self, text: str) -> None:
        self.text, self.start, self.end = text, 0, 0
        self.token: str | None = None
        self._advance()

    def sum(self) -> Expression:
        terms = [self.term()]
        while self.token == "+":
            self._advance()
            terms.append(self.term())
        return terms[0][1] if len(terms) == 1 and terms[0][0] == 1.0 else WeightedSum(tuple(terms))

    def term(self) -> tuple[float, Expression]:
        weight = 1.0
        factors: list[Expression] = []
        while True:
            if self.token is not None and REWARD_NUMBER_PATTERN.fullmatch(self.token):
                weight *= self.number()
                if self.token != "*" and not factors:
                    self.fail("expected '*'")
            else:
                factors.append(self.primary())
            if self.token != "*":
                return weight, factors[0] if len(factors) == 1 else Product(tuple(factors))
            self._advance()

    def primary(self) -> Expression:
        name = self.token
        if name == "(":
            self._advance()
            inner = self.sum()
            self.expect(")")
            return inner
        if name is not None and name in FUNCTIONS:
            return self.call(name)
        unquoted = (name or "").replace('"', "")
        if not NAME_PATTERN.fullmatch(unquoted):
            self.fail(f"expected one of {NAMES_USAGE}, {'(...), '.join(FUNCTIONS)}(...) or a bracket")
        self._advance()
        return RewardName(unquoted)

    def call(self, function: str) -> FunctionCall:
        signature = FUNCTIONS[function]
        arguments: list[Expression] = []
        numbers: list[float] = []
        self._advance()
        self.expect("(")
        while True:
            number = self.number_argument()
            if number is not None:
                numbers.append(number)
            elif numbers or len(arguments) == signature.max_rewards:
                self.fail(f"expected a number, as in {signature.usage}")
            else:
                arguments.append(self.sum())
            if self.token != ",":
                break
            self._advance()
        num_missing = signature.num_numbers - len(numbers)
        if self.token == ")" and (
            len(arguments) < signature.min_rewards or not 0 <= num_missing <= len(signature.defaults)
        ):
            self.fail(f"expected {signature.usage}")
        self.expect(")")
        return FunctionCall(
            function, tuple(arguments), (*numbers, *signature.defaults[len(signature.defaults) - num_missing :])
        )

    def number_argument(self) -> float | None:
        """A number that is a whole argument; None, with nothing consumed, if it is the weight of a reward."""
        position = self.start, self.end, self.token
        if self.token is None or not REWARD_NUMBER_PATTERN.fullmatch(self.token):
            return None
        value = self.number()
        if self.token in (",", ")"):
            return value
        self.start, self.end, self.token = position
        return None

    def number(self) -> float:
        if self.token is None or not REWARD_NUMBER_PATTERN.fullmatch(self.token):
            self.fail("expected a number")
        value = float(self.token)
        self._advance()
        return value

    def expect(self, symbol: str) -> None:
        if self.token != symbol:
            self.fail(f"expected {symbol!r}")
        self._advance()

    def fail(self, expected: str) -> NoReturn:
        found = "the end" if self.token is None else repr(self.token)
        raise UserError(f"reward {self.text!r}: {expected}, got {found} at character {self.start + 1}")

    def _advance(self) -> None:
        match = TOKEN_PATTERN.match(self.text, self.end)
        rest = self.text[self.end :]
        at = match.end(1) if match else self.end + len(rest) - len(rest.lstrip())
        if self.text[at : at + 1] == '"' and not (match and match[1] in "+*(),"):
            self.start, self.token = at, self.text[at:]  # a closed quote would be part of the name
            self.fail("a double quote is never closed; expected a closing one")
        self.start, self.end, self.token = (match.start(1), match.end(1), match[1]) if match else (at, at, None)
