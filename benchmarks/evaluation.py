"""Evaluation against lm-evaluation-harness 0.4.13: the same model, prompts and threads.

    python benchmarks/evaluation.py [--size small|default|medium] [--rows 64] [--threads 2] [--settings letters,...]

`letters` scores the four letters of a question after five examples, `texts` four answers of eight words, `generate`
continues questions greedily by 64 tokens, `examples` the same after five examples. Both sides first do all rows once,
and must give equal log-likelihoods (1e-4), equal accuracies and equal texts. Then they alternate (A B, B A, ...). Ours
is timed from the instances to the outcomes: prompts, tokens, an empty cache on disk; theirs from its requests, that is
from prompts that are made already. `cached` is a second run of `letters`, in seconds for 1,000 requests.
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
from workload import SIZES, Shape, Unequal, kept_model, make_model, plain_model

from zhenlong.evaluate.adapters.ask import Setting, ask
from zhenlong.evaluate.adapters.spec import Adapter
from zhenlong.evaluate.instance import Instance, Reference
from zhenlong.evaluate.outcome import Outcome
from zhenlong.evaluate.runner.cache import Cache
from zhenlong.evaluate.runner.drive import drive
from zhenlong.evaluate.runner.local import LocalBackend
from zhenlong.models import load_model

TOLERANCE = 1e-4
SHOTS = 5
BATCH = {"cpu": 16, "cuda": 8}  # rows that the harness takes at a time: 80 GB hold no more of their logits in fp32
FRAME = {"input_prefix": "w3 ", "input_suffix": " ", "choice_prefix": "A ", "choice_suffix": " ",
         "output_prefix": "w4 ", "output_suffix": " ", "instance_separator": ""}  # fmt: skip
ADAPTERS = {
    "letters": Adapter("multiple_choice_joint", answer="scored", shots=SHOTS, **FRAME),
    "texts": Adapter("multiple_choice_separate", per_token=False, shots=SHOTS, **FRAME),
    "generate": Adapter("generation", max_tokens=64, **FRAME),
    "examples": Adapter("generation", shots=SHOTS, max_tokens=64, **FRAME),
}


@dataclass
class Work:
    """What both sides are asked: the instances and examples, and the same as the requests of the harness."""

    setting: Setting
    instances: list[Instance]

    @cached_property
    def requests(self) -> list[Any]:
        """Made when they are first asked for: a profile of our side does without the harness."""
        return harness_requests(self)


def make_work(
    name: str,
    backend: LocalBackend,
    rows: int,
    words: int,
    seed: int,
    vocabulary: int,
    answer_words: int = 8,
    shots: int = SHOTS,
) -> Work:
    """Questions of about `words` words with four answers, and `shots` examples, of random words."""
    rng = np.random.default_rng(seed)

    def text(count: int) -> str:
        return " ".join(f"w{n}" for n in rng.integers(10, vocabulary - 1, count))

    def made(number: int) -> Instance:
        answers = [text(answer_words) for _ in range(4)]
        if name == "letters":
            answers = [text(6) for _ in range(4)]
        right = int(rng.integers(4))
        references = tuple(Reference(one, place == right) for place, one in enumerate(answers))
        return Instance(str(number), text(int(rng.integers(words // 2, words + words // 2))), references)

    adapter = ADAPTERS[name]
    adapter = replace(adapter, shots=shots if adapter.shots else 0)
    setting = Setting(adapter, backend, {"": [made(-1 - number) for number in range(adapter.shots)]})
    return Work(setting, [made(number) for number in range(rows)])


def harness_requests(work: Work) -> list[Any]:
    """The requests of the harness for the very prompts of our adapters."""
    from lm_eval.api.instance import Instance as Asked

    found = []
    for number, instance in enumerate(work.instances):
        (request,) = next(ask(work.setting, instance))[:1]
        if work.setting.adapter.method == "generation":
            how = {"until": ["<none>"], "max_gen_toks": work.setting.adapter.max_tokens, "do_sample": False}
            found.append(Asked("generate_until", {}, (request.prompt, how), number))
        else:
            found += [Asked("loglikelihood", {}, (request.context, one), number) for one in request.continuations]
    return found


def ours(work: Work, cache: Path) -> list[Outcome]:
    """From instances to outcomes, answers kept in `cache`."""
    with Cache(cache) as kept:
        reader = work.setting.reader
        return drive([ask(work.setting, one) for one in work.instances], reader, kept)


def theirs(work: Work, harness: Any) -> list[Any]:
    """Log-likelihoods, or texts."""
    if work.setting.adapter.method == "generation":
        return harness.generate_until(work.requests, disable_tqdm=True)
    return [value for value, _ in harness.loglikelihood(work.requests, disable_tqdm=True)]


def check(name: str, work: Work, found: list[Outcome], other: list[Any]) -> str:
    """Stop unless both sides agree; returns what they agree on."""
    if work.setting.adapter.method == "generation":
        different = sum(one.text != text for one, text in zip(found, other, strict=True))
        if different:
            raise Unequal(f"{name}: {different} of {len(found)} texts differ; a ratio would mean nothing")
        return f"{len(found)} equal texts"
    mine = np.array([one.choices.log_probs for one in found if one.choices])
    his = np.array(other).reshape(mine.shape)
    worst = float((np.abs(mine - his) / np.maximum(1, np.abs(his) / 100)).max())  # fp32 sums have 1e-6 of their size
    right = [one.correct_indices[0] for one in work.instances]
    accuracies = [float((values.argmax(1) == right).mean()) for values in (mine, his)]
    if worst > TOLERANCE or accuracies[0] != accuracies[1]:
        raise Unequal(f"{name}: log-likelihoods differ by {worst:.1e}, accuracies are {accuracies}")
    return f"log-likelihoods equal to {worst:.0e}, accuracy {accuracies[0]:.3f} on both sides"


def compare(a: Callable[[], Any], b: Callable[[], Any], repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of both, in alternation."""
    pairs: list[tuple[float, float]] = []
    for repeat in range(repeats):
        pair = [0.0, 0.0]
        for side in (0, 1) if repeat % 2 else (1, 0):
            started = time.perf_counter()
            (a, b)[side]()
            pair[side] = time.perf_counter() - started
        pairs.append((pair[0], pair[1]))
    return [one for one, _ in pairs], [other for _, other in pairs]


def prepared(
    folder: Path, size: str, vocabulary: int, shape: Shape | None, rows: int, device: str = "cpu"
) -> tuple[Work, Any, Path]:
    """The work of `measured`, its model and tokenizer, and their folder."""
    made, _ = kept_model(folder, size, vocabulary, device, endless=True)
    place = with_letters(made, folder)
    pair = load_model(str(place), device=device)
    backend = LocalBackend(pair, hashed=lambda path: "", device=device)
    if shape is None:
        return make_work("letters", backend, rows, 60 * SIZES[size].times, 0, vocabulary), pair, place
    asked, answered = sum(shape.prompt) // 2, sum(shape.answer) // 2
    return make_work("texts", backend, rows, asked, 0, vocabulary, answered, 1), pair, place


def measured(folder: Path, shape: Shape | None, asked: argparse.Namespace) -> dict[str, Any]:
    """Multiple choice: four texts in a shape's lengths after one example, or letters after five where there is none.

    Both are compared in fp32, whatever the dtype in which they are timed. Returns the `seconds` of both sides in each
    pair, and the `tokens` of the requests.
    """
    from lm_eval.models.huggingface import HFLM

    work, pair, place = prepared(folder, asked.model, asked.vocabulary, shape, asked.questions, asked.device)
    plain = plain_model(place).to(asked.device)
    harness = HFLM(pretrained=plain, tokenizer=pair[1], batch_size=BATCH[asked.device],
                   max_length=plain.config.max_position_embeddings)  # fmt: skip
    caches = Path(tempfile.mkdtemp(prefix="caches", dir=folder))
    numbers = itertools.count()

    def fresh() -> list[Outcome]:
        return ours(work, caches / f"{next(numbers)}.sqlite")

    print(f"multiple_choice: {check('multiple_choice', work, fresh(), theirs(work, harness))}", flush=True)
    dtype = getattr(torch, asked.dtype)
    if dtype != torch.float32:
        pair[0].to(dtype), plain.to(dtype)
        fresh(), theirs(work, harness)  # what was not needed in fp32 is compiled
    seconds = compare(fresh, lambda: theirs(work, harness), asked.pairs)
    tokens = sum(len("".join(request.args).split()) for request in work.requests)
    return {"seconds": list(zip(*seconds, strict=True)), "tokens": tokens}


def main(arguments: Sequence[str] | None = None) -> None:
    """Check that both sides agree, then compare them."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        weights = make_model(folder, SIZES[options.size], options.vocabulary, endless=True)
        place = with_letters(folder / "model", folder)
        pair = load_model(str(place), device=options.device)
        from lm_eval.models.huggingface import HFLM

        plain = plain_model(place).to(options.device)
        harness = HFLM(pretrained=plain, tokenizer=pair[1], batch_size=options.batch_size, max_length=1024)
        print(
            f"{weights / 1e6:.1f}M parameters, vocabulary {options.vocabulary}, {options.rows} questions of about "
            f"{options.words} words, {SHOTS} examples; float32, {options.threads} threads, {options.device}, torch "
            f"{torch.__version__}, transformers {transformers.__version__}, lm_eval {version('lm_eval')} with batches "
            f"of {options.batch_size}, {platform.machine()}"
        )
        for number, name in enumerate(options.settings.split(",")):
            _one(name, number, pair, harness, folder, options)


def with_letters(model: Path, folder: Path) -> Path:
    """The same model in a folder of its own, with a tokenizer of which four words are the letters of the choices."""
    place = Path(tempfile.mkdtemp(prefix="letters-", dir=folder)) / "model"
    shutil.copytree(model, place, copy_function=os.link)
    path = place / "tokenizer.json"
    file = json.loads(path.read_text())
    words = file["model"]["vocab"]
    for number, letter in enumerate("ABCD", 5):
        words[letter] = words.pop(f"w{number}")
    path.unlink()  # the other folder has it too
    path.write_text(json.dumps(file))
    return place


def _one(name: str, number: int, pair: Any, harness: Any, folder: Path, options: argparse.Namespace) -> None:
    backend = LocalBackend(pair, hashed=lambda path: "", device=options.device)
    work = make_work("letters" if name == "cached" else name, backend, options.rows, options.words, number,
                     options.vocabulary)  # fmt: skip
    caches = iter(range(1000))

    def fresh() -> list[Outcome]:
        return ours(work, folder / f"{name}-{next(caches)}.sqlite")

    if name == "cached":
        ours(work, folder / "kept.sqlite")
        started = time.perf_counter()
        ours(work, folder / "kept.sqlite")
        spent = time.perf_counter() - started
        print(f"cached    a second run takes {1000 * spent / len(work.instances):.3f} s for 1,000 requests")
        return
    agreed = check(name, work, fresh(), theirs(work, harness))
    mine, his = compare(fresh, lambda: theirs(work, harness), options.repeats)
    ratios = sorted(b / a for a, b in zip(mine, his, strict=True))
    print(
        f"{name:<9} zhenlong {statistics.median(mine):7.2f} s   lm_eval {statistics.median(his):7.2f} s   "
        f"ratio {statistics.median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})   {agreed}"
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SIZES), default="default")
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--words", type=int, default=60)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--settings", default="letters,texts,generate,examples,cached", help="those to measure, with commas"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
