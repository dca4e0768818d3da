"""KTO: the first step, what it learns, its baseline, agreement with TRL, and what it refuses."""

import json

import numpy as np
import pytest
import yaml
from by_transformers import log_probs
from cases import run_case
from tiny_files import PAIRS, RATINGS, model_folder, read_metrics, write_jsonl_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from zhenlong.data import Mixture
from zhenlong.errors import UserError
from zhenlong.evaluate.heldout.rating_auc import rating_auc
from zhenlong.forest import make_tree
from zhenlong.records import Message, Rating
from zhenlong.stages.kto import mismatched_trees
from zhenlong.stages.recipe import run as run_recipe

LEARN = {"steps": 12, "batch_size": 5, "lr": 5e-3}


def log_ratio(names, prompt, response):
    """log π(y)/π_ref(y) of two model folders, in nats, by transformers alone."""
    policy, reference = (log_probs(name, prompt, response).sum() for name in names)
    return float(policy - reference)


def ratings(content):
    return [Rating((Message("user", row["prompt"]),), row["completion"], row["label"]) for row in content]


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_it_begins_at_its_reference(lora_rank, files, tmp_path):
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.5, "batch_size": 5}
    first = read_metrics(run_case("kto", files, tmp_path / "run", lora_rank=lora_rank, **weights))[0]
    assert first["loss"] == pytest.approx((3 * 1.5 + 2 * 0.5) / 5 / 2, abs=1e-5)
    assert [first[name] for name in ("kl", "desirable_reward", "undesirable_reward")] == pytest.approx(
        [0] * 3, abs=1e-5
    )


@pytest.mark.parametrize("loss", ["kto", "apo_zero"])
def test_the_desirable_become_more_probable_and_the_others_less(loss, files, tmp_path):
    run = run_case("kto", files, tmp_path / "run", loss=loss, heldout="ratings", **LEARN)
    lines = read_metrics(run)
    assert lines[-1]["desirable_log_prob"] > lines[0]["desirable_log_prob"] + 1
    assert lines[-1]["undesirable_log_prob"] < lines[0]["undesirable_log_prob"] - 1
    assert lines[-1]["margin"] > lines[1]["margin"] > 0
    assert lines[-1]["loss"] < lines[0]["loss"]
    found = json.loads((run / "finished.json").read_text())["results"]
    assert found["auc"]["mean"] == 1
    assert found["desirable"]["mean"] > 0 > found["undesirable"]["mean"]
    assert json.loads((run / "ratings.json").read_text()) == {"desirable": 3, "undesirable": 2}


def test_a_heavier_side_decides_more(files, tmp_path):
    """With hardly any weight on the thumbs up, the policy learns what not to say."""
    lines = read_metrics(run_case("kto", files, tmp_path / "run", desirable_weight=1e-3, **LEARN))
    assert lines[-1]["undesirable_reward"] < -abs(lines[-1]["desirable_reward"])


def test_the_mismatched_pairs_are_those_of_the_step_moved_on_by_one():
    drawn = [make_tree([10 + i] * (i + 1), [[20 + i] * 4]) for i in range(5)]
    found = mismatched_trees(drawn[:3] + drawn[3:], 5, context=6)
    assert [(one.tokens[0], one.children[0].tokens[0]) for one in found] == [
        (10, 24),
        (11, 20),
        (12, 21),
        (13, 22),
        (14, 23),
    ]
    assert [len(one.children[0].tokens) for one in found] == [4, 4, 3, 2, 1]  # cut to the context
    apart = mismatched_trees(drawn[:4], 2, context=6)
    assert [(one.tokens[0], one.children[0].tokens[0]) for one in apart] == [(10, 21), (11, 20), (12, 23), (13, 22)]


@pytest.mark.peers("trl")
def test_the_first_step_is_that_of_trl(files, tmp_path):
    """Away from the reference, so that the baseline says something: the reference is another model.

    TRL pairs neighbours in a fixed order: it is given the rows as ours are drawn.
    """
    import datasets
    import trl

    other = model_folder(tmp_path / "other", seed=5)
    model, reference = (AutoModelForCausalLM.from_pretrained(name) for name in (files["model"], other))
    tokenizer = AutoTokenizer.from_pretrained(files["model"])
    settings = trl.KTOConfig(
        output_dir=str(tmp_path / "trl"), per_device_train_batch_size=5, max_steps=1, logging_steps=1, bf16=False,
        gradient_checkpointing=False, report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True, beta=0.1,
        max_length=None, dataloader_pin_memory=False, learning_rate=1e-3, desirable_weight=1.2,
        train_sampling_strategy="sequential",
    )  # fmt: skip
    drawn = [RATINGS[row] for row in Mixture([5], None, 0).draw(5)]
    data = datasets.Dataset.from_list(
        [{"prompt": f"<|im_start|>user\n{row['prompt']}<|im_end|>\n<|im_start|>assistant\n",
          "completion": f"{row['completion']}<|im_end|>", "label": row["label"]} for row in drawn]
    )  # fmt: skip
    tokenizer.eos_token = "<|im_end|>"
    trainer = trl.KTOTrainer(model, reference, args=settings, train_dataset=data, processing_class=tokenizer)
    trainer.train()
    theirs = next(line for line in trainer.state.log_history if "loss" in line)
    run = run_case("kto", files, tmp_path / "run", reference=other, steps=1, batch_size=5, desirable_weight=1.2)
    ours = read_metrics(run)[0]
    assert ours["kl"] > 0
    for mine, name in (("loss", "loss"), ("kl", "kl"), ("margin", "rewards/margins"), ("grad_norm", "grad_norm")):
        assert ours[mine] == pytest.approx(theirs[name], abs=2e-5), name


def test_each_step_has_the_baseline_of_its_own_mismatched_pairs(files, tmp_path):
    """Mean log π/π_ref by transformers. The learning rate moves no weight: only the rows drawn tell steps apart."""
    other = model_folder(tmp_path / "other", seed=7)
    drawn = [RATINGS[row] for row in Mixture([5], None, 0).draw(12)]
    expected = []
    for step in (drawn[first : first + 3] for first in range(0, 12, 3)):
        pairs = zip(step, step[-1:] + step[:-1], strict=True)
        ratios = [log_ratio((files["model"], other), own["prompt"], before["completion"]) for own, before in pairs]
        expected.append(np.mean(ratios))
    run = run_case("kto", files, tmp_path / "run", reference=other, steps=4, batch_size=3, lr=1e-12)
    assert min(expected) > 0
    assert len({round(one, 2) for one in expected}) == 4
    assert [line["kl"] for line in read_metrics(run)] == pytest.approx(expected, abs=1e-4)


def test_the_baseline_is_taken_from_the_step_and_not_from_a_micro_batch(files, tmp_path):
    """Away from the reference: every micro-batch holds one rating, or all of them."""
    other = model_folder(tmp_path / "other", seed=5)
    settings = {"reference": other, "batch_size": 5}
    lines = [
        read_metrics(run_case("kto", files, tmp_path / str(size), tokens_per_microbatch=size, **settings))
        for size in (1, 4096)
    ]
    for narrow, wide in zip(*lines, strict=True):
        assert wide["kl"] > 0
        assert narrow["kl"] == pytest.approx(wide["kl"], rel=1e-4)
        assert narrow["grad_norm"] == pytest.approx(wide["grad_norm"], rel=1e-3)


def test_the_reference_is_read_from_its_cache_the_second_time(files, tmp_path, monkeypatch):
    cache = str(tmp_path / "cache")
    run_case("kto", files, tmp_path / "first", reference_cache=cache)
    monkeypatch.setattr("zhenlong.stages.reference.log_prob_sums", lambda *given: pytest.fail("computed again"))
    run = run_case("kto", files, tmp_path / "second", reference_cache=cache, beta=0.3)
    assert (run / "finished.json").exists()


def test_rankings_are_read_as_thumbs(files, tmp_path):
    run = run_case("kto", files, tmp_path / "run", data="pairs")
    assert json.loads((run / "ratings.json").read_text()) == {"desirable": len(PAIRS), "undesirable": len(PAIRS)}


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (True, "all 5 ratings are desirable; .*add undesirable responses, or imitate these with zhenlong sft"),
        (False, "all 5 ratings are undesirable; .*add desirable responses$"),
    ],
)
def test_one_kind_of_rating_is_refused(label, said, files, tmp_path):
    data = write_jsonl_file(tmp_path / "rows.jsonl", [{**row, "label": label} for row in RATINGS])
    with pytest.raises(UserError, match=said):
        run_case("kto", files, tmp_path / "run", data=data)
    assert not (tmp_path / "run").exists()


def test_so_is_one_kind_that_is_left_after_the_long_ones_are_dropped(files, tmp_path):
    content = [{**row, "completion": row["completion"] * (1 if row["label"] else 200)} for row in RATINGS]
    data = write_jsonl_file(tmp_path / "rows.jsonl", content)
    with pytest.raises(UserError, match=r"rating 2: \d+ tokens, more than the maximum length of 512"):
        run_case("kto", files, tmp_path / "run", data=data)
    with pytest.raises(UserError, match="all 3 ratings are desirable"):
        run_case("kto", files, tmp_path / "run", data=data, overlong="drop")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wrong", [{"batch_size": 1}, {"beta": 0.0}, {"desirable_weight": 0.0}, {"loss": "dpo"}])
def test_settings_without_meaning_are_refused_before_anything_is_written(wrong, files, tmp_path):
    with pytest.raises(UserError, match=next(iter(wrong))):
        run_case("kto", files, tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


def test_without_a_baseline_a_batch_may_be_one_rating(files, tmp_path):
    lines = read_metrics(run_case("kto", files, tmp_path / "run", loss="apo_zero", batch_size=1))
    assert all(line["kl"] == 0 and "margin" not in line for line in lines)


def test_separation_is_measured_by_the_log_ratio_to_the_reference(files, tmp_path):
    """The truth: transformers' log-probabilities, response by response."""
    names = (files["model"], model_folder(tmp_path / "other", seed=5))
    rewards = [log_ratio(names, row["prompt"], row["completion"]) for row in RATINGS]
    found = rating_auc(names[0], ratings(RATINGS), reference=names[1])
    up, down = ([r for r, row in zip(rewards, RATINGS, strict=True) if row["label"] == side] for side in (True, False))
    assert found["desirable"]["mean"] == pytest.approx(np.mean(up), abs=1e-4)
    assert found["undesirable"]["mean"] == pytest.approx(np.mean(down), abs=1e-4)
    assert found["auc"]["mean"] == pytest.approx(np.mean([a > b for a in up for b in down]))
    long = ratings([{**RATINGS[0], "completion": "x" * 600}])
    assert (
        rating_auc(names[0], [*ratings(RATINGS), *long])["overlong"] == 1
    )  # key of rating_separation, renamed by plan 6


def test_it_is_a_step_of_a_recipe_on_the_worlds_ratings(files, tmp_path):
    quick = {"steps": 2, "batch_size": 4, "device": "cpu", "progress": False}
    step = {"model": files["model"], "data": "world:ratings?n=24&seed={seed}", "beta": 0.2, **quick}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"arguments": {"output": str(tmp_path / "out")}, "steps": [{"kto": step}]}))
    run_recipe(str(path))
    counts = json.loads((tmp_path / "out" / "kto" / "ratings.json").read_text())
    assert sum(counts.values()) == 24
    assert len(read_metrics(tmp_path / "out" / "kto")) == 2
