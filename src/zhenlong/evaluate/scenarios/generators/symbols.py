"""Abstract synthetic reasoning: rules over the symbols X, Y, Z, substitutions, and their results.

After LIME (Wu et al. 2021, arXiv:2101.06223) and HELM's generator
(stanford-crfm/helm:src/helm/benchmark/scenarios/synthetic_reasoning_scenario.py), with two of its ambiguities removed:
exactly one of the rules can produce the result, and a rule to induce names its symbols in order of appearance (HELM
samples the names, which the results do not determine).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.evaluate.scenarios.instances import generator

SYMBOLS: Final = ("X", "Y", "Z")
SIGNS: Final = ("+", "-", "*", "=")
ANIMALS: Final = ("otter", "heron", "badger", "falcon", "beetle", "salmon", "walrus", "pigeon", "lizard", "camel")
FRUITS: Final = ("apple", "plum", "cherry", "lemon", "mango", "fig", "quince", "melon", "apricot", "walnut")
WORDS: Final = ANIMALS + FRUITS
REASONING_MODES: Final = ("pattern_match", "variable_substitution", "induction")
WRONG_RULES: Final = 3


@generator("synthetic_reasoning")
def synthetic_reasoning(n: int, seed: int, *, mode: str, split: str = "test") -> Iterator[Mapping[str, Any]]:
    """{source, target} of one mode: pattern matching, variable substitution, or rule induction."""
    if mode not in REASONING_MODES:
        raise UserError(f"generated:synthetic_reasoning: mode={mode}: expected one of {', '.join(REASONING_MODES)}")
    rng = Random(f"synthetic_reasoning/{seed}/{mode}/{split}")
    made = 0
    while made < n:
        row = _MAKERS[mode](rng, _rule(rng))
        if row is not None:
            made += 1
            yield {"source": row[0], "target": row[1], "mode": mode}


def apply_rule(rule: Sequence[str], values: Mapping[str, str]) -> str:
    """The rule with its symbols replaced."""
    return " ".join(values.get(part, part) for part in rule)


def can_produce(rule: Sequence[str], result: str) -> bool:
    """Whether some substitution of one or two words for each symbol turns the rule into the result."""
    pattern, seen = [], set()
    for part in rule:
        if part not in SYMBOLS:
            pattern.append(re.escape(part))
        elif part in seen:
            pattern.append(f"(?P={part})")
        else:
            seen.add(part)
            pattern.append(rf"(?P<{part}>[a-z]+(?: [a-z]+)?)")
    return re.fullmatch(" ".join(pattern), result) is not None


def canonical_symbols(rule: Sequence[str]) -> list[str]:
    """The same rule with its symbols named X, Y, Z in order of appearance."""
    order = list(dict.fromkeys(part for part in rule if part in SYMBOLS))
    return [SYMBOLS[order.index(part)] if part in order else part for part in rule]


def _pattern_match(rng: Random, rule: list[str]) -> tuple[str, str] | None:
    result = apply_rule(rule, _values(rng, rule))
    signs = [part for part in rule if part in SIGNS]
    distinct = sorted({part for part in rule if part in SYMBOLS})
    rules = [" ".join(rule)]
    for _ in range(20 * WRONG_RULES):
        other = [*signs, *distinct]
        rng.shuffle(other)
        if " ".join(other) not in rules and not can_produce(other, result):
            rules.append(" ".join(other))
        if len(rules) > WRONG_RULES:
            break
    else:
        return None
    rng.shuffle(rules)
    return f"Rules: {' | '.join(rules)} | Result: {result}", " ".join(rule)


def _variable_substitution(rng: Random, rule: list[str]) -> tuple[str, str]:
    values = _values(rng, rule)
    told = " , ".join(f'{symbol} by " {value} "' for symbol, value in values.items())
    return f"Rules: {' '.join(rule)} | Substitutions: {told}", apply_rule(rule, values)


def _induction(rng: Random, rule: list[str]) -> tuple[str, str] | None:
    rule = canonical_symbols(rule)
    first, second = _values(rng, rule), _values(rng, rule)
    told = [*first.values(), *second.values()]
    if len(set(told)) < len(told):  # a value common to both results would look like a part of the rule
        return None
    return f"Two results: {apply_rule(rule, first)} | {apply_rule(rule, second)}", f"Rule: {' '.join(rule)}"


def _rule(rng: Random) -> list[str]:
    """Two or three symbols and two or three signs, each sampled with replacement, in random order."""
    rule = rng.choices(SYMBOLS, k=rng.randint(2, 3)) + rng.choices(SIGNS, k=rng.randint(2, 3))
    rng.shuffle(rule)
    return rule


def _values(rng: Random, rule: Sequence[str]) -> dict[str, str]:
    """One or two words for each symbol of the rule."""
    used = sorted({part for part in rule if part in SYMBOLS})
    return {symbol: " ".join(rng.choices(WORDS, k=rng.randint(1, 2))) for symbol in used}


_MAKERS: Final = {
    "pattern_match": _pattern_match,
    "variable_substitution": _variable_substitution,
    "induction": _induction,
}
