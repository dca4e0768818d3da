"""An answer that a metric cannot score is failed with its reason; all others count, and the files are written."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal

import pytest

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.registry import Measure, Metric
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.results.outcome import Outcome, ScoredOutcome
from zhenlong.evaluate.results.result_files import InstanceRecord, record_to_json
from zhenlong.evaluate.run import score_outcomes as scoring
from zhenlong.evaluate.run.aggregate import aggregate
from zhenlong.evaluate.run.console import unscored_notes
from zhenlong.evaluate.run.run_plans import guarded_plan, run_plans
from zhenlong.evaluate.scenarios.scenario import Scenario
from zhenlong.evaluate.statistics.intervals import Interval
from zhenlong.inference.requests import GeneratedOutput
from zhenlong.loop.atomic import to_jsonable, write_json, write_text


class Loose(Scenario):
    """A scenario with the test's own metrics, which are not registered."""

    metrics_of_test: tuple[Metric, ...] = ()

    def bind_metrics(self):
        return [(one, one.function) for one in self.metrics_of_test]


def scenario(*metrics):
    made = Loose("made", "Made up", "none.jsonl", ({"using": "question_answer"},), ("right",), "right")
    object.__setattr__(made, "metrics_of_test", metrics)
    return made


def outcomes(*texts):
    return [Outcome(Instance(str(n), "q", (Reference("yes"),)), (GeneratedOutput(t),)) for n, t in enumerate(texts)]


def nested(depth):
    return depth and nested(depth - 1) + 1


def raising(text):
    """What a metric may run into, by the answer."""
    return {
        "int": lambda: int("9" * 5000),
        "decimal": lambda: Decimal("sNaN") < 1,
        "deep": lambda: json.loads("[" * 100_000),
        "recursion": lambda: nested(100_000),
        "surrogate": lambda: "\ud83d".encode(),
        "overflow": lambda: math.exp(1e9),
        "memory": lambda: bytes(1 << 60),
        "exit": lambda: exit(3),
        "assertion": lambda: pytest.fail("a metric with a bug"),
        "not a number": lambda: object(),
        "huge": lambda: 10**400,
        "undeclared": lambda: 1.0,
    }[text]()


def right(outcome):
    name = "else" if outcome.text == "undeclared" else "right"
    return {name: 1.0 if outcome.text == "yes" else raising(outcome.text)}


ODD = ["int", "decimal", "deep", "recursion", "surrogate", "overflow", "memory", "exit", "not a number", "huge",
       "undeclared"]  # fmt: skip
RIGHT = Metric("right", "instance", (Measure("right"),), right)


@pytest.mark.parametrize("odd", ODD)
def test_an_answer_that_a_metric_cannot_score_is_failed_and_the_others_count(odd):
    results, records = aggregate(scenario(RIGHT), outcomes("yes", odd, "yes"), model="m")
    (found,) = [one for one in results if one.measure == "right"]
    assert (found.value.mean, found.value.n, found.failed) == (1.0, 2, 1)
    assert [bool(one.failed) for one in records] == [False, True, False]
    assert records[1].failed.startswith("metric right: ")
    assert "\n" not in records[1].failed
    assert len(records[1].failed) < 350
    (note,) = unscored_notes("m", "made", records)
    assert "1 of 3" in note
    assert "id 1" in note


def test_a_metric_that_never_ends_costs_the_answer(monkeypatch):
    monkeypatch.setattr(scoring, "METRIC_SECONDS", 0.2)

    def endless(outcome):
        try:
            found = outcome.text == "yes" or re.search(r"(a+)+$", "a" * 40 + "b")
        except Exception:
            found = False  # a limit that a metric can catch is none
        return {"right": float(bool(found))}

    metric = Metric("endless", "instance", (Measure("right"),), endless)
    _, records = aggregate(scenario(metric), outcomes("yes", "no"), model="m")
    assert [one.failed for one in records] == ["", "metric endless: TimeLimitExceeded: more than 0.2 s"]


def test_a_user_error_on_every_answer_is_the_set_up_and_on_one_that_answer():
    def picky(outcome):
        if outcome.text == "no":
            raise UserError("set it up")
        return {"right": 1.0}

    metric = Metric("picky", "instance", (Measure("right"),), picky)
    with pytest.raises(UserError, match="set it up"):
        aggregate(scenario(metric), outcomes("no", "no"), model="m")
    with pytest.raises(UserError, match="set it up"):
        aggregate(scenario(metric), outcomes(*["no"] * scoring.MAX_USER_ERRORS, "yes"), model="m")
    _, records = aggregate(scenario(metric), outcomes("no", "yes"), model="m")
    assert [one.failed for one in records] == ["metric picky: UserError: set it up", ""]


def test_a_judged_metric_that_raises_is_asked_for_each_answer_alone():
    def judged(several, judge):
        return [ScoredOutcome(one, {"right": float(one.text)}) for one in several]

    metric = Metric("judged", "judged", (Measure("right"),), judged)
    results, records = aggregate(scenario(metric), outcomes("1", "no number", "0"), model="m")
    assert results[0].value.mean == 0.5
    assert [bool(one.failed) for one in records] == [False, True, False]


def test_a_corpus_metric_that_raises_on_an_answer_alone_fails_it():
    def total(scored):
        return {"total": Interval(sum(float(one.outcome.text) for one in scored), (0.0, 9.0), len(scored))}

    metric = Metric("total", "corpus", (Measure("total"),), total)
    results, records = aggregate(scenario(metric), outcomes("1", "no number", "2"), model="m")
    assert [(one.value.mean, one.failed) for one in results if one.measure == "total"] == [(3.0, 1)]
    assert records[1].failed.startswith("metric total: ValueError")


def test_a_corpus_metric_that_raises_on_no_answer_alone_is_left_out_with_a_warning():
    def total(scored):
        return {"total": Interval(1 / (1 if len(scored) == 1 else 0), (0.0, 9.0), len(scored))}

    with_bug = Metric("total", "corpus", (Measure("total"),), total)
    with pytest.warns(UserWarning, match="metric total: ZeroDivisionError"):
        results, records = aggregate(scenario(RIGHT, with_bug), outcomes("yes", "yes"), model="m")
    assert [one.value.mean for one in results if one.measure == "right"] == [1.0]
    assert not any(one.failed for one in records)


def test_a_plan_that_raises_costs_its_instance():
    class Context:
        adapter = type("A", (), {"method": "made", "shots": 2})
        trial = 1

    def plan(good):
        if not good:
            raise RecursionError("deep")
        yield []
        return Outcome(Instance("good", "q"), (GeneratedOutput("yes"),))

    class Client:
        def run(self, requests, on_progress):
            return []

    plans = [guarded_plan(plan(good), Context(), Instance(str(good), "q")) for good in (True, False)]
    first, second = run_plans(plans, Client())
    assert first.text == "yes"
    assert (second.instance.id, second.failed, second.shots, second.trial) == (
        "False", "adapter made: RecursionError: deep", 2, 1,
    )  # fmt: skip


def test_files_are_valid_json_whatever_an_answer_holds(tmp_path):
    record = InstanceRecord("0", "\ud83d", ("\ude00 \ud83d\ude00",), scores={"a": math.nan, "b": math.inf},
                            judgement={"n": 10**5000})  # fmt: skip
    write_text(tmp_path / "rows.jsonl", record_to_json(record) + "\n")
    row = json.loads((tmp_path / "rows.jsonl").read_bytes())
    assert row["outputs"] == ["\ufffd \U0001f600"]
    assert row["scores"] == {"a": None, "b": None}
    write_json(tmp_path / "value.json", {"text": "\ud83d"})
    assert json.loads((tmp_path / "value.json").read_bytes()) == {"text": "\ufffd"}
    assert to_jsonable(10**4000) == 10**4000
