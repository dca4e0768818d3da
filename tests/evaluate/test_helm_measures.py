"""HELM's own measures: a letter alone, the most probable of several answers, graded passages, entropy, calibration."""

from itertools import permutations

import pytest

from zhenlong.evaluate.adapters.methods import AdapterContext, plan_requests
from zhenlong.evaluate.metrics.helm import any_match, exact_match_indicator, letter_match
from zhenlong.evaluate.metrics.matching import prefix_exact_match, quasi_exact_match
from zhenlong.evaluate.metrics.ranking import ndcg, recall, reciprocal_rank
from zhenlong.evaluate.metrics.text_overlap import monte_carlo_entropy
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.results.outcome import ChoiceScores, Outcome
from zhenlong.evaluate.scenarios.scenario import all_scenarios, get_scenario
from zhenlong.inference.requests import GeneratedOutput, RequestResult

CHOICES = Instance("0", "x", (Reference("ant", False), Reference("bee"), Reference("bee hive", False)))
HELM = [one for name, one in all_scenarios().items() if name.startswith("helm_")]


class AnyLength:
    """A token counter without a limit."""

    context_length = None

    def count_tokens(self, prompt):
        return len(str(prompt))


@pytest.mark.parametrize("said", ["B.", "(B)", "b", "B because", "bee", "", "Z"])
def test_anything_but_the_letter_alone_is_wrong(said):
    assert set(letter_match(Outcome(CHOICES, (GeneratedOutput(said),), predicted=1)).values()) == {0.0}


def test_a_letter_stands_for_the_text_of_its_choice():
    found = {letter: letter_match(Outcome(CHOICES, (GeneratedOutput(f" {letter}\n"),))) for letter in "ABC"}
    assert set(found["A"].values()) == {0.0}
    assert set(found["B"].values()) == {1.0}
    assert found["C"] == {
        "exact_match": 0.0,
        "quasi_exact_match": 0.0,
        "prefix_exact_match": 1.0,
        "quasi_prefix_exact_match": 1.0,
    }
    assert set(letter_match(Outcome(CHOICES, predicted=1)).values()) == {1.0}  # where the letters were scored


def test_scenarios_answered_by_letter_have_helms_rule_as_their_main_measure():
    lettered = [one for one in HELM if one.adapter.method == "multiple_choice_joint"]
    assert len(lettered) == 5
    assert all("letter_match" in one.metrics and one.adapter.max_tokens == 1 for one in lettered)


def test_the_prefix_of_a_choice_is_compared_as_text():
    assert prefix_exact_match(Outcome(CHOICES, (GeneratedOutput("B"),), predicted=1)) == {"prefix_exact_match": 1.0}
    assert prefix_exact_match(Outcome(CHOICES, (GeneratedOutput("A"),), predicted=0)) == {"prefix_exact_match": 0.0}


def test_the_last_word_is_found_before_white_space():
    instance = Instance("0", "x", (Reference("The answer is 72. "),))
    assert exact_match_indicator(Outcome(instance, (GeneratedOutput("so 72. \n"),))) == {"exact_match_indicator": 1.0}


def test_the_most_probable_of_several_answers_is_the_first():
    scenario = get_scenario("helm_wikifact")
    for log_probs in permutations([-3.0, -1.0, -2.0]):
        asking = plan_requests(AdapterContext(scenario.adapter, AnyLength()), Instance("0", "x", (Reference("y"),)))
        (request,) = next(asking)
        assert request.top_log_probs == 1  # without which an endpoint says nothing of log-probabilities
        outputs = tuple(GeneratedOutput(f"{log_prob}", log_prob) for log_prob in log_probs)
        with pytest.raises(StopIteration) as done:
            asking.send([RequestResult(outputs)])
        assert [one.text for one in done.value.value.outputs] == ["-1.0", "-2.0", "-3.0"]


def test_no_answer_matches_nothing():
    instance = Instance("0", "x", (Reference("..."),))  # whose normalised text is empty
    empty = Outcome(instance, (GeneratedOutput(" \n"),))
    assert quasi_exact_match(empty) == {"quasi_exact_match": 0.0}
    assert any_match(empty) == {"exact_match@5": 0.0, "quasi_exact_match@5": 0.0}


def test_only_passages_of_grade_two_and_three_are_relevant():
    grades = (1, 2, 0, 3)
    passages = tuple(Reference("p", grade >= 2, (f"relevance={grade}",)) for grade in grades)
    outcome = Outcome(Instance("0", "x", passages), choices=ChoiceScores((-1.0, -2.0, -3.0, -4.0)))
    assert reciprocal_rank(outcome, k=10) == {"rr@10": 0.5}
    assert recall(outcome, k=2) == {"recall@2": 0.5}
    assert recall(outcome, k=4) == {"recall@4": 1.0}
    assert 0 < ndcg(outcome, k=1)["ndcg@1"] < 1  # grade 1 of 3 gains something


def test_entropy_is_of_the_distribution_that_was_sampled():
    both = GeneratedOutput("a", -5.0, 3, sampled_log_prob=-2.0)
    assert monte_carlo_entropy(Outcome(CHOICES, (both,))) == {"monte_carlo_entropy": 2.0}
    assert monte_carlo_entropy(Outcome(CHOICES, (GeneratedOutput("a", -5.0, 3),))) == {"monte_carlo_entropy": 5.0}


def test_every_confidence_is_compared_with_an_exact_match():
    options = [one for scenario in HELM for one in scenario.metrics if not isinstance(one, str)]
    measures = [one["measure"] for one in options if one["name"] == "calibration"]
    assert len(measures) >= 10
    assert set(measures) == {"exact_match"}
