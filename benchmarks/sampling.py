"""The sampler against transformers' `generate`: same model, prompts, number of samples and tokens, same threads.

    python benchmarks/sampling.py [--model pocket|small] [--vocab_size 1024] [--prompts 8] [--samples_per_prompt 8]
    [--threads 2]

First both decode greedily and must give the same ids. Then they alternate (A B, B A, ...) in three settings: `fixed`
forbids the end-of-text id, so that every completion has `--max_tokens`; in `random` one token in 32 ends a completion,
and tokens per second count those up to the end; `ragged` is `fixed` with prompts of different lengths, which `generate`
pads. Prints the medians, and median, minimum and maximum of the pairwise ratios.
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
from workload import LengthShape, ResultsDiffer, cached_model, load_transformers_model

from zhenlong.loop import FlopEstimator
from zhenlong.loop.ledger import matmul_rate
from zhenlong.models import load_model
from zhenlong.sampling import SamplingParams, TorchSampler

SIZES = {  # random weights: speed does not depend on their values
    "pocket": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 6, "num_attention_heads": 4},
    "small": {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
}  # fmt: skip
PAD = 0
NUM_BINS: Final = 16  # bins of equal probability, into which the vocabulary is divided
MIN_P_VALUE: Final = 1e-6  # below it, the sampled tokens do not follow the model's distribution
CHECKED_TOKENS: Final = 16  # tokens of greedy responses compared on CUDA


@dataclass
class SamplingSetting:
    """The sampling work of both sides."""

    prompts: list[list[int]]
    samples_per_prompt: int
    max_tokens: int
    stop_ids: tuple[int, ...] = ()
    greedy: bool = False


def sample_with_zhenlong(sampler: TorchSampler, setting: SamplingSetting, seed: int) -> list[list[int]]:
    """Generated ids of each sequence, by the sampler."""
    sampling = SamplingParams(
        0.0 if setting.greedy else 1.0, max_tokens=setting.max_tokens, stop_token_ids=setting.stop_ids, seed=seed
    )
    found = sampler.sample(setting.prompts, sampling, setting.samples_per_prompt)
    return [list(completion.token_ids) for of_prompt in found for completion in of_prompt]


def sample_with_transformers(model: LlamaForCausalLM, setting: SamplingSetting, seed: int) -> list[list[int]]:
    """Generated ids of each sequence, by `generate`, truncated after the end token."""
    torch.manual_seed(seed)
    longest = max(map(len, setting.prompts))
    rows = [prompt for prompt in setting.prompts for _ in range(setting.samples_per_prompt)]
    ids = torch.tensor([[PAD] * (longest - len(row)) + row for row in rows], device=model.device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=model.device)
    sampling_options = {} if setting.greedy else {"do_sample": True, "top_k": 0}
    config = GenerationConfig(
        **sampling_options,
        max_new_tokens=setting.max_tokens,
        eos_token_id=list(setting.stop_ids) or None,
        pad_token_id=PAD,
    )
    out = model.generate(ids, attention_mask=mask, generation_config=config)[:, longest:].tolist()
    return [_truncate_at_stop(row, setting.stop_ids) for row in out]


def time_in_alternation(
    name: str, a: Callable[[int], list[list[int]]], b: Callable[[int], list[list[int]]], repeats: int
) -> list[tuple[float, float]]:
    """Time both in alternation; prints and returns their tokens per second, pair by pair."""
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


def measure_sampling(folder: Path, shape: LengthShape, args: argparse.Namespace) -> dict[str, Any]:
    """8 prompts x 8 samples in a shape's middle lengths: `speeds` of pairs, and our `share` of the matmul rate.

    Results are compared in fp32, whatever the timed dtype.
    """
    vocab_size, dtype = args.vocab_size, getattr(torch, args.dtype)
    place, _ = cached_model(folder, args.model, vocab_size, args.device, unreachable_eos=True)
    model, tokenizer = load_model(str(place), device=args.device)
    transformers_model = load_transformers_model(place).to(args.device)
    sampler = TorchSampler(model, tokenizer)
    torch.manual_seed(0)
    length, new = shape.middle_lengths
    setting = SamplingSetting(torch.randint(1, vocab_size, (8, length)).tolist(), 8, new)
    num_checked = new if args.device == "cpu" else min(new, CHECKED_TOKENS)
    check_equal_greedy(
        sampler, transformers_model, replace(setting, samples_per_prompt=1, max_tokens=num_checked, greedy=True)
    )
    check_first_tokens(sampler, transformers_model, setting.prompts[0][:16])
    model.to(dtype), transformers_model.to(dtype)
    sampler = TorchSampler(model, tokenizer)
    speeds = time_in_alternation(
        "sampling",
        lambda s: sample_with_zhenlong(sampler, setting, s),
        lambda s: sample_with_transformers(transformers_model, setting, s),
        args.pairs,
    )
    pairs = 8 * length * (length + 1) / 2 + 64 * sum(length + place for place in range(new))
    flops = FlopEstimator.for_model(model).forward(8 * length + 64 * new, 64 * new, pairs)
    seconds = 64 * new / statistics.median(speed for speed, _ in speeds)
    return {"speeds": speeds, "matmul_fraction": flops / seconds / matmul_rate(torch.device(args.device), dtype)}


def check_first_tokens(
    sampler: TorchSampler, model: LlamaForCausalLM, prompt: list[int], num_samples: int = 1024
) -> None:
    """Raise unless the first tokens of both sides follow the model's probabilities (chi-square test)."""
    with torch.no_grad():
        probabilities = model(torch.tensor([prompt], device=model.device)).logits[0, -1].cpu().double().softmax(-1)
    order = probabilities.argsort(descending=True)
    bin_of_token = torch.empty_like(order)
    bin_of_token[order] = (probabilities[order].cumsum(0) * NUM_BINS).long().clamp(max=NUM_BINS - 1)
    expected = torch.zeros(NUM_BINS, dtype=torch.double).index_add(0, bin_of_token, probabilities) * num_samples
    setting = SamplingSetting([prompt], num_samples, 1)
    for name, rows in (
        ("zhenlong", sample_with_zhenlong(sampler, setting, 0)),
        ("generate", sample_with_transformers(model, setting, 0)),
    ):
        seen = torch.bincount(bin_of_token[[row[0] for row in rows]], minlength=NUM_BINS).double()
        if chisquare(seen[expected > 0].numpy(), expected[expected > 0].numpy()).pvalue < MIN_P_VALUE:
            raise ResultsDiffer(f"sampling: the tokens of {name} do not follow the model's probabilities")


def main(argv: Sequence[str] | None = None) -> None:
    """Check that both sides agree, then compare them."""
    args = _parse(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    sizes = SIZES[args.model]
    config = LlamaConfig(
        **sizes, vocab_size=args.vocab_size, max_position_embeddings=2048,
        bos_token_id=None, eos_token_id=None, pad_token_id=PAD,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0}, unk_token="a")))
    sampler = TorchSampler(model, tokenizer, max_num_seqs=args.max_num_seqs)
    length, count = args.prompt_tokens, args.prompts
    ids = torch.randint(1, args.vocab_size, (count, 2 * length)).tolist()
    even = [row[:length] for row in ids]
    uneven = [row[: length // 4 + (3 * length // 2) * i // max(1, count - 1)] for i, row in enumerate(ids)]
    stops = tuple(range(1, args.vocab_size, 32))
    work = (args.samples_per_prompt, args.max_tokens)
    settings = {
        "fixed": SamplingSetting(even, *work),
        "random": SamplingSetting(even, args.samples_per_prompt, args.max_tokens * 2, stops),
        "ragged": SamplingSetting(uneven, *work),
    }
    check_equal_greedy(sampler, model, SamplingSetting(even, 1, args.max_tokens, greedy=True))
    check_equal_greedy(sampler, model, SamplingSetting(uneven, 1, args.max_tokens, greedy=True))
    weights = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{weights / 1e6:.1f}M parameters, vocabulary {args.vocab_size}, {count} prompts of {length} tokens x "
        f"{args.samples_per_prompt} samples, {args.max_tokens} new tokens; float32, {args.threads} threads, "
        f"torch {torch.__version__}, transformers {transformers.__version__}, {platform.machine()}"
    )
    for name in args.settings.split(","):
        setting = settings[name]
        time_in_alternation(
            name,
            lambda s, w=setting: sample_with_zhenlong(sampler, w, s),
            lambda s, w=setting: sample_with_transformers(model, w, s),
            args.repeats,
        )


def check_equal_greedy(sampler: TorchSampler, model: LlamaForCausalLM, setting: SamplingSetting) -> None:
    a, b = sample_with_zhenlong(sampler, setting, 0), sample_with_transformers(model, setting, 0)
    if a != b:
        raise ResultsDiffer("greedy decoding differs between the two sides; a speed ratio would be meaningless")


def _truncate_at_stop(row: list[int], stop_ids: Sequence[int]) -> list[int]:
    ends = [place + 1 for place, token in enumerate(row) if token in stop_ids]
    return row[: ends[0]] if ends else row


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(SIZES), default="pocket")
    parser.add_argument("--vocab_size", type=int, default=1024)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--samples_per_prompt", type=int, default=8)
    parser.add_argument("--prompt_tokens", type=int, default=64)
    parser.add_argument("--max_tokens", type=int, default=64)
    parser.add_argument("--max_num_seqs", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--settings", default="fixed,random,ragged", help="settings to measure, separated by commas")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
