"""Operations and FLOPs of one step of each stage, on a tiny fixed model: counts that do not depend on a clock.

    PYTHONPATH=tests python -m performance.counts            # print the current counts
    PYTHONPATH=tests python -m performance.counts --write    # and store them as the expected counts

The counts of a step are those of a run of two steps minus those of a run of one, so that loading and saving cancel out;
for decoding, those of 33 tokens minus those of 17. An operation is a call of an aten kernel or a compiled one, forward
or backward. FLOPs are those of matrix products and attention, computed from shapes (torch.utils.flop_counter). Each
step is counted with PyTorch's operations only, and with the compiled kernels, whose own FLOPs are not counted.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from tiny import tiny_model, tiny_tokenizer
from tiny_files import QUICK, write_files
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from zhenlong.kernels import onednn_linear
from zhenlong.kernels.build import SIGNATURES, kernels_disabled, load_library
from zhenlong.sampling import SamplingParams, TorchSampler
from zhenlong.stages.dpo import dpo
from zhenlong.stages.grpo import grpo
from zhenlong.stages.kto import kto
from zhenlong.stages.sft import sft

EXPECTED = Path(__file__).with_name("counts.json")
OPERATIONS_TOLERANCE = 0.03  # relative change allowed in the number of operations; FLOPs must be equal
STEPS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "sft": (sft, {"data": "demonstrations"}),
    "dpo": (dpo, {"data": "pairs"}),
    "kto": (kto, {"data": "ratings"}),
    "grpo": (
        grpo,
        {"data": "tasks", "reward": "regex:[a-z]", "rollout_prompts": 4, "samples_per_prompt": 4, "max_tokens": 8},
    ),
}
COMPILED = ", compiled kernels"  # suffix of the names of steps that use them
DECODED = 16  # decoding steps counted together, so that every phase of the cache is included
IN_PLACE = {torch.ops.aten.addmm_: torch.ops.aten.addmm, torch.ops.aten.baddbmm_: torch.ops.aten.baddbmm}


class Operations(TorchDispatchMode):
    """Counts aten calls by name, and their FLOPs, inside its `with` block."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.flops = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = IN_PLACE.get(function._overloadpacket, function._overloadpacket)
        if packet not in flop_registry and function is not torch.ops.prim.device.default:
            with self:  # a composite operation is counted as its parts
                parts = function.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        found = function(*args, **kwargs)
        self.calls[str(packet)] += 1
        if packet in flop_registry:
            self.flops += flop_registry[packet](*args, **kwargs, out_val=found)
        if packet is torch.ops.mkldnn._linear_pointwise:
            self.flops += 2 * found.numel() * args[0].shape[-1]
        return found


def measure_all() -> dict[str, dict[str, int]]:
    """`{step: {"operations", "flops"}}` for each stage and for `DECODED` decoding steps, equal on all processors."""
    with patch.object(onednn_linear, "ONEDNN_WEIGHT_GRADIENT", True):
        with kernels_disabled():
            plain = measure_steps()
        if not load_library():
            return plain
        wide = {
            "hidden_size": 64,
            "head_dim": 32,
            "intermediate_size": 96,
        }  # full panels: all layers are one compiled kernel
        steps = measure_steps() | {f"decoding, {DECODED} steps, layers together": count_decoding(**wide)}
        return plain | {name + COMPILED: counts for name, counts in steps.items()}


def measure_steps() -> dict[str, dict[str, int]]:
    """The same for one choice of kernels."""
    with tempfile.TemporaryDirectory() as name:
        files = write_files(Path(name))
        found = {stage: count_stage_step(stage, files, Path(name)) for stage in STEPS}
    return found | {f"decoding, {DECODED} steps": count_decoding()}


def count_stage_step(stage: str, files: dict[str, str], folder: Path) -> dict[str, int]:
    """The counts of a stage's second step."""
    function, given = STEPS[stage]
    settings = QUICK | given | {"model": files["model"], "data": files[given["data"]], "lr": 1e-6}

    def run(name: str, steps: int) -> None:
        function(**settings | {"steps": steps, "output": str(folder / f"{stage}-{name}")})

    run("first", 1)  # warms up what is computed once per process
    one = count_operations(lambda: run("one", 1))
    return difference(count_operations(lambda: run("two", 2)), one)


def count_decoding(**changes: int) -> dict[str, int]:
    """Two prompts with three responses each, none of which ends early."""
    sampler = TorchSampler(tiny_model(**changes), tiny_tokenizer())
    prompts = [list(range(65, 75)), list(range(70, 86))]

    def run(tokens: int) -> None:
        sampler.sample(prompts, SamplingParams(max_tokens=tokens, seed=0), 3)

    short = count_operations(lambda: run(1 + DECODED))
    return difference(count_operations(lambda: run(1 + 2 * DECODED)), short)


def count_operations(run: Callable[[], Any]) -> dict[str, int]:
    """Operations and FLOPs of a call."""
    with Operations() as operations, count_kernel_calls(operations.calls):
        run()
    return {"operations": operations.calls.total(), "flops": operations.flops}


@contextmanager
def count_kernel_calls(calls: Counter[str]) -> Iterator[None]:
    """Counts calls of compiled kernels by name inside its `with` block."""
    kernels = load_library()
    with ExitStack() as stack:
        for name in SIGNATURES if kernels else ():
            kernel = getattr(kernels, name)

            def counting(*args: Any, name: str = name, kernel: Any = kernel) -> Any:
                calls[name] += 1
                return kernel(*args)

            stack.enter_context(patch.object(kernels, name, counting))
        yield


def difference(more: dict[str, int], less: dict[str, int]) -> dict[str, int]:
    """The counts of one call minus those of another."""
    return {name: more[name] - less[name] for name in more}


def describe_changes(expected: dict[str, dict[str, int]], found: dict[str, dict[str, int]]) -> list[str]:
    """One line per count that differs from the expected one by more than the tolerance."""
    lines = []
    for step in sorted(expected.keys() | found.keys()):
        if step not in expected or step not in found:
            lines.append(f"{step}: {'no longer measured' if step in expected else 'not in ' + EXPECTED.name}")
            continue
        for name, before in expected[step].items():
            now = found[step][name]
            allowed = OPERATIONS_TOLERANCE * before if name == "operations" else 0
            if abs(now - before) > allowed:
                lines.append(f"{step}: {name} {'rose' if now > before else 'fell'} from {before:,} to {now:,} "
                             f"({now / max(before, 1) - 1:+.1%})")  # fmt: skip
    return lines


if __name__ == "__main__":
    now = {"torch": torch.__version__.split("+")[0], "steps": measure_all()}
    print(json.dumps(now, indent=1))
    if "--write" in sys.argv:
        EXPECTED.write_text(json.dumps(now, indent=1) + "\n")
