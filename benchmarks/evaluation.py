"""Evaluation against lm-evaluation-harness 0.4.13: the same model, prompts and threads.

    python benchmarks/evaluation.py [--model small|default|medium] [--questions 64] [--threads 2] [--settings
    letters,...]

`letters` scores the four choice letters of a question after five examples, `texts` four answers of eight words,
`generate` continues questions greedily by 64 tokens, `examples` the same after five examples. Both sides first process
all rows once, and must give equal log-likelihoods (1e-4), accuracies and texts. Then they alternate (A B, B A, ...).
Our time goes from the instances to the outcomes, including prompts, tokenization and an empty cache on disk; theirs
starts with finished prompts. `cached` is a second run of `letters`, in seconds per 1,000 requests.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from workload import MODEL_SIZES, LengthShape, ResultsDiffer, cached_model, load_transformers_model, make_model

from zhenlong.evaluate.adapters.methods import AdapterContext, plan_requests
from zhenlong.evaluate.adapters.spec import Adapter
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.evaluate.run.run_plans import run_plans
from zhenlong.inference.cache import RequestCache
from zhenlong.inference.local import LocalBackend
from zhenlong.inference.model_client import ModelClient
from zhenlong.inference.options import BackendSettings
from zhenlong.models import load_model

TOLERANCE = 1e-4
NUM_SHOTS = 5
HARNESS_BATCH_SIZES = {
    "cpu": 16,
    "cuda": 8,
}  # batch size of the harness: the largest whose fp32 logits fit 80 GB
PROMPT_FORMAT = {"input_prefix": "w3 ", "input_suffix": " ", "choice_prefix": "A ", "choice_suffix": " ",
         "output_prefix": "w4 ", "output_suffix": " ", "instance_separator": ""}  # fmt: skip
ADAPTERS = {
    "letters": Adapter("multiple_choice_joint", answer="scored", shots=NUM_SHOTS, **PROMPT_FORMAT),
    "texts": Adapter("multiple_choice_separate", normalise_by="none", shots=NUM_SHOTS, **PROMPT_FORMAT),
    "generate": Adapter("generation", max_tokens=64, **PROMPT_FORMAT),
    "examples": Adapter("generation", shots=NUM_SHOTS, max_tokens=64, **PROMPT_FORMAT),
}


@dataclass
class EvaluationWorkload:
    """The work of both sides: instances and examples, and the same as requests of the harness."""

    setting: AdapterContext
    instances: list[Instance]

    @cached_property
    def requests(self) -> list[Any]:
        """Created on first use: a profile of our side does not need the harness."""
        return harness_requests(self)


def make_evaluation_workload(
    name: str,
    backend: LocalBackend,
    num_questions: int,
    question_tokens: int,
    seed: int,
    vocab_size: int,
    answer_tokens: int = 8,
    shots: int = NUM_SHOTS,
) -> EvaluationWorkload:
    """Questions of about `words` random words with four answers, and `shots` examples."""
    rng = np.random.default_rng(seed)

    def text(count: int) -> str:
        return " ".join(f"w{n}" for n in rng.integers(10, vocab_size - 1, count))

    def made(number: int) -> Instance:
        answers = [text(answer_tokens) for _ in range(4)]
        if name == "letters":
            answers = [text(6) for _ in range(4)]
        right = int(rng.integers(4))
        references = tuple(Reference(one, place == right) for place, one in enumerate(answers))
        return Instance(
            str(number),
            text(int(rng.integers(question_tokens // 2, question_tokens + question_tokens // 2))),
            references,
        )

    adapter = ADAPTERS[name]
    adapter = replace(adapter, shots=shots if adapter.shots else 0)
    setting = AdapterContext(adapter, backend, {"": [made(-1 - number) for number in range(adapter.shots)]})
    return EvaluationWorkload(setting, [made(number) for number in range(num_questions)])


def harness_requests(workload: EvaluationWorkload) -> list[Any]:
    """The harness's requests for the prompts of our adapters."""
    from lm_eval.api.instance import Instance as HarnessRequest

    found = []
    for number, instance in enumerate(workload.instances):
        (request,) = next(plan_requests(workload.setting, instance))[:1]
        if workload.setting.adapter.method == "generation":
            generation_options = {
                "until": ["<none>"],
                "max_gen_toks": workload.setting.adapter.max_tokens,
                "do_sample": False,
            }
            found.append(HarnessRequest("generate_until", {}, (request.prompt, generation_options), number))
        else:
            found += [
                HarnessRequest("loglikelihood", {}, (request.context, one), number) for one in request.continuations
            ]
    return found


def evaluate_with_zhenlong(workload: EvaluationWorkload, cache: Path) -> list[Outcome]:
    """From instances to outcomes, with results cached in `cache`."""
    with RequestCache(cache) as kept:
        reader = workload.setting.token_counter
        return run_plans(
            [plan_requests(workload.setting, one) for one in workload.instances], ModelClient(reader, kept)
        )


def evaluate_with_harness(workload: EvaluationWorkload, harness: Any) -> list[Any]:
    """Log-likelihoods, or texts."""
    if workload.setting.adapter.method == "generation":
        return harness.generate_until(workload.requests, disable_tqdm=True)
    return [value for value, _ in harness.loglikelihood(workload.requests, disable_tqdm=True)]


def check_equal_results(name: str, workload: EvaluationWorkload, found: list[Outcome], other: list[Any]) -> str:
    """Raise unless both sides agree; returns a description of the agreement."""
    if workload.setting.adapter.method == "generation":
        different = sum(one.text != text for one, text in zip(found, other, strict=True))
        if different:
            raise ResultsDiffer(f"{name}: {different} of {len(found)} texts differ; a speed ratio would be meaningless")
        return f"{len(found)} equal texts"
    our_log_probs = np.array([one.choices.log_probs for one in found if one.choices])
    harness_log_probs = np.array(other).reshape(our_log_probs.shape)
    worst = float(
        (np.abs(our_log_probs - harness_log_probs) / np.maximum(1, np.abs(harness_log_probs) / 100)).max()
    )  # relative rounding error of fp32 sums: 1e-6
    correct_choices = [one.correct_indices[0] for one in workload.instances]
    accuracies = [float((values.argmax(1) == correct_choices).mean()) for values in (our_log_probs, harness_log_probs)]
    if worst > TOLERANCE or accuracies[0] != accuracies[1]:
        raise ResultsDiffer(f"{name}: log-likelihoods differ by {worst:.1e}, accuracies are {accuracies}")
    return f"log-likelihoods equal to {worst:.0e}, accuracy {accuracies[0]:.3f} on both sides"


def time_in_alternation(a: Callable[[], Any], b: Callable[[], Any], repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of both, alternating."""
    pairs: list[tuple[float, float]] = []
    for repeat in range(repeats):
        pair = [0.0, 0.0]
        for side in (0, 1) if repeat % 2 else (1, 0):
            started = time.perf_counter()
            (a, b)[side]()
            pair[side] = time.perf_counter() - started
        pairs.append((pair[0], pair[1]))
    return [one for one, _ in pairs], [other for _, other in pairs]


def prepare_multiple_choice(
    folder: Path, size: str, vocab_size: int, shape: LengthShape | None, num_questions: int, device: str = "cpu"
) -> tuple[EvaluationWorkload, Any, Path]:
    """The work of `measured`, its model and tokenizer, and their folder."""
    model_folder, _ = cached_model(folder, size, vocab_size, device, unreachable_eos=True)
    lettered_folder = with_choice_letters(model_folder, folder)
    pair = load_model(str(lettered_folder), device=device)
    backend = LocalBackend(pair, file_hash=lambda path: "", settings=BackendSettings(device=device))
    if shape is None:
        return (
            make_evaluation_workload(
                "letters", backend, num_questions, 60 * MODEL_SIZES[size].length_scale, 0, vocab_size
            ),
            pair,
            lettered_folder,
        )
    question_tokens, answer_tokens = sum(shape.prompt) // 2, sum(shape.response) // 2
    return (
        make_evaluation_workload("texts", backend, num_questions, question_tokens, 0, vocab_size, answer_tokens, 1),
        pair,
        lettered_folder,
    )


def measure_multiple_choice(folder: Path, shape: LengthShape | None, args: argparse.Namespace) -> dict[str, Any]:
    """Multiple choice: four texts in a shape's lengths after one example, or letters after five if there is no shape.

    Results are compared in fp32, whatever the timed dtype. Returns the `seconds` of both sides for each pair, and the
    `tokens` of the requests.
    """
    from lm_eval.models.huggingface import HFLM

    workload, pair, place = prepare_multiple_choice(
        folder, args.model, args.vocab_size, shape, args.questions, args.device
    )
    transformers_model = load_transformers_model(place).to(args.device)
    harness = HFLM(pretrained=transformers_model, tokenizer=pair[1], batch_size=HARNESS_BATCH_SIZES[args.device],
                   max_length=transformers_model.config.max_position_embeddings)  # fmt: skip
    caches = Path(tempfile.mkdtemp(prefix="caches", dir=folder))
    numbers = itertools.count()

    def fresh() -> list[Outcome]:
        return evaluate_with_zhenlong(workload, caches / f"{next(numbers)}.sqlite")

    print(
        "multiple_choice: "
        f"{check_equal_results('multiple_choice', workload, fresh(), evaluate_with_harness(workload, harness))}",
        flush=True,
    )
    dtype = getattr(torch, args.dtype)
    if dtype != torch.float32:
        pair[0].to(dtype), transformers_model.to(dtype)
        fresh(), evaluate_with_harness(workload, harness)  # warm-up: compiles what fp32 did not need
    seconds = time_in_alternation(fresh, lambda: evaluate_with_harness(workload, harness), args.pairs)
    tokens = sum(len("".join(request.args).split()) for request in workload.requests)
    return {"seconds": list(zip(*seconds, strict=True)), "tokens": tokens}


def main(argv: Sequence[str] | None = None) -> None:
    """Check that both sides agree, then compare them."""
    args = _parse(argv)
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        weights = make_model(folder, MODEL_SIZES[args.model], args.vocab_size, unreachable_eos=True)
        place = with_choice_letters(folder / "model", folder)
        pair = load_model(str(place), device=args.device)
        from lm_eval.models.huggingface import HFLM

        transformers_model = load_transformers_model(place).to(args.device)
        harness = HFLM(pretrained=transformers_model, tokenizer=pair[1], batch_size=args.batch_size, max_length=1024)
        print(
            f"{weights / 1e6:.1f}M parameters, vocabulary {args.vocab_size}, {args.questions} questions of "
            f"about {args.question_tokens} words, {NUM_SHOTS} examples; float32, {args.threads} threads, "
            f"{args.device}, "
            f"torch {torch.__version__}, transformers {transformers.__version__}, "
            f"lm_eval {version('lm_eval')} with batches of {args.batch_size}, {platform.machine()}"
        )
        for number, name in enumerate(args.settings.split(",")):
            _measure_setting(name, number, pair, harness, folder, args)


def with_choice_letters(model: Path, folder: Path) -> Path:
    """A copy of the model in its own folder, whose tokenizer has the choice letters as four of its tokens."""
    place = Path(tempfile.mkdtemp(prefix="letters-", dir=folder)) / "model"
    shutil.copytree(model, place, copy_function=os.link)
    path = place / "tokenizer.json"
    file = json.loads(path.read_text())
    words = file["model"]["vocab"]
    for number, letter in enumerate("ABCD", 5):
        words[letter] = words.pop(f"w{number}")
    path.unlink()  # the original folder has it too
    path.write_text(json.dumps(file))
    return place


def _measure_setting(name: str, number: int, pair: Any, harness: Any, folder: Path, args: argparse.Namespace) -> None:
    backend = LocalBackend(pair, file_hash=lambda path: "", settings=BackendSettings(device=args.device))
    workload = make_evaluation_workload(
        "letters" if name == "cached" else name, backend, args.questions, args.question_tokens, number, args.vocab_size
    )
    caches = iter(range(1000))

    def fresh() -> list[Outcome]:
        return evaluate_with_zhenlong(workload, folder / f"{name}-{next(caches)}.sqlite")

    if name == "cached":
        evaluate_with_zhenlong(workload, folder / "kept.sqlite")
        started = time.perf_counter()
        evaluate_with_zhenlong(workload, folder / "kept.sqlite")
        spent = time.perf_counter() - started
        print(f"cached    a second run takes {1000 * spent / len(workload.instances):.3f} s for 1,000 requests")
        return
    agreement = check_equal_results(name, workload, fresh(), evaluate_with_harness(workload, harness))
    mine, his = time_in_alternation(fresh, lambda: evaluate_with_harness(workload, harness), args.repeats)
    ratios = sorted(b / a for a, b in zip(mine, his, strict=True))
    print(
        f"{name:<9} zhenlong {statistics.median(mine):7.2f} s   lm_eval {statistics.median(his):7.2f} s   "
        f"ratio {statistics.median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})   {agreement}"
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(MODEL_SIZES), default="default")
    parser.add_argument("--vocab_size", type=int, default=4096)
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--question_tokens", type=int, default=60)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--settings", default="letters,texts,generate,examples,cached", help="settings to measure, separated by commas"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
