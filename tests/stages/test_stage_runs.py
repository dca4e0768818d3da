"""What holds for every stage: the run folder, and what must not change its result."""

import json
import math

import pytest
import torch
import yaml
from cases import CASES, run_case
from tiny_files import model_folder, read_metrics, weight_bytes
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

ONE_EACH = ["pretrain", "sft", "reward_model", "dpo", "kto", "ppo", "grpo", "raft"]


def loaded(run):
    kind = AutoModelForSequenceClassification if "reward_model" in str(run) else AutoModelForCausalLM
    return kind.from_pretrained(run / "model", use_safetensors=True).eval()


@pytest.mark.parametrize("case", CASES)
def test_a_run_leaves_a_whole_folder_and_a_model_that_transformers_loads(case, files, tmp_path):
    run = run_case(case, files, tmp_path / case)
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["seed"] == 0
    assert config["output"] == str(run)
    lines = read_metrics(run)
    assert [line["step"] for line in lines] == [1, 2]
    assert all(math.isfinite(line["loss"]) for line in lines)
    assert json.loads((run / "ledger.json").read_text())["tokens"] > 0
    assert json.loads((run / "finished.json").read_text())["steps"] == 2
    before, after = loaded_weights(files["model"]), dict(loaded(run).named_parameters())
    assert any(not torch.equal(after[name], before[name]) for name in after if name in before)
    assert AutoTokenizer.from_pretrained(run / "model").chat_template
    assert not list(run.rglob(".*"))


def loaded_weights(name):
    return dict(AutoModelForCausalLM.from_pretrained(name).named_parameters())


@pytest.mark.parametrize("case", CASES)
def test_how_a_step_is_cut_into_micro_batches_changes_nothing(case, files, tmp_path):
    """One round of rollouts, so that no rounding can change what is sampled next."""
    runs = [run_case(case, files, tmp_path / str(size), tokens_per_microbatch=size) for size in (32, 4096)]
    narrow, wide = (read_metrics(run) for run in runs)
    for a, b in zip(narrow, wide, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5, abs=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3, abs=1e-8)  # rounding alone if masked
        assert a["tokens"] == b["tokens"]


@pytest.mark.parametrize("lora_rank", [0, 2])
@pytest.mark.parametrize("case", ONE_EACH)
def test_recomputing_activations_changes_nothing(case, lora_rank, files, tmp_path):
    """The second forward pass, in the backward one, is the first again: the same attention over the same forest."""
    settings = [{"lora_rank": lora_rank, "gradient_checkpointing": again} for again in (False, True)]
    kept, again = (read_metrics(run_case(case, files, tmp_path / str(i), **own)) for i, own in enumerate(settings))
    for a, b in zip(kept, again, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("case", ONE_EACH)
def test_sampling_and_evaluation_do_not_change_the_weights(case, files, tmp_path):
    """The model has dropout, so that a forgotten eval mode or a random number drawn too many would show."""
    network = model_folder(tmp_path / "gpt2", "gpt2")
    source = {"pretrain": "documents", "sft": "demonstrations"}.get(case, "rankings")
    heldout = {} if case in ("ppo", "grpo", "raft") else {"heldout": source}
    quiet = run_case(case, files, tmp_path / "quiet", model=network, steps=3)
    watched = run_case(case, files, tmp_path / "watched", model=network, steps=3, sample_every=1, **heldout)
    assert weight_bytes(quiet) == weight_bytes(watched)
    if case not in ("pretrain", "reward_model"):
        assert {row["step"] for row in samples(watched)} == {1, 2, 3}


def samples(run):
    return [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("case", ONE_EACH)
def test_the_seed_decides_everything(case, files, tmp_path):
    """Batches are smaller than the data, so that the order counts."""
    runs = [run_case(case, files, tmp_path / f"{i}", seed=seed, batch_size=2) for i, seed in enumerate((1, 1, 2))]
    first, again, other = runs
    assert weight_bytes(first) == weight_bytes(again)
    assert weight_bytes(first) != weight_bytes(other)


@pytest.mark.parametrize("case", ONE_EACH)
def test_an_adapter_is_trained_and_merged_into_the_model_that_is_saved(case, files, tmp_path):
    run = run_case(case, files, tmp_path / case, lora_rank=2, lr=1e-2)
    assert (run / "model" / "adapter" / "adapter_model.safetensors").is_file()
    before, after = loaded_weights(files["model"]), dict(loaded(run).named_parameters())
    changed = {
        name.rsplit(".", 2)[-2] for name in before if name in after and not torch.equal(before[name], after[name])
    }
    linear = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert changed
    assert changed <= linear
