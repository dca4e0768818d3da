"""The workload of both sides: a randomly initialised model, a tokenizer with one token per word, and random rows.

Everything is derived from a seed. Rows are written twice: in the order in which the other side reads them
(`plan.jsonl`), and in the order that this project's shuffling maps to it (`data.jsonl`), so both see equal batches.
"""

from __future__ import annotations

import functools
import gc
import json
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
)
from transformers.models.auto.tokenization_auto import MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS
from transformers.utils import logging as transformers_logging

from zhenlong.data import Mixture
from zhenlong.loop import ledger

PAD, USER, ASSISTANT, END = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"
TEMPLATE: Final = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<|assistant|> {{ m['content'] }} <|end|>"
    "{% else %}<|user|> {{ m['content'] }} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> {% endif %}"
)
WARM_UP: Final = 2  # steps that are not timed
TEMPLATE_TOKENS: Final = 2  # tokens that the template adds to a prompt
STAGES_WITH_SAMPLING: Final = ("grpo", "ppo")  # stages with sampled responses
MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS.discard("qwen2")  # else its tokenizer would replace ours


class ResultsDiffer(Exception):
    """The two sides computed different results."""


@dataclass(frozen=True)
class ModelSize:
    """The size of a model with tied embeddings: a Llama, or a Qwen2 if it has fewer key-value heads.

    `times` scales the lengths of SHAPES and the rows per step. With too high a learning rate, two runs that differ by
    rounding diverge after a step.
    """

    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    num_kv_heads: int | None = None
    length_scale: int = 1
    lr: float = 1e-4

    def config(self, vocab_size: int, **others: Any) -> PreTrainedConfig:
        shared = {
            "vocab_size": vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads or self.num_heads,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": 1024 * self.length_scale,
            "tie_word_embeddings": True,
        }
        if self.num_kv_heads is None:
            return LlamaConfig(**shared, **others)
        return Qwen2Config(**shared, rope_parameters={"rope_type": "default", "rope_theta": 1e6}, **others)


MODEL_SIZES: Final = {
    "small": ModelSize(128, 4, 4, 384),
    "default": ModelSize(256, 6, 4, 1024),
    "medium": ModelSize(512, 8, 8, 1408),
    "qwen-0.5b": ModelSize(896, 24, 14, 4864, num_kv_heads=2, length_scale=4, lr=1e-5),
}


@dataclass(frozen=True)
class LengthShape:
    """Ranges of lengths in tokens, sampled uniformly: of prompts, and of each response."""

    prompt: tuple[int, int]
    response: tuple[int, int]

    @property
    def middle_lengths(self) -> tuple[int, int]:
        """The middle length of a prompt, and of a sampled response, at most MAX_SAMPLED_TOKENS."""
        return sum(self.prompt) // 2, min(sum(self.response) // 2, MAX_SAMPLED_TOKENS)

    def __mul__(self, times: int) -> LengthShape:
        return LengthShape(*(tuple(times * length for length in lengths) for lengths in (self.prompt, self.response)))


MAX_SAMPLED_TOKENS: Final = 128  # tokens
SHAPES: Final = {
    "even": LengthShape((32, 96), (32, 96)),
    "long_answer": LengthShape((16, 48), (96, 160)),
    "long_prompt": LengthShape((192, 320), (16, 48)),
}


@dataclass(frozen=True)
class RunSpec:
    """One training run for both sides: its number of steps, batch size, and the folder with its files.

    It also bounds the response length and the samples per prompt of a rollout, says whether to log loss and gradient
    norm of every step, and may name a file of rollouts to replay instead of sampling. `turn` is the number of steps
    after which a run yields to the other side (`interleaved_runs.py`), 0 for a run on its own.
    """

    stage: str
    folder: str
    steps: int
    batch_size: int
    threads: int
    lr: float
    model: str  # folder
    device: str = "cpu"
    samples_per_prompt: int = 8
    max_tokens: int = 64
    seed: int = 0
    log_every_step: bool = False
    rollouts_file: str = ""
    steps_per_turn: int = 0

    @property
    def data(self) -> str:
        return str(Path(self.folder) / "data.jsonl")

    def rows_in_order(self) -> list[dict[str, Any]]:
        """The rows in training order."""
        return [json.loads(line) for line in (Path(self.folder) / "plan.jsonl").read_text().splitlines()]


def scaled_shape(model: str, shape: str) -> LengthShape:
    """A shape with the lengths scaled for a model size."""
    return SHAPES[shape] * MODEL_SIZES[model].length_scale


def cached_model(
    folder: Path,
    model: str,
    vocab_size: int,
    device: str = "cpu",
    *,
    reward_head: bool = False,
    unreachable_eos: bool = False,
    eos_embedding_scale: float = 1.0,
) -> tuple[Path, int]:
    """The folder of a model, created once, on the device, and its number of parameters; see `make_model`."""
    return _make_cached_model(folder, model, vocab_size, device, reward_head, unreachable_eos, eos_embedding_scale)


@functools.cache
def _make_cached_model(
    folder: Path,
    model: str,
    vocab_size: int,
    device: str,
    reward_head: bool,
    unreachable_eos: bool,
    eos_embedding_scale: float,
) -> tuple[Path, int]:
    place = Path(tempfile.mkdtemp(prefix=f"{model}-", dir=folder))
    with torch.device(device):
        parameters = make_model(
            place,
            MODEL_SIZES[model],
            vocab_size,
            reward_head=reward_head,
            unreachable_eos=unreachable_eos,
            eos_embedding_scale=eos_embedding_scale,
        )
    release_device_memory(device)
    return place / "model", parameters


def make_model(
    folder: Path,
    size: ModelSize,
    vocab_size: int,
    *,
    reward_head: bool = False,
    unreachable_eos: bool = False,
    eos_embedding_scale: float = 1.0,
) -> int:
    """Write model and tokenizer to `folder`/model; returns the number of parameters.

    Optionally it is a reward model; or its end-of-turn token lies just outside of the vocabulary, so that on both sides
    every sampled response has the maximum length; or the embedding of the end token (tied to its output weights) is
    scaled, so that sampled responses end early.
    """
    model = new_model(size, vocab_size, reward_head=reward_head, unreachable_eos=unreachable_eos)
    with torch.no_grad():
        model.get_input_embeddings().weight[-1] *= eos_embedding_scale
    model.save_pretrained(folder / "model")
    _word_tokenizer(vocab_size, unreachable_eos).save_pretrained(folder / "model")
    return sum(parameter.numel() for parameter in model.parameters())


MODEL_CLASSES: Final = {
    (LlamaConfig, False): LlamaForCausalLM,
    (LlamaConfig, True): LlamaForSequenceClassification,
    (Qwen2Config, False): Qwen2ForCausalLM,
    (Qwen2Config, True): Qwen2ForSequenceClassification,
}


def new_model(
    size: ModelSize, vocab_size: int, *, reward_head: bool = False, unreachable_eos: bool = False
) -> PreTrainedModel:
    """A model with random weights from a fixed seed."""
    config = size.config(
        vocab_size,
        bos_token_id=None,
        eos_token_id=None if unreachable_eos else vocab_size - 1,
        pad_token_id=0,
        num_labels=1,
    )
    transformers_logging.disable_progress_bar()
    torch.manual_seed(0)
    return MODEL_CLASSES[type(config), reward_head](config)


def load_transformers_model(folder: Path) -> PreTrainedModel:
    """The causal LM of a folder, loaded by transformers, for the other side."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def make_rows(stage: str, count: int, seed: int, vocab_size: int, shape: LengthShape) -> list[dict[str, Any]]:
    """Random rows for a stage, in TRL's data format, which this project reads too.

    Prompts of rollouts all have the middle length of the shape: TRL would pad them, and padding is not measured here.
    """
    rng = np.random.default_rng(seed)
    texts = _RandomMessages(rng, vocab_size)
    found = []
    for _ in range(count):
        prompt, chosen, rejected = (
            int(rng.integers(low, high + 1)) for low, high in (shape.prompt, shape.response, shape.response)
        )
        prompt_message = texts.message("user", shape.middle_lengths[0] if stage in STAGES_WITH_SAMPLING else prompt)
        if stage == "sft":
            found.append({"messages": [prompt_message, texts.message("assistant", chosen)]})
        elif stage in STAGES_WITH_SAMPLING:
            found.append({"prompt": [prompt_message]})
        elif stage == "kto":  # desirable and undesirable, alternating
            answer = [texts.message("assistant", chosen)]
            found.append({"prompt": [prompt_message], "completion": answer, "label": len(found) % 2 == 0})
        else:
            answers = {
                "chosen": [texts.message("assistant", chosen)],
                "rejected": [texts.message("assistant", rejected)],
            }
            found.append({"prompt": [prompt_message]} | answers)
    return found


def count_tokens(row: dict[str, Any]) -> int:
    """Tokens of a row's sequences, each response with its prompt, as for a trainer without prompt sharing."""
    if "messages" in row:
        asked, told = row["messages"]
        return _message_tokens(asked) + _message_tokens(told)
    answers = [turn for name in ("chosen", "rejected", "completion") for turn in row.get(name, [])]
    return sum(_message_tokens(row["prompt"][0]) + _message_tokens(answer) for answer in answers)


def _message_tokens(turn: dict[str, str]) -> int:
    return len(turn["content"].split()) + (1 if turn["role"] == "assistant" else TEMPLATE_TOKENS)


def write_rows(folder: Path, rows: list[dict[str, Any]], seed: int) -> None:
    """Write the rows in training order, and in the order that this project's shuffling maps to it."""
    placed: list[dict[str, Any]] = [{} for _ in rows]
    for row, place in zip(rows, Mixture([len(rows)], None, seed).draw(len(rows)), strict=True):
        placed[place] = row
    for name, listed in (("plan", rows), ("data", placed)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))


def word_sum_reward(prompts: list[Any], responses: list[str]) -> list[float]:
    """The reward of both sides: computed from the words, cheap, and different for nearly every text."""
    return [float(sum(int(word[1:]) % 13 for word in text.split())) for text in responses]


@dataclass(frozen=True)
class _RandomMessages:
    rng: np.random.Generator
    vocab_size: int

    def message(self, role: str, tokens: int) -> dict[str, str]:
        """A turn of `tokens` tokens, including those that the template adds."""
        count = tokens - (1 if role == "assistant" else TEMPLATE_TOKENS)
        return {"role": role, "content": " ".join(f"w{n}" for n in self.rng.integers(3, self.vocab_size - 1, count))}


def _word_tokenizer(vocab_size: int, unreachable_eos: bool) -> PreTrainedTokenizerFast:
    """One token per word: w3, w4, ... with their numbers as ids, and four special tokens."""
    end = vocab_size if unreachable_eos else vocab_size - 1
    ids = {PAD: 0, USER: 1, ASSISTANT: 2, **{f"w{n}": n for n in range(3, end)}, END: end}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=PAD))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([PAD, USER, ASSISTANT, END])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, unk_token=PAD)
    fast.add_special_tokens({"additional_special_tokens": [USER, ASSISTANT]})
    fast.chat_template = TEMPLATE
    return fast


def peak_memory() -> int:
    """Peak resident bytes of this process since its start.

    Not `ru_maxrss`: on Linux a new process inherits its parent's peak.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line)
    return ledger.peak_memory(torch.device("cpu"))


def with_device_memory(spec: RunSpec, train: Callable[[], Any]) -> Any:
    """The outcome of `train`, on CUDA with peak device memory minus fp32 weights; device memory is freed afterwards.

    Both sides' processes share the device: a waiting process, or one with a failed run, holds no device memory.
    """
    if spec.device == "cpu":
        return train()
    torch.cuda.init()  # before this there are no counters
    torch.cuda.reset_peak_memory_stats()
    try:
        outcome = train()
    except Exception as error:
        traceback.clear_frames(error.__traceback__)  # frames hold tensors of the run
        raise
    finally:
        release_device_memory(spec.device)
    weights = (Path(spec.model) / "model.safetensors").stat().st_size
    outcome.peak = float(torch.cuda.max_memory_allocated() - weights)
    return outcome


def release_device_memory(device: str) -> None:
    """Release cached memory of a CUDA device."""
    if device != "cpu":
        gc.collect()
        torch.cuda.empty_cache()
