"""Extraction and equality of final answers, against the official scorers."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhenlong.verify.answer_text import strip_reasoning
from zhenlong.verify.final_answer import (
    GSM8K_ANSWER_PATTERN,
    NUMBER_PATTERN,
    between_dollars,
    extract_choice_letter,
    gsm8k_answer,
    gsm8k_flexible_extract,
    gsm8k_strict_match,
    last_boxed,
    parse_integer,
    random_choice_letter,
)
from zhenlong.verify.hendrycks_math import math_equivalent, normalize_math

PIECES = (
    r"\frac|\dfrac|\sqrt|1|2|{|}|{3}|x|=|k|/| .|{.|.|0.5|\text{ cm}|\text{ |\left(|\right)|\%|^\circ|^{\circ}|\$| "
    r"|\!|12|-|3/4|\\|a|\tfrac12|\sqrt{2}|,|\pi"
)
PARTS = [*PIECES.split("|"), "\n"]


@pytest.mark.parametrize(
    ("text", "exact", "strict", "flexible"),
    [
        ("5 + 6 = 11\n#### 1,234", "1234", "1234", "1234"),
        ("#### 7\n#### 8", "7", "7", "8"),
        ("#### 18. So 20", "18.", "18", "20"),
        ("It costs $18.", None, "", "18"),
        ("the answer is -3", None, "", "-3"),
        ("####42", None, "", "42"),
        ("no number", None, "", ""),
    ],
)
def test_the_three_extraction_rules_of_gsm8k(text, exact, strict, flexible):
    assert (gsm8k_answer(text), gsm8k_strict_match(text), gsm8k_flexible_extract(text)) == (exact, strict, flexible)


@pytest.mark.peers("lm_eval")
@given(st.text("#$-.,0123 x\n", max_size=30))
def test_gsm8k_extraction_equals_lm_evaluation_harness_filters(text):
    from lm_eval.api import metrics
    from lm_eval.filters import extraction

    ignored = [",", "\\$", "(?s).*#### ", "\\.$"]
    for pattern, place, mine in (
        (GSM8K_ANSWER_PATTERN, 0, gsm8k_strict_match(text)),
        (NUMBER_PATTERN, -1, gsm8k_flexible_extract(text)),
    ):
        found = extraction.RegexFilter(pattern.pattern, place).apply([[text]], [{}])
        said = next(iter(found))[0]
        for gold in ("1", "12", "0.3", "-1", "30"):
            theirs = metrics.exact_match_hf_evaluate([said], [f"so\n#### {gold}"], ignored, ignore_case=True)
            assert (mine == gold) == bool(theirs["exact_match"]), said


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{1} then $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (r"so \boxed 7$ it is", "7"),
        (r"\fbox{3}", "3"),
        (r"\boxed {4}", "4"),
        (r"\boxed{2} and \boxed{3", None),
        (r"\boxed", None),
        ("none", None),
    ],
)
def test_the_last_box(text, answer):
    assert last_boxed(text) == answer


def test_between_the_first_and_the_last_dollar():
    assert between_dollars("so $x$ is $2$.") == "x$ is $2"
    assert between_dollars("costs $5") == "costs $5"


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (r"\frac12", r"\dfrac{1}{2}"),
        ("0.5", r"\frac{1}{2}"),
        ("1/2", r"\tfrac{1}{2}"),
        (r"\sqrt3", r"\sqrt{3}"),
        ("k = 3", "3"),
        (r"10\text{ cm}", "10"),
        (r"90^\circ", "90"),
        (r"\left( 1, 2 \right)", "(1,2)"),
        (r"\$5", "5"),
        (r"50\%", "50"),
        (".5x", "0.5x"),
    ],
)
def test_equal_answers_with_different_spelling(left, right):
    assert math_equivalent(left, right)
    assert math_equivalent(right, left)


@pytest.mark.parametrize(("left", "right"), [("x+1", "1+x"), ("3", "3.0"), ("2/4", "1/2"), (None, None), (None, "3")])
def test_answers_that_the_normaliser_does_not_equate(left, right):
    assert not math_equivalent(left, right)


def test_an_answer_that_cannot_be_normalised_equals_only_itself():
    assert math_equivalent(r"\sqrt", r"\sqrt")
    assert not math_equivalent(r"\sqrt", r"\sqrt ")


@pytest.mark.peers("lm_eval")
def test_the_normaliser_equals_the_official_one():
    """lm-evaluation-harness's copy gives up where `int` fails on one side of a slash; the original does not."""
    from lm_eval.tasks.hendrycks_math import utils as official

    draw = random.Random(0)
    compared = 0
    for _ in range(8_000):
        text = "".join(draw.choice(PARTS) for _ in range(draw.randint(1, 6)))
        try:
            theirs = official.strip_string(text)
        except ValueError:
            continue
        except (AssertionError, IndexError):
            with pytest.raises(ValueError):  # noqa: PT011
                normalize_math(text)
            continue
        assert normalize_math(text) == theirs, text
        compared += 1
    assert compared > 4_000


@given(st.text(r"\fracsqrt{}12/.= ", max_size=20))
def test_every_answer_equals_itself(text):
    assert math_equivalent(text, text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("073", 73),
        (r"\text{204}", 204),
        (r"1{,}024", 1024),
        ("$ 5. $", 5),
        (r"45^\circ", 45),
        ("-3", -3),
        ("2.5", None),
        ("x=3", None),
        ("", None),
        (None, None),
    ],
)
def test_whole_numbers(text, value):
    assert parse_integer(text) == value


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Thus the answer is (C). Answer: D", "C"),
        ("the answer is B and the answer is A", "B"),
        ("so\nAnswer: E\nmore F", "E"),
        ("I take option G, not H", "H"),
        ("answer is a", None),
        ("Nothing here", None),
        ("the answer is (J", "J"),
    ],
)
def test_mmlu_pros_chain(text, letter):
    assert extract_choice_letter(text, "mmlu_pro") == letter


@given(st.text("ABJK answeris:()\nx", max_size=60))
def test_mmlu_pros_chain_equals_the_official_one(text):
    first = re.search(r"answer is \(?([A-J])\)?", text) or re.search(r".*[aA]nswer:\s*([A-J])", text)
    last = re.search(r"\b[A-J]\b(?!.*\b[A-J]\b)", text, re.DOTALL)
    official = first[1] if first else last[0] if last else None
    assert extract_choice_letter(text, "mmlu_pro") == official


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Answer: A would be wrong.\nAnswer: C", "C"),
        ("**Answer: B**", "B"),
        ("**Answer:** $D$", "D"),
        (r"Answer: \boxed{A}", "A"),
        (r"Answer: $\text{C}$", "C"),
        ("The correct answer is (B).", "B"),
        ("It must be (A), or rather (D)", "D"),
        ("Answer: a lot", None),
        ("Answer: Carbon", None),
        ("I choose B", None),
    ],
)
def test_gpqas_chain(text, letter):
    assert extract_choice_letter(text, "gpqa") == letter


def test_extraction_from_long_text_without_a_letter_is_linear():
    """A quadratic search would take minutes here."""
    text = "answer " * 100_000
    assert extract_choice_letter(text, "gpqa") is None
    assert extract_choice_letter(text, "mmlu_pro") is None


def test_a_guess_depends_only_on_the_question_and_uses_every_letter():
    assert random_choice_letter("17", 10) == random_choice_letter("17", 10)
    assert {random_choice_letter(str(number), 3) for number in range(100)} == set("ABC")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("plain", "plain"),
        ("<think>a</think>\n\nb", "b"),
        ("a</think>b", "b"),
        ("<think>x</think>y<think>z</think>w", "w"),
        ("<think>never done", ""),
        ("said <think>more", ""),
    ],
)
def test_a_reasoning_trace_is_removed(text, answer):
    assert strip_reasoning(text) == answer
