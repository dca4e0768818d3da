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
from turns import Pace
from workload import Work, worth
from zhenlong_side import Outcome

from zhenlong.data import Template
from zhenlong.records import Message


def train(work: Work, settings: dict[str, Any]) -> Outcome:
    """Run the trainer; `settings` are arguments of its config beside those that both sides share."""
    return workload.within_device(work, lambda: _train(work, settings))


def _train(work: Work, settings: dict[str, Any]) -> Outcome:
    torch.set_num_threads(work.threads)
    _quiet()
    clock = _Clock(work)
    with tempfile.TemporaryDirectory(prefix="trl-benchmark-") as output:
        trainer = _trainer(work, output, settings, clock)
        trainer.remove_callback(PrinterCallback)
        clock.watch(trainer, work)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.train()
        if work.logged:
            logged = [line for line in trainer.state.log_history if "grad_norm" in line]
            clock.outcome.losses = [line["loss"] for line in logged]
            clock.outcome.norms = [line["grad_norm"] for line in logged]
        else:
            clock.outcome.losses = [trainer.state.log_history[-1]["train_loss"]]
        if settings.get("_save"):
            trainer.save_model(output)
    return clock.outcome


def peak_memory(work: Work, settings: dict[str, Any]) -> Outcome:
    """The same run in a process of its own, with the most resident memory beyond that of the libraries and data."""
    torch.set_num_threads(work.threads)
    AutoModelForCausalLM.from_pretrained(work.model, dtype=torch.float32)
    gc.collect()
    before = workload.peak_memory()
    outcome = train(work, settings | {"_save": True})
    outcome.peak = float(workload.peak_memory() - before)
    return outcome


class _Clock(TrainerCallback):
    """Notes how long each step takes, in this side's turns, and what a GRPO step generated."""

    def __init__(self, work: Work) -> None:
        self._pace = Pace(work, torch.float32)
        self.outcome = Outcome(self._pace.seconds)
        self._device = work.device
        self.rollouts: list[list[Any]] = []
        self.replay = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self._pace.begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if self._device != "cpu":
            torch.cuda.synchronize()
        self._pace.end()
        if state.global_step < state.max_steps:
            self._pace.begin()

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if self.rollouts and self.replay:
            Path(self.replay).write_text(json.dumps(self.rollouts))

    def watch(self, trainer: Any, work: Work) -> None:
        self.replay = work.replay
        if work.what != "grpo":
            return
        generate = trainer._generate_and_score_completions

        def noted(inputs: Any) -> Any:
            found = generate(inputs)
            tokens = float(found["completion_mask"].sum())
            self.outcome.answers.append(tokens)
            self.outcome.scored.append(tokens)
            if work.replay:
                self.rollouts.append(_rollout(found))
            return found

        trainer._generate_and_score_completions = noted


def _rollout(found: dict[str, torch.Tensor]) -> list[list[list[int]]]:
    """(prompt, answer) pairs of ids, without padding."""
    pairs = []
    for name in ("prompt", "completion"):
        rows = zip(found[f"{name}_ids"], found[f"{name}_mask"].bool(), strict=True)
        pairs.append([ids[mask].tolist() for ids, mask in rows])
    return [list(pair) for pair in zip(*pairs, strict=True)]


def _trainer(work: Work, output: str, settings: dict[str, Any], clock: _Clock) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(work.model)
    settings = {name: value for name, value in settings.items() if not name.startswith("_")}
    microbatch = settings.get("per_device_train_batch_size", 8)
    rows = work.batch * (work.group if work.what == "grpo" else 1)
    shared = {
        "output_dir": output,
        "learning_rate": work.lr,
        "lr_scheduler_type": "constant",
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "gradient_accumulation_steps": max(1, rows // microbatch),
        "max_steps": work.steps,
        "seed": work.seed,
        "train_sampling_strategy": "sequential",
        "dataloader_num_workers": 0,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": work.device == "cpu",
    }
    arguments: dict[str, Any] = {"callbacks": [clock], "processing_class": tokenizer}
    if work.logged:
        settings = settings | {"logging_strategy": "steps", "logging_steps": 1}
    make = {"sft": _sft, "dpo": _dpo, "kto": _kto, "reward_model": _reward, "grpo": _grpo}[work.what]
    with contextlib.redirect_stdout(open(os.devnull, "w")), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(work, tokenizer, shared | settings, arguments)


def _sft(work: Work, tokenizer: Any, settings: dict[str, Any], arguments: dict[str, Any]) -> SFTTrainer:
    template = Template.of(tokenizer)
    ids, labels = [], []
    for row in work.plan():
        tokens, scored = template.conversation(tuple(Message(**m) for m in row["messages"]))
        ids.append(tokens)
        labels.append([token if counts else -100 for token, counts in zip(tokens, scored, strict=True)])
    data = Dataset.from_dict({"input_ids": ids, "labels": labels})
    config = SFTConfig(max_length=None, **settings)
    return SFTTrainer(_causal(work), config, train_dataset=data, **arguments)


def _dpo(work: Work, tokenizer: Any, settings: dict[str, Any], arguments: dict[str, Any]) -> DPOTrainer:
    config = DPOConfig(beta=0.1, max_length=None, **settings)
    return DPOTrainer(_causal(work), args=config, train_dataset=Dataset.from_list(work.plan()), **arguments)


def _kto(work: Work, tokenizer: Any, settings: dict[str, Any], arguments: dict[str, Any]) -> KTOTrainer:
    config = KTOConfig(beta=0.1, max_length=None, **settings)
    return KTOTrainer(_causal(work), args=config, train_dataset=Dataset.from_list(work.plan()), **arguments)


def _reward(work: Work, tokenizer: Any, settings: dict[str, Any], arguments: dict[str, Any]) -> RewardTrainer:
    config = RewardConfig(max_length=None, disable_dropout=True, **settings)
    model = AutoModelForSequenceClassification.from_pretrained(work.model, num_labels=1, dtype=torch.float32)
    return RewardTrainer(model, args=config, train_dataset=Dataset.from_list(work.plan()), **arguments)


def _grpo(work: Work, tokenizer: Any, settings: dict[str, Any], arguments: dict[str, Any]) -> GRPOTrainer:
    config = GRPOConfig(
        num_generations=work.group,
        max_completion_length=work.new_tokens,
        beta=0.0,
        num_iterations=1,
        temperature=1.0,
        shuffle_dataset=False,
        **settings,
    )
    return GRPOTrainer(_causal(work), reward_funcs=_words_worth, args=config,
                       train_dataset=Dataset.from_list(work.plan()), **arguments)  # fmt: skip


def _words_worth(prompts: list[Any], completions: list[Any], **others: Any) -> list[float]:
    return worth(prompts, [turns[0]["content"] for turns in completions])


def _causal(work: Work) -> Any:
    return AutoModelForCausalLM.from_pretrained(work.model, dtype=torch.float32)


def _quiet() -> None:
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    disable_progress_bar()
    os.environ["TQDM_DISABLE"] = "1"
