"""Reward model and DPO: the first step, the cache of the reference, and agreement with TRL."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from by_transformers import log_probs
from cases import CASES, run_case
from tiny_files import PAIRS, RANKINGS, model_folder, read_metrics, weight_bytes, write_jsonl_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from zhenlong.errors import UserError

DPO = [case for case, (stage, own) in CASES.items() if stage == "dpo" and own.get("loss") not in ("simpo", "orpo")]


def cached(run):
    return sorted(path.name for path in (run / "reference").iterdir())


@pytest.mark.parametrize("case", DPO)
@pytest.mark.parametrize("lora_rank", [0, 2])
def test_dpo_begins_at_its_reference(case, lora_rank, files, tmp_path):
    first = read_metrics(run_case(case, files, tmp_path / "run", lora_rank=lora_rank))[0]
    assert first["margin"] == pytest.approx(0, abs=1e-4)
    assert first["chosen_reward"] == pytest.approx(0, abs=1e-4)
    at_zero = {"ipo": 25.0, "hinge": 1.0, "apo_zero": 1.0}
    if case not in ("apo_down", "sft_aggregation"):  # with an SFT term
        assert first["loss"] == pytest.approx(at_zero.get(case, math.log(2)), abs=2e-4)


def test_a_gradient_step_raises_the_chosen_above_the_rejected(files, tmp_path):
    lines = read_metrics(run_case("dpo", files, tmp_path / "run", steps=6, lr=5e-3))
    assert lines[-1]["margin"] > lines[1]["margin"] > 0
    assert lines[-1]["loss"] < math.log(2)
    assert lines[-1]["accuracy"] == 1


@pytest.mark.parametrize("case", ["sigmoid_norm", "apo_zero", "simpo", "orpo"])
def test_every_loss_widens_the_margin(case, files, tmp_path):
    lines = read_metrics(run_case(case, files, tmp_path / "run", data="pairs", steps=8, lr=5e-3))
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[-1]["margin"] > lines[0]["margin"]
    assert lines[-1]["accuracy"] == 1


def test_the_log_probability_that_is_told_is_that_of_the_chosen(files, tmp_path):
    """The mean over pairs of the response's log-probability, by transformers, at the first step."""
    first = read_metrics(run_case("dpo", files, tmp_path / "run", steps=1))[0]
    expected = np.mean([float(log_probs(files["model"], row["prompt"], row["chosen"]).sum()) for row in PAIRS])
    assert first["chosen_log_prob"] == pytest.approx(expected, abs=1e-4)


def test_an_sft_term_keeps_the_chosen_responses_probable(files, tmp_path):
    """APO-down lowers them, which is its point; with enough likelihood in the loss they rise."""
    alone, together = (
        read_metrics(run_case("apo_down", files, tmp_path / str(weight), steps=8, lr=5e-3, sft_weight=weight))
        for weight in (0.0, 2.0)
    )
    assert alone[-1]["chosen_log_prob"] < alone[0]["chosen_log_prob"]
    assert together[-1]["chosen_log_prob"] > together[0]["chosen_log_prob"]


def test_orpo_has_its_likelihood_unless_told_otherwise(files, tmp_path):
    """The first step's loss is higher by the mean, over pairs, of the chosen one's mean negative log-probability."""
    losses = [
        read_metrics(run_case("orpo", files, tmp_path / str(weight), data="pairs", steps=1, sft_weight=weight))[0][
            "loss"
        ]
        for weight in (None, 1.0, 0.0)
    ]
    assert losses[0] == losses[1]
    expected = -np.mean([float(log_probs(files["model"], row["prompt"], row["chosen"]).mean()) for row in PAIRS])
    assert losses[0] - losses[2] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("case", ["simpo", "orpo"])
def test_a_loss_without_reference_computes_none(case, files, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "zhenlong.stages.dpo.cached_reference_log_probs", lambda *given: pytest.fail("a reference was computed")
    )
    assert not (run_case(case, files, tmp_path / "run") / "reference").exists()
    for option in ("reference", "reference_cache"):
        with pytest.raises(UserError, match=f"{case} compares with no reference"):
            run_case(case, files, tmp_path / "refused", **{option: files["model"]})
    assert not (tmp_path / "refused").exists()


def test_rankings_that_are_all_ties_are_one_clear_error(files, tmp_path):
    tied = write_jsonl_file(tmp_path / "tied.jsonl", [{**row, "ranks": [1, 1, 1]} for row in RANKINGS])
    said = r"tied\.jsonl, line 1: ranks: expected at least one response to be preferred, got all equal"
    with pytest.raises(UserError, match=said):
        run_case("dpo", files, tmp_path / "run", data=tied)
    with pytest.raises(UserError, match=rf"no usable rows, expected at least one; the first: .*{said}"):
        run_case("dpo", files, tmp_path / "run", data=tied, skip_bad_rows=True)
    assert not (tmp_path / "run").exists()


def test_the_reference_is_read_from_its_cache_the_second_time(files, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    first = run_case("dpo", files, tmp_path / "first", reference_cache=str(cache))
    kept = sorted(cache.iterdir())
    assert len(kept) == 1
    monkeypatch.setattr("zhenlong.stages.reference.log_prob_sums", lambda *given: pytest.fail("computed again"))
    second = run_case("dpo", files, tmp_path / "second", reference_cache=str(cache))
    assert sorted(cache.iterdir()) == kept
    assert weight_bytes(first) == weight_bytes(second)


def test_another_model_or_other_data_never_meets_a_cached_reference(files, tmp_path):
    cache = str(tmp_path / "cache")
    run_case("dpo", files, tmp_path / "first", reference_cache=cache)
    changed = [{**row, "rejected": row["rejected"] + "!"} if number == 2 else row for number, row in enumerate(PAIRS)]
    run_case(
        "dpo",
        files,
        tmp_path / "data",
        reference_cache=cache,
        data=write_jsonl_file(tmp_path / "changed.jsonl", changed),
    )
    model = AutoModelForCausalLM.from_pretrained(files["model"])
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] += 1e-6
    other = tmp_path / "other"
    shutil.copytree(files["model"], other)
    model.save_pretrained(other)
    run_case("dpo", files, tmp_path / "model", reference_cache=cache, model=str(other))
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_another_reference_moves_the_first_margin(files, tmp_path):
    other = model_folder(tmp_path / "other", seed=5)
    first = read_metrics(run_case("dpo", files, tmp_path / "run", reference=other))[0]
    assert abs(first["margin"]) > 1e-3


@pytest.mark.peers("trl")
@pytest.mark.parametrize("sft_weight", [0.0, 0.7])
def test_the_first_step_of_dpo_is_that_of_trl(files, tmp_path, sft_weight):
    """Away from the reference, so that the loss says something: the reference is another model."""
    import datasets
    import trl

    other = model_folder(tmp_path / "other", seed=5)
    model, reference = (AutoModelForCausalLM.from_pretrained(name) for name in (files["model"], other))
    tokenizer = AutoTokenizer.from_pretrained(files["model"])
    settings = trl.DPOConfig(
        output_dir=str(tmp_path / "trl"), per_device_train_batch_size=4, max_steps=1, logging_steps=1, bf16=False,
        gradient_checkpointing=False, report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True, beta=0.1,
        max_length=None, dataloader_pin_memory=False, learning_rate=1e-3, loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, sft_weight],
    )  # fmt: skip
    data = datasets.Dataset.from_list(
        [{"prompt": f"<|im_start|>user\n{row['prompt']}<|im_end|>\n<|im_start|>assistant\n",
          "chosen": f"{row['chosen']}<|im_end|>", "rejected": f"{row['rejected']}<|im_end|>"} for row in PAIRS]
    )  # fmt: skip
    tokenizer.eos_token = "<|im_end|>"
    trainer = trl.DPOTrainer(model, reference, args=settings, train_dataset=data, processing_class=tokenizer)
    trainer.train()
    theirs = next(line for line in trainer.state.log_history if "loss" in line)
    terms = {"sft_weight": sft_weight, "sft_aggregation": "token"}
    ours = read_metrics(run_case("dpo", files, tmp_path / "run", reference=other, steps=1, **terms))[0]
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
    assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
    assert ours["margin"] == pytest.approx(theirs["rewards/margins"], abs=1e-5)


def test_a_reward_model_learns_the_order_it_is_shown(files, tmp_path):
    run = run_case("reward_model", files, tmp_path / "reward_model", steps=30, lr=5e-3, heldout="rankings", margin=0.0)
    lines = read_metrics(run)
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=0.2)
    assert lines[-1]["loss"] < 0.4 * lines[0]["loss"]
    results = json.loads((run / "finished.json").read_text())["results"]
    assert results["accuracy"]["mean"] == 1
    assert results["pairs"] == 3 * len(RANKINGS)
    assert set(results["by_strength"]) == {"1", "2", "3", "4"}
    assert 0 <= results["calibration"]["ece"] < 0.5
    assert set(results["calibration"]["by_strength"]) == {"1", "2", "3", "4"}
    assert results["length"]["longer_wins"] == results["length"]["longer_chosen"]  # it orders all pairs as they did


def test_a_margin_needs_strengths(files, tmp_path):
    with pytest.raises(UserError, match=r"margin: .*pairs\.jsonl has no strengths"):
        run_case("reward_model", files, tmp_path / "run", data="pairs", margin=1.0)
    assert not (tmp_path / "run").exists()
    some = [{key: v for key, v in row.items() if key != "strength"} if number else row
            for number, row in enumerate(RANKINGS)]  # fmt: skip
    run = run_case(
        "reward_model", files, tmp_path / "some", data=write_jsonl_file(tmp_path / "some.jsonl", some), margin=1.0
    )
    assert json.loads((run / "missing_strength.json").read_text()) == {"rankings": 4, "missing_strength": 3}


def test_the_saved_reward_model_orders_texts_as_transformers_reads_it(files, tmp_path):
    run = run_case("reward_model", files, tmp_path / "reward_model", steps=30, lr=5e-3)
    model = AutoModelForSequenceClassification.from_pretrained(run / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    for row in RANKINGS:
        text = f"<|im_start|>user\n{row['prompt'][0]['content']}<|im_end|>\n<|im_start|>assistant\n"
        with torch.no_grad():
            found = [float(model(tokenizer(f"{text}{said}<|im_end|>", return_tensors="pt")["input_ids"]).logits)
                     for said in row["responses"]]  # fmt: skip
        assert found == sorted(found, reverse=True)


def test_a_margin_asks_more_of_stronger_preferences(files, tmp_path):
    """With all strengths at 1 (negligible) and at 4 (significant), the same data has another loss."""
    weak, strong = ([{**row, "strength": strength} for row in RANKINGS] for strength in (1, 4))
    losses = []
    for name, content in (("weak", weak), ("strong", strong)):
        data = write_jsonl_file(tmp_path / f"{name}.jsonl", content)
        losses.append(read_metrics(run_case("reward_model", files, tmp_path / name, data=data, margin=2.0))[0]["loss"])
    assert losses[1] > losses[0] + 0.3


@pytest.mark.parametrize("case", ["dpo", "reward_model"])
def test_a_ranking_that_is_too_long_is_an_error_or_counted(case, files, tmp_path):
    content = [*PAIRS, {"prompt": "Hm?", "chosen": "x" * 600, "rejected": "y"}]
    data = write_jsonl_file(tmp_path / "long.jsonl", [{**row, "strength": 2} for row in content])
    with pytest.raises(UserError, match=r"ranking 5: \d+ tokens, more than the maximum length of 512"):
        run_case(case, files, tmp_path / case, data=data)
    assert not (tmp_path / case).exists()
    run = run_case(case, files, tmp_path / case, data=data, overlong="drop")
    assert json.loads((run / "overlong.json").read_text()) == {"truncated": 0, "dropped": 1}


MEANINGLESS = [
    {"beta": 0.0},
    {"beta": -1.0},
    {"beta": math.inf},
    {"label_smoothing": 0.5},
    {"label_smoothing": 0.1, "loss": "ipo"},
    {"gamma": 0.5},
    {"sft_weight": -0.5},
    {"sft_aggregation": "batch"},
]


@pytest.mark.parametrize("wrong", MEANINGLESS)
def test_settings_without_meaning_are_refused_before_anything_is_written(wrong, files, tmp_path):
    with pytest.raises(UserError, match=next(iter(wrong))):
        run_case("dpo", files, tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wrong", [{"margin": -1.0}, {"center_rewards": -1.0}, {"label_smoothing": 0.7}])
def test_so_are_those_of_the_reward_model(wrong, files, tmp_path):
    with pytest.raises(UserError, match=next(iter(wrong))):
        run_case("reward_model", files, tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


def test_a_reference_that_cannot_be_loaded_leaves_nothing_behind(files, tmp_path):
    with pytest.raises(UserError, match="not a GGUF file; expected one, a folder in Hugging Face format"):
        run_case("dpo", files, tmp_path / "run", reference=files["documents"])
    assert not (tmp_path / "run").exists()


def test_a_run_keeps_its_reference_in_its_folder(files, tmp_path):
    run = run_case("dpo", files, tmp_path / "run")
    assert len(cached(run)) == 1
