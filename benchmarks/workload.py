"""What both sides train on: a randomly initialised model, a tokenizer of one token a word, and rows of known lengths.

Everything is made from a seed. A row is written twice, in the order in which the other side reads it (`plan.jsonl`) and
in the order that makes this project's shuffled draw give the same rows (`data.jsonl`), so both see equal batches.
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
FRAME: Final = 2  # tokens that the template puts around a prompt
ROLLING: Final = ("grpo", "ppo")  # kinds whose answers are sampled
MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS.discard("qwen2")  # whose tokenizer would be taken in place of ours


class Unequal(Exception):
    """The two sides did not compute the same."""


@dataclass(frozen=True)
class Size:
    """The shape of a model with tied embeddings: a Llama, or a Qwen2 where the key-value heads are fewer.

    `times` is how much longer its texts are than SHAPES, and how many more rows of them a step has. With too high a
    learning rate two runs that differ by rounding part after a step.
    """

    hidden: int
    layers: int
    heads: int
    inner: int
    kv_heads: int | None = None
    times: int = 1
    lr: float = 1e-4

    def config(self, vocabulary: int, **others: Any) -> PreTrainedConfig:
        shared = {
            "vocab_size": vocabulary,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads or self.heads,
            "intermediate_size": self.inner,
            "max_position_embeddings": 1024 * self.times,
            "tie_word_embeddings": True,
        }
        if self.kv_heads is None:
            return LlamaConfig(**shared, **others)
        return Qwen2Config(**shared, rope_parameters={"rope_type": "default", "rope_theta": 1e6}, **others)


SIZES: Final = {
    "small": Size(128, 4, 4, 384),
    "default": Size(256, 6, 4, 1024),
    "medium": Size(512, 8, 8, 1408),
    "qwen-0.5b": Size(896, 24, 14, 4864, kv_heads=2, times=4, lr=1e-5),
}


@dataclass(frozen=True)
class Shape:
    """Lengths in tokens, each drawn evenly between two: of prompts, and of each answer to it."""

    prompt: tuple[int, int]
    answer: tuple[int, int]

    @property
    def middle(self) -> tuple[int, int]:
        """The middle length of a prompt, and that of a sampled answer, at most MOST_SAMPLED."""
        return sum(self.prompt) // 2, min(sum(self.answer) // 2, MOST_SAMPLED)

    def __mul__(self, times: int) -> Shape:
        return Shape(*(tuple(times * length for length in lengths) for lengths in (self.prompt, self.answer)))


MOST_SAMPLED: Final = 128  # tokens
SHAPES: Final = {
    "even": Shape((32, 96), (32, 96)),
    "long_answer": Shape((16, 48), (96, 160)),
    "long_prompt": Shape((192, 320), (16, 48)),
}


@dataclass(frozen=True)
class Work:
    """One training run that both sides do: `steps` updates from `batch` rows each, out of the files in `folder`.

    `new_tokens` is the longest answer of a rollout, `group` the answers to a prompt; `logged` asks for the loss and
    gradient norm of every step, `replay` is a file of rollouts to learn from in place of new ones. `turn` is the number
    of steps after which a run lets the other side work (`turns.py`), 0 for a run by itself.
    """

    what: str
    folder: str
    steps: int
    batch: int
    threads: int
    lr: float
    model: str  # its folder
    device: str = "cpu"
    group: int = 8
    new_tokens: int = 64
    seed: int = 0
    logged: bool = False
    replay: str = ""
    turn: int = 0

    @property
    def data(self) -> str:
        return str(Path(self.folder) / "data.jsonl")

    def plan(self) -> list[dict[str, Any]]:
        """The rows in the order of training."""
        return [json.loads(line) for line in (Path(self.folder) / "plan.jsonl").read_text().splitlines()]


def shape_of(model: str, shape: str) -> Shape:
    """A shape in the lengths of a model's size."""
    return SHAPES[shape] * SIZES[model].times


def kept_model(
    folder: Path,
    model: str,
    vocabulary: int,
    device: str = "cpu",
    *,
    scores: bool = False,
    endless: bool = False,
    end_scale: float = 1.0,
) -> tuple[Path, int]:
    """The folder of a model that is made once, on the device, and its number of parameters; see `make_model`."""
    return _made(folder, model, vocabulary, device, scores, endless, end_scale)


@functools.cache
def _made(
    folder: Path, model: str, vocabulary: int, device: str, scores: bool, endless: bool, end_scale: float
) -> tuple[Path, int]:
    place = Path(tempfile.mkdtemp(prefix=f"{model}-", dir=folder))
    with torch.device(device):
        parameters = make_model(place, SIZES[model], vocabulary, scores=scores, endless=endless, end_scale=end_scale)
    release(device)
    return place / "model", parameters


def make_model(
    folder: Path, size: Size, vocabulary: int, *, scores: bool = False, endless: bool = False, end_scale: float = 1.0
) -> int:
    """Write model and tokenizer to `folder`/model; returns the number of parameters.

    With `scores` it is a reward model. With `endless` the end-of-turn token lies just outside of the model's
    vocabulary, so that no sampled answer ends before its longest length, on either side. `end_scale` scales the end's
    embedding (tied: its output weights too), so that sampled answers do end.
    """
    model = new_model(size, vocabulary, scores=scores, endless=endless)
    with torch.no_grad():
        model.get_input_embeddings().weight[-1] *= end_scale
    model.save_pretrained(folder / "model")
    _tokenizer(vocabulary, endless).save_pretrained(folder / "model")
    return sum(parameter.numel() for parameter in model.parameters())


MODELS: Final = {
    (LlamaConfig, False): LlamaForCausalLM,
    (LlamaConfig, True): LlamaForSequenceClassification,
    (Qwen2Config, False): Qwen2ForCausalLM,
    (Qwen2Config, True): Qwen2ForSequenceClassification,
}


def new_model(size: Size, vocabulary: int, *, scores: bool = False, endless: bool = False) -> PreTrainedModel:
    """A model with random weights, the same ones each time."""
    config = size.config(
        vocabulary,
        bos_token_id=None,
        eos_token_id=None if endless else vocabulary - 1,
        pad_token_id=0,
        num_labels=1,
    )
    transformers_logging.disable_progress_bar()
    torch.manual_seed(0)
    return MODELS[type(config), scores](config)


def plain_model(folder: Path) -> PreTrainedModel:
    """The causal model of a folder as transformers loads it, for the other side."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def make_rows(what: str, rows: int, seed: int, vocabulary: int, shape: Shape) -> list[dict[str, Any]]:
    """Random rows of a kind, in the form of TRL's data sets, which this project reads too.

    Prompts of rollouts all have the middle length of the shape: TRL would pad them, and this is not about padding.
    """
    rng = np.random.default_rng(seed)
    words = _Words(rng, vocabulary)
    found = []
    for _ in range(rows):
        prompt, chosen, rejected = (
            int(rng.integers(low, high + 1)) for low, high in (shape.prompt, shape.answer, shape.answer)
        )
        asked = words.said("user", shape.middle[0] if what in ROLLING else prompt)
        if what == "sft":
            found.append({"messages": [asked, words.said("assistant", chosen)]})
        elif what in ROLLING:
            found.append({"prompt": [asked]})
        elif what == "kto":  # thumbs up and down in turn
            answer = [words.said("assistant", chosen)]
            found.append({"prompt": [asked], "completion": answer, "label": len(found) % 2 == 0})
        else:
            answers = {
                "chosen": [words.said("assistant", chosen)],
                "rejected": [words.said("assistant", rejected)],
            }
            found.append({"prompt": [asked]} | answers)
    return found


def tokens(row: dict[str, Any]) -> int:
    """Tokens of a row's sequences, each response with its prompt, as a trainer without shared prompts reads them."""
    if "messages" in row:
        asked, told = row["messages"]
        return _length(asked) + _length(told)
    answers = [turn for name in ("chosen", "rejected", "completion") for turn in row.get(name, [])]
    return sum(_length(row["prompt"][0]) + _length(answer) for answer in answers)


def _length(turn: dict[str, str]) -> int:
    return len(turn["content"].split()) + (1 if turn["role"] == "assistant" else FRAME)


def write_rows(folder: Path, rows: list[dict[str, Any]], seed: int) -> None:
    """Write the rows in the order of training and in the order that this project's draw turns into it."""
    placed: list[dict[str, Any]] = [{} for _ in rows]
    for row, place in zip(rows, Mixture([len(rows)], None, seed).draw(len(rows)), strict=True):
        placed[place] = row
    for name, listed in (("plan", rows), ("data", placed)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))


def worth(prompts: list[Any], responses: list[str]) -> list[float]:
    """The reward of both sides: a number made from the words, cheap to compute and different for nearly every text."""
    return [float(sum(int(word[1:]) % 13 for word in text.split())) for text in responses]


@dataclass(frozen=True)
class _Words:
    rng: np.random.Generator
    vocabulary: int

    def said(self, role: str, tokens: int) -> dict[str, str]:
        """A turn of `tokens` tokens, with those that the template adds."""
        count = tokens - (1 if role == "assistant" else FRAME)
        return {"role": role, "content": " ".join(f"w{n}" for n in self.rng.integers(3, self.vocabulary - 1, count))}


def _tokenizer(vocabulary: int, endless: bool) -> PreTrainedTokenizerFast:
    """One token a word: w3, w4, ... with their own numbers as ids, and four markers."""
    end = vocabulary if endless else vocabulary - 1
    ids = {PAD: 0, USER: 1, ASSISTANT: 2, **{f"w{n}": n for n in range(3, end)}, END: end}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=PAD))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([PAD, USER, ASSISTANT, END])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, unk_token=PAD)
    fast.add_special_tokens({"additional_special_tokens": [USER, ASSISTANT]})
    fast.chat_template = TEMPLATE
    return fast


def peak_memory() -> int:
    """Most resident bytes of this process since it began.

    Not `ru_maxrss`: on Linux a new process begins with what that of its parent was, however small it is itself.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line)
    return ledger.peak_memory(torch.device("cpu"))


def within_device(work: Work, run: Callable[[], Any]) -> Any:
    """The outcome of `run`, on CUDA with the most memory of the device beyond fp32 weights, which is free afterwards.

    Both sides' processes share the device: one that waits holds nothing there, nor does one whose run has failed.
    """
    if work.device == "cpu":
        return run()
    torch.cuda.init()  # the counters are none before
    torch.cuda.reset_peak_memory_stats()
    try:
        outcome = run()
    except Exception as error:
        traceback.clear_frames(error.__traceback__)  # they hold what the run computed
        raise
    finally:
        release(work.device)
    weights = (Path(work.model) / "model.safetensors").stat().st_size
    outcome.peak = float(torch.cuda.max_memory_allocated() - weights)
    return outcome


def release(device: str) -> None:
    """Give back memory of a CUDA device that no tensor uses any more."""
    if device != "cpu":
        gc.collect()
        torch.cuda.empty_cache()
