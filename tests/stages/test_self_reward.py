"""Self-rewarding: what the model's own points make of its answers, iteration after iteration, and across a kill."""

import json
from itertools import count

import pytest
from tiny_files import QUICK, read_metrics, weight_bytes

from zhenlong.data import read
from zhenlong.errors import UserError
from zhenlong.feedback.pairwise_labelling import ResponseSet
from zhenlong.feedback.pointwise_judge import (
    JudgingSettings,
    ScoredResponses,
    best_worst_pair,
    judge_responses,
    read_score,
    scoring_messages,
)
from zhenlong.inference.cache import RequestCache
from zhenlong.inference.model_client import open_model
from zhenlong.inference.requests import GeneratedOutput, RequestResult
from zhenlong.records import Message, Ranking
from zhenlong.stages import self_reward as module
from zhenlong.stages.self_reward import self_reward

PROMPT = (Message("user", "Say a."),)


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("It is fine. Score: 3", 3.0),
        ("score: **4**", 4.0),
        ("Score: 2.5 points", 2.5),
        ("At first Score: 5, no. Score: 1", 1.0),
        ("<think>Score: 5</think> Score: 0", 0.0),
        ("Score: 7", None),
        ("Score: 55", None),
        ("3 points", None),
        ("", None),
    ],
)
def test_the_points_of_a_reply(text, points):
    assert read_score(text).value == points


class Speaker:
    """Answers `say(messages, k)`, whatever model was asked for; it remembers what it was asked."""

    as_chat, context_length, name = False, None, "self"

    def __init__(self, say):
        self.say, self.asked, self.fingerprint = say, [], "speaker"

    metadata = {}  # noqa: RUF012

    def count_tokens(self, prompt):
        return 1

    def generate(self, requests):
        for place, request in enumerate(requests):
            self.asked.append(request)
            yield [
                (place, RequestResult(tuple(GeneratedOutput(self.say(request.prompt, k)) for k in range(request.n))))
            ]


def own_judge(messages, k):
    """Answers are `word`, `word word`, ...; as a judge it likes them long, and one judgement in three is mute."""
    text = messages[-1].content
    if "points from 0 to 5" in text:
        said = text.partition("[Answer]\n")[2].partition("\n[End")[0]
        return f"Score: {min(5, len(said.split()))}" if k != 1 else "Hm."
    return " ".join(["word"] * (k + 1))


@pytest.fixture
def speaker(monkeypatch):
    one = Speaker(own_judge)
    monkeypatch.setattr("zhenlong.inference.model_client.load_backend", lambda model, cache, **how: one)
    return one


def run_self(files, output, **changes):
    given = {
        "model": files["model"],
        "data": files["tasks"],
        "iterations": 2,
        "samples_per_prompt": 3,
        **QUICK,
        **changes,
    }
    return self_reward(output=str(output), **given)


def test_points_are_the_mean_of_the_judgements_that_can_be_read(tmp_path):
    replies = iter(["Score: 5", "Hm.", "Score: 2", "Score: 1", "Score: 1", "Score: 1", "Hm.", "Hm.", "Hm."])
    speaker = Speaker(lambda messages, k: next(replies))
    questions = [ResponseSet(PROMPT, ("a", "b", "c"))]
    options = {"judge_samples": 3, "temperature": 0.7, "max_tokens": 9, "seed": 0}
    with RequestCache(tmp_path / "cache") as cache:
        ((found,), report) = judge_responses(
            open_model(speaker, cache, name="self"), questions, JudgingSettings(max_unparsed=0.5, **options)
        )
    assert found.scores == (3.5, 1.0, None)
    assert (report["judgements"], report["unparsed"]) == (9, 4)
    assert report["scores"]["n"] == 2
    assert [one.prompt for one in speaker.asked] == [scoring_messages(PROMPT, answer) for answer in "abc"]
    with RequestCache(tmp_path / "other") as cache:
        mute = open_model(Speaker(lambda messages, k: "Hm."), cache)
        with pytest.raises(UserError, match=r"9 of 9 verdicts cannot be read .*more than max_unparsed 0"):
            judge_responses(mute, questions, JudgingSettings(max_unparsed=0.0, **options))


def test_the_best_is_preferred_to_the_worst_and_equal_points_to_nothing():
    question = ResponseSet(PROMPT, ("a", "b", "c", "d"))
    found = best_worst_pair(ScoredResponses(question, (2.0, None, 4.5, 1.0)), "self")
    assert (found.responses, found.ranks, found.strength) == (("c", "d"), (1, 2), 3)
    assert found.meta == {"chosen_score": 4.5, "rejected_score": 1.0}
    assert best_worst_pair(ScoredResponses(question, (5.0, None, 4.9, None)), "self").strength == 1
    assert best_worst_pair(ScoredResponses(question, (2.0, None, 2.0, 2.0)), "self") is None
    assert best_worst_pair(ScoredResponses(question, (None,) * 4), "self") is None


def test_each_iteration_judges_prompts_of_its_own_and_trains_on_from_the_last(speaker, files, tmp_path):
    run = run_self(files, tmp_path / "run")
    prompts = []
    for number in (1, 2):
        rankings = read(str(run / f"iteration-{number}" / "rankings.jsonl"), Ranking)
        assert all(one.responses == ("word word word", "word") for one in rankings)
        assert all(one.strength == 2 for one in rankings)
        prompts.append({one.prompt for one in rankings})
    assert len(prompts[0] | prompts[1]) == 5
    assert not prompts[0] & prompts[1]
    second = (run / "iteration-2" / "dpo" / "config.yaml").read_text()
    assert str(run / "iteration-1" / "dpo") in second
    assert weight_bytes(run) == weight_bytes(run / "iteration-2" / "dpo") != weight_bytes(run / "iteration-1" / "dpo")
    lines = read_metrics(run)
    assert [line["step"] for line in lines] == [1, 2]
    assert lines[0]["unparsed_rate"] == pytest.approx(1 / 3)
    results = json.loads((run / "finished.json").read_text())
    assert results["steps"] == 2
    assert json.loads((run / "ledger.json").read_text())["tokens"] > 0


def test_pairs_may_be_judged_in_place_of_points(monkeypatch, files, tmp_path):
    def say(messages, k):
        text = messages[-1].content
        if "[Answer A]" not in text:
            return " ".join(["word"] * (k + 1))
        a, b = (text.partition(f"[Answer {letter}]\n")[2].partition("\n[End")[0] for letter in "AB")
        return f"[[{'A' if len(a) < len(b) else 'B'}4]]"

    monkeypatch.setattr("zhenlong.inference.model_client.load_backend", lambda model, cache, **how: Speaker(say))
    run = run_self(files, tmp_path / "run", judge_mode="pairwise", iterations=1)
    rankings = read(str(run / "iteration-1" / "rankings.jsonl"), Ranking)
    assert [one.ranks for one in rankings] == [(1, 2, 3)] * 5
    assert {one.strength for one in rankings} == {4}


@pytest.mark.parametrize("dies_in", [1, 3])  # the updates of both iterations, counted through
def test_killed_within_an_iteration_it_goes_on_to_the_same_bits_and_judges_nothing_twice(
    dies_in, speaker, files, tmp_path, monkeypatch
):
    whole = run_self(files, tmp_path / "whole")
    asked_in_all = len(speaker.asked)
    speaker.asked.clear()
    calls = count(1)
    dpo_module = __import__("zhenlong.stages.dpo", fromlist=["optimizer_step"])
    update = dpo_module.optimizer_step

    def dying(*given):
        if next(calls) == dies_in:
            raise KeyboardInterrupt
        return update(*given)

    with monkeypatch.context() as patch:
        patch.setattr(dpo_module, "optimizer_step", dying)
        with pytest.raises(KeyboardInterrupt):
            run_self(files, tmp_path / "run")
    assert not (tmp_path / "run" / "finished.json").exists()
    with pytest.raises(UserError, match="continue it with --resume"):
        run_self(files, tmp_path / "run")
    with pytest.raises(UserError, match="samples_per_prompt"):
        run_self(files, tmp_path / "run", resume=True, samples_per_prompt=2)
    resumed = run_self(files, tmp_path / "run", resume=True)
    assert weight_bytes(resumed) == weight_bytes(whole)
    assert read_metrics(resumed) == read_metrics(whole)
    assert len(speaker.asked) == asked_in_all
    before = (resumed / "finished.json").read_bytes()
    assert run_self(files, tmp_path / "run", resume=True) == resumed
    assert (resumed / "finished.json").read_bytes() == before


def test_a_model_that_cannot_judge_is_refused_and_leaves_no_run(monkeypatch, files, tmp_path):
    chatty = Speaker(lambda messages, k: f"Well, {k}.")
    monkeypatch.setattr("zhenlong.inference.model_client.load_backend", lambda model, cache, **how: chatty)
    with pytest.raises(UserError, match="27 of 27 verdicts cannot be read"):
        run_self(files, tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()
    chatty.say = lambda messages, k: "Score: 4" if "points from" in messages[-1].content else f"Well, {k}."
    with pytest.raises(UserError, match="prefers none of its answers to another"):
        run_self(files, tmp_path / "run", judge_max_tokens=500)  # another length: asked again


def test_mistakes_are_found_before_anything_is_written(files, tmp_path):
    for wrong, said in [
        ({"iterations": 0}, "iterations: expected 1 or more"),
        ({"iterations": 6}, "5 prompts are too few for 6 iterations"),
        ({"samples_per_prompt": 1}, "samples_per_prompt: expected 2 or more"),
        ({"temperature": 0.0}, "temperature: expected a number above 0"),
        ({"max_unparsed": 2.0}, "max_unparsed"),
        ({"beta": 0.0}, "beta"),
        ({"model": "runs/none"}, "no such folder"),
    ]:
        with pytest.raises(UserError, match=said):
            run_self(files, tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()
    assert module.self_reward is self_reward
