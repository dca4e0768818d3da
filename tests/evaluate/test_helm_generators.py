"""HELM's synthetic scenarios, each checked by an independent derivation of the answer."""

import itertools
import re
from collections.abc import Mapping
from typing import Any

import pytest

from zhenlong.errors import UserError
from zhenlong.evaluate.scenarios.generators.dyck import closing_brackets, dyck
from zhenlong.evaluate.scenarios.generators.lengths import (
    OUTPUT_TOKENS,
    PROMPT_TOKENS,
    count_words_and_stops,
    lengths,
)
from zhenlong.evaluate.scenarios.generators.math_examples import math_examples
from zhenlong.evaluate.scenarios.generators.rules import ATTRIBUTES, synthetic_reasoning_natural
from zhenlong.evaluate.scenarios.generators.symbols import synthetic_reasoning
from zhenlong.evaluate.scenarios.instances import load_examples, load_instances
from zhenlong.evaluate.scenarios.scenario import get_scenario

CLOSES = {"(": ")", "[": "]", "{": "}", "<": ">"}


@pytest.mark.parametrize(
    ("pairs", "split", "least", "most"), [(3, "test", 52, 100), (4, "train", 4, 50), (1, "test", 52, 100)]
)
def test_a_dyck_answer_closes_its_input(pairs: int, split: str, least: int, most: int) -> None:
    rows = list(dyck(60, 5, pairs=pairs, split=split))
    assert len({row["input"] for row in rows}) == len(rows) == 60
    for row in rows:
        begun, rest = row["input"].split(), row["output"].split()
        assert set(begun) | set(rest) <= set("()[]{}<>"[: 2 * pairs])
        assert _is_word(begun + rest)
        assert 1 <= len(rest) <= 3
        assert all(bracket in CLOSES.values() for bracket in rest)
        assert len(begun) + len(rest) <= most
        assert row["output"].startswith(" ")
    assert {len(row["output"].split()) for row in rows} == {1, 2, 3}
    assert max(len(row["input"].split()) for row in rows) > least - 3


def test_closing_brackets_complete_a_prefix() -> None:
    assert closing_brackets("([{") == "}])"
    assert closing_brackets("()") == ""
    for wrong in ("(]", ")", "(x"):
        with pytest.raises(ValueError, match=r"closes nothing|is no bracket"):
            closing_brackets(wrong)


def test_exactly_one_rule_of_four_produces_the_result() -> None:
    for row in synthetic_reasoning(150, 1, mode="pattern_match"):
        told, result = row["source"].removeprefix("Rules: ").split(" | Result: ")
        rules = told.split(" | ")
        assert len(set(rules)) == 4
        assert [rule for rule in rules if _some_substitution(rule, result)] == [row["target"]]


def test_a_substitution_gives_the_target() -> None:
    for row in synthetic_reasoning(150, 2, mode="variable_substitution"):
        rule, told = row["source"].removeprefix("Rules: ").split(" | Substitutions: ")
        values = dict(re.findall(r'([XYZ]) by " ([a-z ]+) "', told))
        assert set(values) == set(rule.split()) & set("XYZ")
        assert " ".join(values.get(part, part) for part in rule.split()) == row["target"]


def test_an_induced_rule_produces_both_results_with_symbols_in_order_of_appearance() -> None:
    for row in synthetic_reasoning(150, 3, mode="induction"):
        first, second = row["source"].removeprefix("Two results: ").split(" | ")
        rule = row["target"].removeprefix("Rule: ")
        assert _some_substitution(rule, first)
        assert _some_substitution(rule, second)
        symbols = list(dict.fromkeys(part for part in rule.split() if part in "XYZ"))
        assert symbols == list("XYZ")[: len(symbols)]
        assert first != second


@pytest.mark.parametrize("difficulty", ["easy", "medium", "hard"])
def test_the_target_is_what_follows_from_the_rules(difficulty: str) -> None:
    rows = list(synthetic_reasoning_natural(150, 4, difficulty=difficulty))
    for row in rows:
        assert _read_and_derived(row["question"]) == _attributes(row["target"])
    kinds = [re.search(r"^If (\S+ )?(person|animal|plant) is", row["question"], re.MULTILINE) for row in rows]
    assert any(kinds) == (difficulty != "easy")
    narrow = {word for words in ATTRIBUTES.values() for word in words} - set(ATTRIBUTES)
    assert any(_facts(row["question"]) & narrow for row in rows) == (difficulty == "hard")
    assert any(row["target"] == "Nothing." for row in rows)


def test_a_prompt_has_the_stated_length() -> None:
    rows = list(lengths(2, 6))
    assert len(rows) == 2 * len(PROMPT_TOKENS) * len(OUTPUT_TOKENS)
    assert {row["prompt_tokens"] for row in rows} == set(PROMPT_TOKENS)
    assert {row["output_tokens"] for row in rows} == set(OUTPUT_TOKENS)
    for row in rows:
        assert count_words_and_stops(row["prompt"]) == row["prompt_tokens"]
    assert max(row["prompt_tokens"] for row in lengths(1, 6, longest=64)) == 64


def test_math_has_eight_examples() -> None:
    assert [row["answer"] for row in math_examples(8, 0)][:3] == ["1", "15", r"\sqrt{59}"]
    assert len(list(math_examples(8, 0))) == 8


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: dyck(20, seed),
        lambda seed: synthetic_reasoning(20, seed, mode="induction"),
        lambda seed: synthetic_reasoning_natural(20, seed, difficulty="hard"),
        lambda seed: lengths(1, seed, longest=64),
    ],
)
def test_a_seed_fixes_the_rows(make: Any) -> None:
    assert list(make(1)) == list(make(1))
    assert list(make(1)) != list(make(2))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: dyck(1, 0, pairs=5),
        lambda: synthetic_reasoning(1, 0, mode="x"),
        lambda: synthetic_reasoning_natural(1, 0, difficulty="x"),
        lambda: lengths(1, 0, tokenizer="/nowhere/at/all"),
    ],
)
def test_an_unknown_option_is_an_error(wrong: Any) -> None:
    with pytest.raises(UserError, match="expected"):
        next(wrong())


@pytest.mark.parametrize("name", ["dyck_language", "synthetic_reasoning", "synthetic_reasoning_natural"])
def test_no_instance_is_among_the_examples(name: str) -> None:
    one = get_scenario(f"helm_{name}")
    asked = {instance.input for instance in load_instances(one, limit=600)}
    pool = load_examples(one)
    assert len(pool) >= one.adapter.shots
    assert not asked & {example.input for example in pool}


def test_a_sample_has_its_share_of_each_mode() -> None:
    found = load_instances(get_scenario("helm_synthetic_reasoning"), limit=6)
    assert sorted(one.groups["mode"] for one in found) == sorted(
        ["pattern_match", "variable_substitution", "induction"] * 2
    )


def _is_word(brackets: list[str]) -> bool:
    """By deleting adjacent matching brackets until nothing is left."""
    text = "".join(brackets)
    while (shorter := re.sub(r"\(\)|\[\]|\{\}|<>", "", text)) != text:
        text = shorter
    return not text


def _some_substitution(rule: str, result: str) -> bool:
    """By trying every way to divide the result's words among the rule's parts."""
    parts, words = rule.split(), result.split()
    return any(
        _fits(parts, words, dict(zip(sorted(set(parts) & set("XYZ")), sizes, strict=True)))
        for sizes in itertools.product((1, 2), repeat=len(set(parts) & set("XYZ")))
    )


def _fits(parts: list[str], words: list[str], sizes: Mapping[str, int]) -> bool:
    values: dict[str, list[str]] = {}
    place = 0
    for part in parts:
        size = sizes.get(part, 1)
        taken = words[place : place + size]
        place += size
        if part not in sizes:
            if taken != [part]:
                return False
        elif len(taken) < size or not all(word.isalpha() for word in taken) or values.setdefault(part, taken) != taken:
            return False
    return place == len(words)


def _read_and_derived(question: str) -> set[str]:
    """The consequents derived from the text: narrower words imply their class, known facts are no consequents."""
    wide = {narrow: name for name, words in ATTRIBUTES.items() for narrow in words}
    known = {wide[word] for word in _facts(question)}
    found = set()
    for rule in re.findall(r"^If .+? is (.+), then .+? is (\w+)\.$", question, re.MULTILINE):
        conditions, consequent = rule
        words = set(re.split(" and | or ", conditions))
        holds = bool(words & known) if " or " in conditions else words <= known
        if holds and consequent not in known:
            found.add(consequent)
    return found


def _facts(question: str) -> set[str]:
    return _attributes(question.split("Fact:\n")[1].split("\n")[0])


def _attributes(sentence: str) -> set[str]:
    return set() if sentence == "Nothing." else set(sentence.rstrip(".").split(" is ")[1].split(" and "))
