"""World behaviour: rows and summaries match their definitions, and the KL estimate converges to the exact KL."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

from zhenlong.data import ChatTemplate
from zhenlong.errors import UserError
from zhenlong.evaluate.heldout.sampled_responses import exact_match, mean_reward, sample_responses
from zhenlong.evaluate.world.behaviour import (
    WorldResponse,
    evaluate_behaviour,
    kl_to_reference,
    paired_gain,
    read_world_responses,
    summarise_behaviour,
    write_world_responses,
)
from zhenlong.records import Message, Task
from zhenlong.sampling import Completion, SamplingParams, TorchSampler
from zhenlong.world import World

TOKENIZER = tiny_tokenizer()
TASKS = World(0).tasks(6, split="heldout")
ROW = WorldResponse(
    prompt=({"role": "user", "content": "q"},), response="a", gold=0.5, proxy=1.0, correct=None, format=None,
    harmful=False, lookalike=False, refused=False, kl=None, tokens=3, truncated=False, family="f",
)  # fmt: skip


def length(answers):
    return [float(len(answer.text)) for answer in answers]


def test_kl_to_itself_is_zero_and_sampling_is_deterministic():
    pair = (tiny_model(), TOKENIZER)
    rows = evaluate_behaviour(pair, TASKS, reference=pair, reward=length, sampling=SamplingParams(max_tokens=12))
    assert [row.kl for row in rows] == [0.0] * len(TASKS)
    assert rows == evaluate_behaviour(
        pair, TASKS, reference=pair, reward=length, sampling=SamplingParams(max_tokens=12)
    )
    assert rows != evaluate_behaviour(
        pair, TASKS, reference=pair, reward=length, sampling=SamplingParams(max_tokens=12, seed=1)
    )
    for row, task in zip(rows, TASKS, strict=True):
        assert row.prompt[-1]["content"] == task.prompt[-1].content
        assert row.gold == World(0).gold_reward(task.prompt, row.response)
        assert row.proxy == len(row.response)
        assert row.tokens <= 12


def test_the_estimate_converges_to_the_exact_divergence():
    """For one-token responses KL is a sum over the vocabulary; the mean of many samples must agree with it."""
    model, reference = tiny_model(seed=1), tiny_model(seed=2)
    with torch.no_grad():
        for one in (model, reference):
            one.get_output_embeddings().weight.mul_(20)  # far enough apart for the estimate to be told from 0
    task = Task((Message("user", "x"),))
    found = sample_responses(model, TOKENIZER, [task] * 600, SamplingParams(max_tokens=1))
    estimates = kl_to_reference((model, TOKENIZER), (reference, TOKENIZER), found)
    ids = torch.tensor([found.prompts[0]])
    with torch.no_grad():
        p, q = (one(ids).logits[0, -1].double().log_softmax(-1) for one in (model, reference))
    exact = float((p.exp() * (p - q)).sum())
    error = np.std(estimates) / math.sqrt(len(estimates))
    assert exact > 5 * error
    assert np.mean(estimates) == pytest.approx(exact, abs=4 * error)


def test_divergence_is_the_sum_over_the_responses_tokens_stop_id_included():
    model, reference = tiny_model(seed=1), tiny_model(seed=2)
    found = sample_responses(model, TOKENIZER, TASKS[:2], SamplingParams(max_tokens=5))
    for prompt, (completion,), estimate in zip(
        found.prompts,
        found.completions,
        kl_to_reference((model, TOKENIZER), (reference, TOKENIZER), found),
        strict=True,
    ):
        total = 0.0
        for sign, one in ((1, model), (-1, reference)):
            with torch.no_grad():
                rows = (
                    one(torch.tensor([[*prompt, *completion.token_ids]]))
                    .logits[0, len(prompt) - 1 : -1]
                    .log_softmax(-1)
                )
            total += sign * float(rows[range(len(completion.token_ids)), list(completion.token_ids)].sum())
        assert estimate == pytest.approx(total, abs=1e-3)


def test_each_measure_of_a_summary_is_over_the_prompts_it_applies_to():
    rows = [
        replace(ROW, gold=1.0, correct=1.0, format=1.0, kl=2.0),
        replace(ROW, gold=0.0, correct=0.0, kl=-1.0, truncated=True, tokens=5),
        replace(ROW, harmful=True, refused=True),
        replace(ROW, harmful=True, refused=False),
        replace(ROW, lookalike=True, correct=1.0),
        replace(ROW, lookalike=True, refused=True, correct=0.0),
        replace(ROW, lookalike=True, response=" \n", correct=0.0),
    ]
    summary = summarise_behaviour(rows)
    means = {key: value["mean"] for key, value in summary.items() if isinstance(value, dict)}
    counts = {key: value["n"] for key, value in summary.items() if isinstance(value, dict)}
    assert means == pytest.approx({
        "gold_reward": 3.5 / 7, "proxy_reward": 1.0, "accuracy": 2 / 5, "format_following": 1.0,
        "harmful_refused": 1 / 2, "benign_compliance": 1 / 3,
    })  # fmt: skip
    assert counts == {
        "gold_reward": 7, "proxy_reward": 7, "accuracy": 5, "format_following": 1, "harmful_refused": 2,
        "benign_compliance": 3,
    }  # fmt: skip
    assert summary["kl_from_sft"] == pytest.approx(0.5)
    assert summary["mean_response_tokens"] == pytest.approx(23 / 7)
    assert summary["truncated"] == pytest.approx(1 / 7)
    json.dumps(summary, allow_nan=False)


def test_unmeasured_values_are_absent_and_measures_without_prompts_have_no_mean():
    summary = summarise_behaviour([replace(ROW, proxy=None)])
    assert "proxy_reward" not in summary
    assert "kl_from_sft" not in summary
    assert summary["harmful_refused"] == {"mean": None, "ci95": [None, None], "n": 0}


def test_a_gain_is_paired_by_prompt():
    before = [replace(ROW, prompt=({"role": "user", "content": str(i)},), gold=i / 10) for i in range(10)]
    after = [replace(row, gold=row.gold + 0.2 + 0.01 * (i % 3)) for i, row in enumerate(before)]
    assert paired_gain(after, before).mean == pytest.approx(0.209)
    assert paired_gain(after, before).above_zero
    assert paired_gain(after, before, "proxy").mean == 0.0
    with pytest.raises(ValueError, match="same prompts"):
        paired_gain(after, before[::-1])


def test_rows_survive_a_round_trip_to_disk_with_any_text(tmp_path):
    rows = [ROW, replace(ROW, response="two\nlines\u2028and \U0001f600 \"'</script>", kl=0.25, correct=1.0)]
    write_world_responses(rows, tmp_path / "evaluation" / "sft.jsonl")
    assert read_world_responses(tmp_path / "evaluation" / "sft.jsonl") == rows


def test_a_file_of_other_rows_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": [], "response": "x"}\n')
    with pytest.raises(UserError, match=r"rows\.jsonl:1"):
        read_world_responses(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_world_responses(tmp_path / "absent.jsonl")


def test_evaluation_leaves_mode_and_random_states_alone():
    model, reference = tiny_model().train(), tiny_model(seed=1)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    evaluate_behaviour(
        (model, TOKENIZER), TASKS[:2], reference=(reference, TOKENIZER), sampling=SamplingParams(max_tokens=3)
    )
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert all(module.training for module in model.modules())


class Scripted:
    """A sampler that generates the same texts for every prompt."""

    def __init__(self, texts):
        self.texts = texts

    def __call__(self, model, tokenizer):
        return self

    def sample(self, prompts, sampling, n=1):
        return [[Completion((1, 2), (0.0, 0.0), text, False) for text in self.texts[:n]] for _ in prompts]


def test_exact_match_uses_the_tasks_verifier_and_averages_over_samples(monkeypatch):
    monkeypatch.setattr("zhenlong.evaluate.heldout.sampled_responses.TorchSampler", Scripted(["4", "5"]))
    question = (Message("user", "2 + 2?"),)
    tasks = [Task(question, "4", "exact"), Task(question, "5", "exact"), Task(question, "6", "exact")]
    pair = (tiny_model(), TOKENIZER)
    assert exact_match(pair, tasks)["exact_match"]["mean"] == pytest.approx(1 / 3)
    several = exact_match(pair, tasks, samples_per_prompt=2)["exact_match"]
    assert several["mean"] == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert several["n"] == 3
    assert mean_reward(pair, tasks, length)["reward"]["mean"] == 1.0
    assert mean_reward(pair, tasks, length)["mean_response_tokens"] == 2.0


def test_responses_end_at_the_templates_end_of_turn(monkeypatch):
    asked = []
    sample = TorchSampler.sample
    monkeypatch.setattr(TorchSampler, "sample", lambda self, *a: asked.append(a[1]) or sample(self, *a))
    sample_responses(tiny_model(), TOKENIZER, TASKS[:1], SamplingParams(max_tokens=2))
    assert set(ChatTemplate.from_tokenizer(TOKENIZER).stop_ids) <= set(asked[0].stop_token_ids)
