"""What is scored from recorded rewards, labels and scores: agents' tasks, truth, toxicity, judges against people."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.agent_tasks import pass_hat_estimate
from zhenlong.evaluate.metrics.toxicity import expected_maximum, toxicity
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.evaluate.run.score_command import score
from zhenlong.evaluate.statistics.kappa import kappa_interval
from zhenlong.inference.requests import GeneratedOutput

REAL_PROMPTS = Path(__file__).parents[3] / "shared/datasets/real_toxicity_prompts/toxic.jsonl"


@pytest.fixture
def measured(tmp_path):
    """The measures of rows written as one file, which is the data too unless other data are given."""

    def run(scenario, rows, data=None, name="o.json", **options):
        path = tmp_path / name
        path.write_text(json.dumps(rows))
        if data is not None:
            (tmp_path / "data.json").write_text(json.dumps(data))
            options["data"] = str(tmp_path / "data.json")
        found = score(scenario, outputs=str(path), **options)
        return {one.measure: one.value for one in found if not one.group}

    return run


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_pass_hat_k_is_the_share_of_sets_of_k_trials_that_all_succeed(k):
    trials = [1, 0, 1, 1]
    sets = list(itertools.combinations(trials, k))
    assert pass_hat_estimate(sum(trials), len(trials), k) == pytest.approx(np.mean([all(one) for one in sets]))


def trajectories(rewards):
    return [
        {"task_id": task, "trial": trial, "reward": reward, "info": {"task": {"instruction": "Go."}}, "traj": []}
        for task, several in enumerate(rewards)
        for trial, reward in enumerate(several)
    ]


def test_trajectories_give_pass_hat_k_over_tasks_with_tasks_as_clusters(measured):
    found = measured("tau_bench", trajectories([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]))
    assert found["pass^1"].mean == pytest.approx((2 / 4 + 0 + 1) / 3)
    assert found["pass^2"].mean == pytest.approx((1 / 6 + 0 + 1) / 3)
    assert found["pass^4"].mean == pytest.approx(1 / 3)
    assert {found[f"pass^{k}"].n for k in range(1, 5)} == {3}  # tasks, not trials
    assert found["reward"].mean == found["pass^1"].mean


def test_a_task_enters_pass_hat_k_where_it_has_k_trials_and_a_reward_below_1_is_no_success(measured):
    found = measured("tau_bench", trajectories([[1, 1], [0.5], [1, None]]))
    assert (found["pass^2"].mean, found["pass^2"].n) == (1, 1)
    assert found["pass^1"].mean == pytest.approx(2 / 3)
    assert found["reward"].mean == pytest.approx((1 + 0.5 + 1) / 3)  # the trial without a reward failed


def test_simulations_of_tau2_are_read_with_their_domain(measured):
    simulations = [
        {"task_id": task, "trial": trial, "reward_info": {"reward": float(task == "a")}}
        for task in "ab"
        for trial in (0, 1)
    ]
    whole = {
        "info": {"environment_info": {"domain_name": "mock"}},
        "tasks": [{"id": "a"}, {"id": "b"}],
        "simulations": simulations,
    }
    assert measured("tau_bench", whole)["pass^2"].mean == 0.5


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"task_id": 0, "reward": "high"}], "row 1 .*reward: expected a number, got 'high'"),
        ([{"task_id": 0, "trial": 0, "reward": 1}] * 2, "duplicate id '0'"),
    ],
)
def test_wrong_trajectories_are_one_line(rows, expected, measured):
    with pytest.raises(UserError, match=expected):
        measured("tau_bench", rows)


QUESTIONS = [{"Question": f"Q{n}?", "Best Answer": "A.", "Category": "Law"} for n in range(4)]


@pytest.mark.parametrize(
    "rows",
    [
        [
            {"question": f"Q{n}?", "output": "x", "truth": t, "info": i}
            for n, (t, i) in enumerate([(True, 1), ("yes", 0), ("no", 0.7), (0.2, "")])
        ],
        [
            {"Question": f"Q{n}?", "m": "x", "m GPT-judge acc": t, "m GPT-info acc": i}
            for n, (t, i) in enumerate([("1", "1"), ("1", "0"), ("0", "1"), ("0", "")])
        ],
    ],
)
def test_truth_and_information_and_both_are_counted_over_the_answers_with_labels(rows, measured):
    found = measured("truthfulqa_generation", rows, QUESTIONS)
    assert found["truthful"].mean == 0.5
    assert (found["informative"].mean, found["informative"].n) == (pytest.approx(2 / 3), 3)
    assert found["truthful_informative"].mean == pytest.approx(1 / 3)
    assert found["judge_unparsed"].mean == 0.25


def test_a_label_that_is_none_is_an_error(measured):
    rows = [{"question": "Q0?", "output": "x", "truth": "perhaps", "info": 1}]
    with pytest.raises(UserError, match="truth: expected true, false or 0 to 1, got 'perhaps'"):
        measured("truthfulqa_generation", rows, QUESTIONS[:1])


def test_recorded_toxicity_takes_the_place_of_the_lexicon():
    texts = tuple(GeneratedOutput(text) for text in ("you idiot", "kind", "?"))
    recorded = toxicity(Outcome(Instance("a", "p"), texts, metadata={"toxicity": [0.1, 0.9, None]}))
    assert recorded["expected_max_toxicity"] == 0.9
    assert recorded["toxic_fraction"] == 0.5
    assert recorded["toxicity_unscored"] == pytest.approx(1 / 3)
    assert toxicity(Outcome(Instance("a", "p"), texts, metadata={"toxicity": [None] * 3})) == {"toxicity_unscored": 1.0}
    with pytest.raises(UserError, match="expected a score for each of 3 samples, got 1"):
        toxicity(Outcome(Instance("a", "p"), texts, metadata={"toxicity": [0.1]}))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_the_expected_maximum_of_k_samples_is_the_mean_over_all_sets_of_k(k):
    scores = [0.3, 0.9, 0.1, 0.6]
    sets = list(itertools.combinations(scores, k))
    assert expected_maximum(scores, k) == pytest.approx(np.mean([max(one) for one in sets]))
    outcome = Outcome(Instance("a", "p"), metadata={"toxicity": scores})
    assert toxicity(outcome, samples=k)["max_toxicity_probability"] == pytest.approx(
        np.mean([max(one) >= 0.5 for one in sets])
    )


@pytest.mark.real_data
@pytest.mark.skipif(not REAL_PROMPTS.exists(), reason="no data sets beside the checkout")
def test_the_stored_scores_of_perspective_are_read_from_real_rows():
    found = score("real_toxicity_prompts", data=str(REAL_PROMPTS), outputs=str(REAL_PROMPTS))
    rows = [json.loads(line)["continuation"]["toxicity"] for line in REAL_PROMPTS.read_text().splitlines()]
    known = [value for value in rows if value is not None]
    value = next(one.value for one in found if one.main)
    assert (value.mean, value.n) == (pytest.approx(np.mean(known)), len(known))


def graded(scores, labels):
    return [
        {
            "input": f"q{n}",
            "output_1": "x",
            "output_2": "y",
            "label": label,
            "results": [{"score_1": [str(a), "stop"], "score_2": [str(b), "stop"]}],
        }
        for n, ((a, b), label) in enumerate(zip(scores, labels, strict=True))
    ]


def test_the_higher_rating_is_the_choice_and_a_tie_is_half(measured):
    rows = graded([(9, 1), (2, 5), (4, 4), ("none", 7)], [1, 1, 2, 2])
    found = measured("llmbar_rating", rows, rows)
    assert found["agreement"].mean == pytest.approx((1 + 0 + 0.5 + 0) / 4)
    assert found["agreement"].n == 4  # pairs
    assert found["rating_ties"].mean == 0.25
    assert found["unparsed"].mean == 1 / 8


def test_choices_in_both_orders_give_kappa_with_people_and_between_the_orders(measured):
    said = [("a", "b"), ("a", "a"), ("b", "a"), ("b", "a")]  # of output 1 as (a), of output 2 as (a)
    labels = [1, 1, 2, 1]
    rows = [
        {"input": f"q{n}", "output_1": "x", "output_2": "y", "label": label}
        | {
            "results": [
                {
                    f"swap = {swap}": {"completion": [f"Output ({letter})", "stop"]}
                    for swap, letter in zip((False, True), pair, strict=True)
                }
            ]
        }
        for n, (pair, label) in enumerate(zip(said, labels, strict=True))
    ]
    found = measured("llmbar", rows, rows)
    chosen = {"12": [1, 1, 2, 2], "21": [1, 2, 2, 2]}
    assert found["kappa"].mean == pytest.approx(cohen_kappa_score(chosen["12"] + chosen["21"], labels * 2))
    assert found["order_kappa"].mean == pytest.approx(cohen_kappa_score(chosen["12"], chosen["21"]))


def test_kappa_is_that_of_scikit_learn_and_its_interval_knows_groups():
    rng = np.random.default_rng(0)
    first = [str(one) for one in rng.integers(0, 3, 300)]
    second = [one if keep else "0" for one, keep in zip(first, rng.random(300) < 0.7, strict=True)]
    alone = kappa_interval(first, second)
    assert alone.mean == pytest.approx(cohen_kappa_score(first, second))
    assert alone.ci95[0] < alone.mean < alone.ci95[1]
    repeated = kappa_interval(first * 4, second * 4, list(range(300)) * 4)  # the same items four times say no more
    assert repeated.ci95 == pytest.approx(alone.ci95, abs=0.02)
    assert math.isnan(kappa_interval(["a", "a"], ["a", "a"]).mean)


def test_recorded_verdicts_of_a_judge_and_of_several_people(measured):
    rows = [
        {"id": 1, "judge": "A", "human": ["A", "B"]},
        {"id": 2, "judge": "b", "human": "B"},
        {"id": 3, "judge": None, "human": "A"},
    ]
    found = measured("judge_verdicts", rows)
    assert found["agreement"].mean == pytest.approx((0.5 + 1 + 0) / 3)
    assert found["unparsed"].mean == pytest.approx(1 / 3)
    assert found["kappa"].mean == pytest.approx(cohen_kappa_score(["a", "a", "b", "?"], ["a", "b", "b", "a"]))
    with pytest.raises(UserError, match="instance 1: no human in its row"):
        measured("judge_verdicts", [{"id": 1, "judge": "A"}])
