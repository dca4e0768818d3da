"""The sampler against transformers' `generate`: same model, prompts, number of samples and tokens, same threads.

    python benchmarks/sampling.py [--size pocket|small] [--vocabulary 1024] [--prompts 8] [--samples 8] [--threads 2]

First both decode greedily and must give the same ids. Then they alternate (A B, B A, ...) in settings of their own:
`fixed` forbids the end-of-text id, so that every completion has `--new_tokens`; `random` makes one token in 32 end a
completion, and tokens a second count those up to the end; `ragged` is `fixed` with prompts of uneven length, which
`generate` pads. Printed are the medians, and the ratio of each pair: its median, lowest and highest.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from scipy.stats import chisquare
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from workload import Shape, Unequal, kept_model, plain_model

from zhenlong.loop import Cost
from zhenlong.loop.ledger import matmul_rate
from zhenlong.models import load_model
from zhenlong.sampling import Sampling, TorchSampler

SIZES = {  # random weights: speed does not depend on their values
    "pocket": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 6, "num_attention_heads": 4},
    "small": {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
}  # fmt: skip
PAD = 0
PARTS: Final = 16  # of equal probability, into which the vocabulary is cut
LEAST_P: Final = 1e-6  # below it, the tokens of a fixed seed are not those of the model
CHECKED_TOKENS: Final = 16  # of greedy answers on CUDA


@dataclass
class Setting:
    """What both sides are asked to do."""

    prompts: list[list[int]]
    samples: int
    tokens: int
    stop_ids: tuple[int, ...] = ()
    greedy: bool = False


def ours(sampler: TorchSampler, setting: Setting, seed: int) -> list[list[int]]:
    """Generated ids, row by row, by the sampler."""
    sampling = Sampling(0.0 if setting.greedy else 1.0, max_tokens=setting.tokens, stop_ids=setting.stop_ids, seed=seed)
    found = sampler.sample(setting.prompts, sampling, setting.samples)
    return [list(completion.ids) for of_prompt in found for completion in of_prompt]


def theirs(model: LlamaForCausalLM, setting: Setting, seed: int) -> list[list[int]]:
    """Generated ids, row by row, by `generate`; what follows the end is cut off."""
    torch.manual_seed(seed)
    longest = max(map(len, setting.prompts))
    rows = [prompt for prompt in setting.prompts for _ in range(setting.samples)]
    ids = torch.tensor([[PAD] * (longest - len(row)) + row for row in rows], device=model.device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=model.device)
    how = {} if setting.greedy else {"do_sample": True, "top_k": 0}
    config = GenerationConfig(
        **how,
        max_new_tokens=setting.tokens,
        eos_token_id=list(setting.stop_ids) or None,
        pad_token_id=PAD,
    )
    out = model.generate(ids, attention_mask=mask, generation_config=config)[:, longest:].tolist()
    return [_until_stop(row, setting.stop_ids) for row in out]


def compare(
    name: str, a: Callable[[int], list[list[int]]], b: Callable[[int], list[list[int]]], repeats: int
) -> list[tuple[float, float]]:
    """Time both in alternation; prints and returns their tokens a second, pair by pair."""
    speeds: list[tuple[float, float]] = []
    for repeat in range(repeats + 1):
        pair = [0.0, 0.0]
        for side in (0, 1) if repeat % 2 else (1, 0):
            started = time.perf_counter()
            rows = (a, b)[side](repeat)
            pair[side] = sum(map(len, rows)) / (time.perf_counter() - started)
        if repeat:  # the first round warms up
            speeds.append((pair[0], pair[1]))
    ratios = sorted(one / other for one, other in speeds)
    medians = [statistics.median(side) for side in zip(*speeds, strict=True)]
    print(
        f"{name:<8} zhenlong {medians[0]:7.0f} tokens/s   generate {medians[1]:7.0f} tokens/s   "
        f"ratio {statistics.median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})"
    )
    return speeds


def measured(folder: Path, shape: Shape, asked: argparse.Namespace) -> dict[str, Any]:
    """8 prompts x 8 samples in a shape's middle lengths: `speeds` of pairs, and our `share` of the matmul rate.

    Both are compared in fp32, whatever the dtype in which they are timed.
    """
    vocabulary, dtype = asked.vocabulary, getattr(torch, asked.dtype)
    place, _ = kept_model(folder, asked.model, vocabulary, asked.device, endless=True)
    model, tokenizer = load_model(str(place), device=asked.device)
    plain = plain_model(place).to(asked.device)
    sampler = TorchSampler(model, tokenizer)
    torch.manual_seed(0)
    length, new = shape.middle
    setting = Setting(torch.randint(1, vocabulary, (8, length)).tolist(), 8, new)
    checked = new if asked.device == "cpu" else min(new, CHECKED_TOKENS)
    check_agreement(sampler, plain, replace(setting, samples=1, tokens=checked, greedy=True))
    check_first_tokens(sampler, plain, setting.prompts[0][:16])
    model.to(dtype), plain.to(dtype)
    sampler = TorchSampler(model, tokenizer)
    speeds = compare("sampling", lambda s: ours(sampler, setting, s), lambda s: theirs(plain, setting, s), asked.pairs)
    pairs = 8 * length * (length + 1) / 2 + 64 * sum(length + place for place in range(new))
    flops = Cost.of(model).forward(8 * length + 64 * new, 64 * new, pairs)
    seconds = 64 * new / statistics.median(speed for speed, _ in speeds)
    return {"speeds": speeds, "share": flops / seconds / matmul_rate(torch.device(asked.device), dtype)}


def check_first_tokens(sampler: TorchSampler, model: LlamaForCausalLM, prompt: list[int], drawn: int = 1024) -> None:
    """Stop unless the first tokens of either side are spread as the model's probabilities say (chi-square)."""
    with torch.no_grad():
        probabilities = model(torch.tensor([prompt], device=model.device)).logits[0, -1].cpu().double().softmax(-1)
    order = probabilities.argsort(descending=True)
    part = torch.empty_like(order)
    part[order] = (probabilities[order].cumsum(0) * PARTS).long().clamp(max=PARTS - 1)
    expected = torch.zeros(PARTS, dtype=torch.double).index_add(0, part, probabilities) * drawn
    setting = Setting([prompt], drawn, 1)
    for name, rows in (("zhenlong", ours(sampler, setting, 0)), ("generate", theirs(model, setting, 0))):
        seen = torch.bincount(part[[row[0] for row in rows]], minlength=PARTS).double()
        if chisquare(seen[expected > 0].numpy(), expected[expected > 0].numpy()).pvalue < LEAST_P:
            raise Unequal(f"sampling: the tokens of {name} are not spread as the model's probabilities are")


def main(arguments: Sequence[str] | None = None) -> None:
    """Check that both sides agree, then compare them."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    sizes = SIZES[options.size]
    config = LlamaConfig(
        **sizes, vocab_size=options.vocabulary, max_position_embeddings=2048,
        bos_token_id=None, eos_token_id=None, pad_token_id=PAD,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0}, unk_token="a")))
    sampler = TorchSampler(model, tokenizer, max_rows=options.max_rows)
    length, count = options.prompt_tokens, options.prompts
    ids = torch.randint(1, options.vocabulary, (count, 2 * length)).tolist()
    even = [row[:length] for row in ids]
    uneven = [row[: length // 4 + (3 * length // 2) * i // max(1, count - 1)] for i, row in enumerate(ids)]
    stops = tuple(range(1, options.vocabulary, 32))
    work = (options.samples, options.new_tokens)
    settings = {
        "fixed": Setting(even, *work),
        "random": Setting(even, options.samples, options.new_tokens * 2, stops),
        "ragged": Setting(uneven, *work),
    }
    check_agreement(sampler, model, Setting(even, 1, options.new_tokens, greedy=True))
    check_agreement(sampler, model, Setting(uneven, 1, options.new_tokens, greedy=True))
    weights = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{weights / 1e6:.1f}M parameters, vocabulary {options.vocabulary}, {count} prompts of {length} tokens x "
        f"{options.samples} samples, {options.new_tokens} new tokens; float32, {options.threads} threads, "
        f"torch {torch.__version__}, transformers {transformers.__version__}, {platform.machine()}"
    )
    for name in options.settings.split(","):
        setting = settings[name]
        compare(
            name, lambda s, w=setting: ours(sampler, w, s), lambda s, w=setting: theirs(model, w, s), options.repeats
        )


def check_agreement(sampler: TorchSampler, model: LlamaForCausalLM, setting: Setting) -> None:
    a, b = ours(sampler, setting, 0), theirs(model, setting, 0)
    if a != b:
        raise Unequal("greedy decoding differs between the two sides; a speed ratio would mean nothing")


def _until_stop(row: list[int], stop_ids: Sequence[int]) -> list[int]:
    ends = [place + 1 for place, token in enumerate(row) if token in stop_ids]
    return row[: ends[0]] if ends else row


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SIZES), default="pocket")
    parser.add_argument("--vocabulary", type=int, default=1024)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--prompt_tokens", type=int, default=64)
    parser.add_argument("--new_tokens", type=int, default=64)
    parser.add_argument("--max_rows", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--settings", default="fixed,random,ragged", help="those to measure, separated by commas")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
