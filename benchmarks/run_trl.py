"""The same training run by TRL's trainers, set as `trl_settings.py` says."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import workload
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from interleaved_runs import StepClock
from run_zhenlong import RunMeasurements
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PrinterCallback,
    TrainerCallback,
)
from transformers.utils import logging as transformers_logging
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)
from workload import RunSpec, word_sum_reward

from zhenlong.data import ChatTemplate
from zhenlong.records import Message


def train(spec: RunSpec, settings: dict[str, Any]) -> RunMeasurements:
    """Run the trainer; `settings` are arguments of its config beside those that both sides share."""
    return workload.with_device_memory(spec, lambda: _train(spec, settings))


def _train(spec: RunSpec, settings: dict[str, Any]) -> RunMeasurements:
    torch.set_num_threads(spec.threads)
    _silence_logging()
    clock = _TimingCallback(spec)
    with tempfile.TemporaryDirectory(prefix="trl-benchmark-") as output:
        trainer = _trainer(spec, output, settings, clock)
        trainer.remove_callback(PrinterCallback)
        clock.record_rollouts(trainer, spec)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.train()
        if spec.log_every_step:
            logged = [line for line in trainer.state.log_history if "grad_norm" in line]
            clock.outcome.losses = [line["loss"] for line in logged]
            clock.outcome.grad_norms = [line["grad_norm"] for line in logged]
        else:
            clock.outcome.losses = [trainer.state.log_history[-1]["train_loss"]]
        if settings.get("_save"):
            trainer.save_model(output)
    return clock.outcome


def peak_memory(spec: RunSpec, settings: dict[str, Any]) -> RunMeasurements:
    """The same run in a process of its own, with the most resident memory beyond that of the libraries and data."""
    torch.set_num_threads(spec.threads)
    AutoModelForCausalLM.from_pretrained(spec.model, dtype=torch.float32)
    gc.collect()
    before = workload.peak_memory()
    outcome = train(spec, settings | {"_save": True})
    outcome.peak_memory_bytes = float(workload.peak_memory() - before)
    return outcome


class _TimingCallback(TrainerCallback):
    """Notes how long each step takes, in this side's turns, and what a GRPO step generated."""

    def __init__(self, spec: RunSpec) -> None:
        self._clock = StepClock(spec, torch.float32)
        self.outcome = RunMeasurements(self._clock.seconds)
        self._device = spec.device
        self.rollouts: list[list[Any]] = []
        self.rollouts_file = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self._clock.begin_step()

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if self._device != "cpu":
            torch.cuda.synchronize()
        self._clock.end_step()
        if state.global_step < state.max_steps:
            self._clock.begin_step()

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if self.rollouts and self.rollouts_file:
            Path(self.rollouts_file).write_text(json.dumps(self.rollouts))

    def record_rollouts(self, trainer: Any, spec: RunSpec) -> None:
        self.rollouts_file = spec.rollouts_file
        if spec.stage != "grpo":
            return
        generate = trainer._generate_and_score_completions

        def noted(inputs: Any) -> Any:
            found = generate(inputs)
            tokens = float(found["completion_mask"].sum())
            self.outcome.generated_tokens.append(tokens)
            self.outcome.loss_tokens.append(tokens)
            if spec.rollouts_file:
                self.rollouts.append(_unpadded_pairs(found))
            return found

        trainer._generate_and_score_completions = noted


def _unpadded_pairs(found: dict[str, torch.Tensor]) -> list[list[list[int]]]:
    """(prompt, answer) pairs of ids, without padding."""
    pairs = []
    for name in ("prompt", "completion"):
        rows = zip(found[f"{name}_ids"], found[f"{name}_mask"].bool(), strict=True)
        pairs.append([ids[mask].tolist() for ids, mask in rows])
    return [list(pair) for pair in zip(*pairs, strict=True)]


def _trainer(spec: RunSpec, output: str, settings: dict[str, Any], clock: _TimingCallback) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(spec.model)
    settings = {name: value for name, value in settings.items() if not name.startswith("_")}
    microbatch = settings.get("per_device_train_batch_size", 8)
    rows = spec.batch_size * (spec.samples_per_prompt if spec.stage == "grpo" else 1)
    shared = {
        "output_dir": output,
        "learning_rate": spec.lr,
        "lr_scheduler_type": "constant",
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "gradient_accumulation_steps": max(1, rows // microbatch),
        "max_steps": spec.steps,
        "seed": spec.seed,
        "train_sampling_strategy": "sequential",
        "dataloader_num_workers": 0,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": spec.device == "cpu",
    }
    arguments: dict[str, Any] = {"callbacks": [clock], "processing_class": tokenizer}
    if spec.log_every_step:
        settings = settings | {"logging_strategy": "steps", "logging_steps": 1}
    make = {"sft": _sft, "dpo": _dpo, "kto": _kto, "reward_model": _reward, "grpo": _grpo}[spec.stage]
    with contextlib.redirect_stdout(open(os.devnull, "w")), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(spec, tokenizer, shared | settings, arguments)


def _sft(spec: RunSpec, tokenizer: Any, settings: dict[str, Any], arguments: dict[str, Any]) -> SFTTrainer:
    template = ChatTemplate.from_tokenizer(tokenizer)
    ids, labels = [], []
    for row in spec.rows_in_order():
        tokens, scored = template.encode_conversation(tuple(Message(**m) for m in row["messages"]))
        ids.append(tokens)
        labels.append([token if counts else -100 for token, counts in zip(tokens, scored, strict=True)])
    data = Dataset.from_dict({"input_ids": ids, "labels": labels})
    config = SFTConfig(max_length=None, **settings)
    return SFTTrainer(_load_causal_lm(spec), config, train_dataset=data, **arguments)


def _dpo(spec: RunSpec, tokenizer: Any, settings: dict[str, Any], arguments: dict[str, Any]) -> DPOTrainer:
    config = DPOConfig(beta=0.1, max_length=None, **settings)
    return DPOTrainer(
        _load_causal_lm(spec), args=config, train_dataset=Dataset.from_list(spec.rows_in_order()), **arguments
    )


def _kto(spec: RunSpec, tokenizer: Any, settings: dict[str, Any], arguments: dict[str, Any]) -> KTOTrainer:
    config = KTOConfig(beta=0.1, max_length=None, **settings)
    return KTOTrainer(
        _load_causal_lm(spec), args=config, train_dataset=Dataset.from_list(spec.rows_in_order()), **arguments
    )


def _reward(spec: RunSpec, tokenizer: Any, settings: dict[str, Any], arguments: dict[str, Any]) -> RewardTrainer:
    config = RewardConfig(max_length=None, disable_dropout=True, **settings)
    model = AutoModelForSequenceClassification.from_pretrained(spec.model, num_labels=1, dtype=torch.float32)
    return RewardTrainer(model, args=config, train_dataset=Dataset.from_list(spec.rows_in_order()), **arguments)


def _grpo(spec: RunSpec, tokenizer: Any, settings: dict[str, Any], arguments: dict[str, Any]) -> GRPOTrainer:
    config = GRPOConfig(
        num_generations=spec.samples_per_prompt,
        max_completion_length=spec.max_tokens,
        beta=0.0,
        num_iterations=1,
        temperature=1.0,
        shuffle_dataset=False,
        **settings,
    )
    return GRPOTrainer(_load_causal_lm(spec), reward_funcs=_reward_fn, args=config,
                       train_dataset=Dataset.from_list(spec.rows_in_order()), **arguments)  # fmt: skip


def _reward_fn(prompts: list[Any], completions: list[Any], **others: Any) -> list[float]:
    return word_sum_reward(prompts, [turns[0]["content"] for turns in completions])


def _load_causal_lm(spec: RunSpec) -> Any:
    return AutoModelForCausalLM.from_pretrained(spec.model, dtype=torch.float32)


def _silence_logging() -> None:
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    disable_progress_bar()
    os.environ["TQDM_DISABLE"] = "1"
