"""A configuration of another library becomes options of a stage here, and no key is lost."""

from __future__ import annotations

import pytest
import yaml

from zhenlong import registry
from zhenlong.errors import UserError
from zhenlong.migration.convert_config import CONFIG_LIBRARIES, convert_config, convert_settings
from zhenlong.migration.rules import Mapped
from zhenlong.options.signature import read_signature

TRL_GRPO = {
    "model_name_or_path": "Qwen/Qwen2.5-0.5B",
    "dataset_name": "openai/gsm8k",
    "dataset_config": "main",
    "learning_rate": "2e-6",
    "per_device_train_batch_size": 16,
    "gradient_accumulation_steps": 4,
    "num_generations": 8,
    "epsilon": 0.2,
    "epsilon_high": 0.28,
    "loss_type": "dr_grpo",
    "use_vllm": True,
    "packing": False,
}
AXOLOTL_DPO = {
    "base_model": "meta-llama/Llama-3.2-1B",
    "rl": "ipo",
    "datasets": [{"path": "Intel/orca_dpo_pairs", "split": "train", "type": "chatml.intel"}, {"path": "own.jsonl"}],
    "micro_batch_size": 2,
    "gradient_accumulation_steps": 4,
    "adapter": "lora",
    "lora_r": 16,
    "lora_alpha": 32,
    "lora_target_linear": True,
    "sequence_len": 4096,
    "rl_beta": 0.2,
    "chat_template": "chatml",
    "flash_attention": True,
    "train_on_inputs": False,
}
VERL_GRPO = {
    "algorithm": {"adv_estimator": "grpo", "norm_adv_by_std_in_grpo": False},
    "data": {"train_files": "train.parquet", "train_batch_size": 512, "max_response_length": 1024},
    "actor_rollout_ref": {
        "model": {"path": "Qwen/Qwen3-0.6B"},
        "rollout": {"n": 5, "temperature": 1.0, "name": "vllm"},
        "actor": {
            "ppo_mini_batch_size": 128,
            "clip_ratio_low": 0.2,
            "clip_ratio_high": 0.28,
            "use_kl_loss": True,
            "kl_loss_coef": 0.001,
            "kl_loss_type": "low_var_kl",
            "loss_agg_mode": "seq-mean-token-mean",
            "optim": {"lr": 1e-6},
        },
    },
}
NEMO_GRPO = {
    "grpo": {"num_prompts_per_step": 32, "num_generations_per_prompt": 16, "use_leave_one_out_baseline": True},
    "loss_fn": {"reference_policy_kl_penalty": 0.01, "token_level_loss": True, "ratio_clip_min": 0.2},
    "policy": {"model_name": "Qwen/Qwen2.5-1.5B", "train_global_batch_size": 512, "precision": "bfloat16"},
}
FILES = (("trl", "grpo", TRL_GRPO), ("axolotl", "", AXOLOTL_DPO), ("verl", "", VERL_GRPO), ("nemo_rl", "", NEMO_GRPO))


def option_names(stage):
    return set(read_signature(registry.stages()[stage].target).names)


def test_every_mapped_option_is_one_of_its_stage():
    for name, rules in CONFIG_LIBRARIES.items():
        for stage, own in rules.stages.items():
            assert mapped_options(own.keys) <= option_names(stage), (name, stage)
        every_stage = set.union(*(option_names(stage) for stage in rules.stages))
        assert mapped_options(rules.keys) <= every_stage, name


def mapped_options(keys):
    options = (rule.option if isinstance(rule, Mapped) else rule for rule in keys.values())
    return {one for one in options if one and not one.startswith("not needed")}


@pytest.mark.parametrize(("library", "stage", "settings"), FILES)
def test_the_result_is_valid_options_and_no_key_is_lost(library, stage, settings):
    found = convert_settings(settings, library, stage, "file.yaml")
    assert set(found.options) <= option_names(found.stage)
    text = found.as_yaml()
    assert yaml.safe_load(text) == found.options
    for key in found.unknown | found.needless:
        assert key in text


def test_trl_grpo():
    found = convert_settings(TRL_GRPO, "trl", "grpo", "file.yaml")
    assert found.options["data"] == "hf:openai/gsm8k:main@train"
    assert found.options["batch_size"] == 16 * 4 // 8  # completions of a step, by group
    assert found.options["loss_aggregation"] == "constant"
    assert (found.options["clip_low"], found.options["clip_high"]) == (0.2, 0.28)
    assert found.options["lr"] == 2e-6
    assert found.options["kl_coef"] == 0.0  # TRL's default, ours is 0.04
    assert found.unknown == {"use_vllm": True}
    assert "packing" in found.needless


def test_axolotl_dpo():
    found = convert_settings(AXOLOTL_DPO, "axolotl", "", "file.yaml")
    assert found.stage == "dpo"
    assert found.options["loss"] == "ipo"
    assert found.options["data"] == "hf:Intel/orca_dpo_pairs@train,own.jsonl"
    assert found.options["batch_size"] == 8
    assert found.options["lora_targets"] == "all-linear"
    assert found.unknown == {}


def test_verl_grpo():
    found = convert_settings(VERL_GRPO, "verl", "", "file.yaml")
    assert found.stage == "grpo"
    assert found.options["rollout_prompts"] == 512
    assert found.options["batch_size"] == 128
    assert found.options["scale_rewards"] == "none"
    assert found.options["loss_aggregation"] == "sequence"
    assert found.options["kl_coef"] == 0.001
    assert found.unknown == {"actor_rollout_ref.rollout.name": "vllm"}


def test_verl_without_its_kl_switch_has_no_kl():
    settings = {**VERL_GRPO, "actor_rollout_ref": {"actor": {"kl_loss_coef": 0.001}}}
    assert convert_settings(settings, "verl", "", "file.yaml").options["kl_coef"] == 0.0


def test_nemo_rl_counts_responses():
    found = convert_settings(NEMO_GRPO, "nemo_rl", "", "file.yaml")
    assert found.options["batch_size"] == 512 // 16
    assert found.options["advantage_baseline"] == "leave_one_out"
    assert found.options["loss_aggregation"] == "token"


def test_a_value_without_counterpart_is_listed():
    found = convert_settings({"loss_type": ["sigmoid", "sft"], "warmup_ratio": 0.1}, "trl", "dpo", "file.yaml")
    assert found.unknown == {"loss_type": ["sigmoid", "sft"]}
    assert found.options["warmup_steps"] == 0.1


def test_the_file_is_written(tmp_path):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(AXOLOTL_DPO))
    convert_config(str(tmp_path / "a.yaml"), library="axolotl", output=str(tmp_path / "b.yaml"))
    assert yaml.safe_load((tmp_path / "b.yaml").read_text())["model"] == "meta-llama/Llama-3.2-1B"


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("a: [", {"library": "trl", "stage": "sft"}, "cannot be read as YAML"),
        ("- a", {"library": "trl", "stage": "sft"}, "expected a mapping"),
        ("a: 1", {"library": "trl"}, "give --stage"),
        ("a: 1", {"library": "unsloth"}, "expected one of trl"),
        ("rl: ebft", {"library": "axolotl"}, "got ebft"),
    ],
)
def test_what_cannot_be_converted_is_one_line(tmp_path, text, options, said):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=said):
        convert_config(str(tmp_path / "a.yaml"), **options)


def test_a_missing_file_is_one_line():
    with pytest.raises(UserError, match=r"nowhere\.yaml: cannot be read"):
        convert_config("nowhere.yaml", library="trl", stage="sft")
