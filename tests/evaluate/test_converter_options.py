"""What a scenario's `convert` may say: the options of its converter, and how the right choice is named."""

import pytest

from zhenlong.data.files import RawRow
from zhenlong.errors import UserError
from zhenlong.evaluate.scenarios.instances import row_instances
from zhenlong.evaluate.scenarios.scenario import Scenario

CHOICES = {"using": "multiple_choice", "question": "q", "choices": "c", "answer": "a"}
EXAMPLE = {"using": "summary", "article": "x", "summary": "y"}


def instances(options, **fields):
    scenario = Scenario("s", "S", source="r.jsonl", convert=(options,), metrics=("exact_match",), main="exact_match")
    return row_instances(scenario, RawRow("r.jsonl:1", fields), 0)


@pytest.mark.parametrize(("answer", "first", "right"), [("B", 0, 1), ("b", 1, 1), (1, 0, 1), ("1", 1, 0), ("C", 0, 2)])
def test_a_right_choice_is_named_by_index_or_letter(answer, first, right):
    (found,) = instances(CHOICES | {"first": first}, q="Which?", c=["x", "y", "z"], a=answer)
    assert [one.is_correct for one in found.references] == [place == right for place in range(3)]


@pytest.mark.parametrize("answer", ["D", "3", "-1", "é"])
def test_an_answer_that_names_no_choice_is_refused(answer):
    with pytest.raises(UserError, match=r"r.jsonl:1: a: .* is no index of the 3 choices"):
        instances(CHOICES, q="Which?", c=["x", "y", "z"], a=answer)


@pytest.mark.parametrize(("words", "kept"), [(1, 0), (2, 1), (4, 1), (5, 0)])
def test_an_example_has_as_many_words_as_its_bounds_allow(words, kept):
    assert len(instances(EXAMPLE | {"length": [2, 4]}, x="w " * words, y="s")) == kept
    assert len(instances(EXAMPLE, x="w " * words, y="s")) == 1


def test_an_option_that_the_converter_does_not_have_is_one_line():
    with pytest.raises(UserError, match="scenario s: convert: summary has no option least; expected article, summary"):
        instances(EXAMPLE | {"least": 2}, x="w", y="s")
