"""A run: one folder, one loop over steps, and everything that makes it survive an interruption.

    with Run(output, config, options, "sft") as run:
        if run.finished:
            return run.output
        ...                                          # load the model and the data
        run.track(learner=learner, order=order)
        for step in run.steps(total):
            run.log(learner.step(...))
        return run.finish(model, tokenizer, save_model)

Nothing is written before the first step, so bad data leaves no folder behind.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from types import TracebackType
from typing import Any, Final, Protocol

import torch

from zhenlong.errors import UserError
from zhenlong.loop.atomic import JsonLines, lock_folder, plain, write_json, writing
from zhenlong.loop.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from zhenlong.loop.config import check_folder, resolved, versions, write_config
from zhenlong.loop.display import Display, displays
from zhenlong.loop.learner import Learner, NonFiniteError
from zhenlong.loop.ledger import Ledger
from zhenlong.loop.options import Options
from zhenlong.loop.precision import compute_dtype, device_of
from zhenlong.loop.randomness import (
    derived_seed,
    evaluating,
    random_state,
    restore_random_state,
    seed_everything,
)
from zhenlong.loop.signals import Interrupted, StopSignals

LEDGER_SECONDS: Final = 10.0
EVALUATION: Final = "evaluation"  # the run's folder of evaluations during training


class Tracked(Protocol):
    """State that a checkpoint holds: made of dicts, lists, tuples, text, numbers, None, tensors and numpy arrays."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


class Run:
    """One training run in the folder `output`.

    Args:
        output: the run folder, made at the first step.
        config: the stage's arguments, for config.yaml; `dict(locals())` on the stage's first line will do.
        options: the shared options.
        name: the stage, as its command is called.

    Attributes:
        step: the step being made; outside the loop, the steps done (those of the checkpoint that is resumed).
        ledger: the costs; a stage calls `run.ledger.count(tokens=…, flops=…)`.
        device: where `options.device` says to train.

    Raises `UserError` when the folder holds another run, or holds this one and `options.resume` is off, or the config
    changed since.
    """

    def __init__(self, output: str | Path, config: Mapping[str, Any], options: Options, name: str = "run") -> None:
        self.output, self.options, self.name = Path(output), options, name
        self.config = resolved(config, options)
        check_folder(self.output, self.config, options.resume)
        self.device = device_of(options)
        self.ledger = Ledger(self.device, compute_dtype(options, self.device))
        self.checkpoints = self.output / "checkpoints"
        self.step = max((step for step, _ in checkpoints(self.checkpoints)), default=0)
        self._metrics = JsonLines(self.output / "metrics.jsonl")
        self._samples = JsonLines(self.output / "samples.jsonl")
        self._tracked: dict[str, Tracked] = {}
        self._generators: dict[str, torch.Generator] = {}
        self._saved_generators: dict[str, torch.Tensor] = {}
        self._displays: list[Display] = []
        self._signals = StopSignals()
        self._line: dict[str, Any] = {}
        self._notes: dict[str, Any] = {}
        self._before: dict[str, Any] = {}
        self._total = 0
        self._ledger_written = 0.0
        self._stop_reason: BaseException | None = None
        self._written = False  # whether a step's line is in metrics.jsonl
        self._lock: int | None = None
        self._fresh = False

    @property
    def finished(self) -> bool:
        """Whether the run was finished before: nothing is left to do."""
        return (self.output / "finished.json").exists()

    def __enter__(self) -> Run:
        seed_everything(self.options.seed)
        self._signals.install()
        if self.finished:
            print(f"{self.output}: this {self.name} run is finished; nothing to resume", file=sys.stderr)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signals.restore()
        self.ledger.stop()
        for display in self._displays:
            display.close()
        if self._lock is not None:
            os.close(self._lock)
        if isinstance(error, NonFiniteError) and self._before:
            learners = {name: one.state_dict() for name, one in self._learners().items()}  # they changed nothing
            state = self._before | {"tracked": self._before["tracked"] | learners}
            path = save_checkpoint(self.output / "emergency", self._before["step"], state)
            raise NonFiniteError(f"{error}; the state before it is in {path}") from error
        if isinstance(error, UserError) and self._fresh and self.step <= 1 and not self._written:
            self._forget()

    def track(self, **tracked: Tracked) -> None:
        """Name what a checkpoint holds beside the random states: learners, data orders, rollout buffers, controllers.

        A `state_dict` other than a learner's must not share what a step changes in place.
        """
        self._tracked |= tracked

    def steps(self, total: int) -> Iterator[int]:
        """Yield the steps, counted from 1, from the first that is not done to `total`; saves and stops in between."""
        self._begin(total)
        self.ledger.start()
        self._signals.inside = True
        for step in range(self.step + 1, total + 1):
            self._before = self._state(without=self._learners())
            tokens, begun = self.ledger.tokens, time.perf_counter()
            self.step, self._line = step, {}
            yield step
            self._write_line(self.ledger.tokens - tokens, time.perf_counter() - begun)
            self._before = {}
            every = self.options.save_every
            if every and step % every == 0:
                self.save()
            if self._stop_reason is not None:
                self._save_once()
                raise self._stop_reason
            if self._signals.received is not None:
                self._stop(self._signals.received)
        self._signals.inside = False
        self.ledger.stop()

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Add to the step's line in metrics.jsonl; several calls in one step make one line."""
        if not self._before:
            raise RuntimeError("log() belongs inside the loop over steps(); results go to finish(results=…)")
        self._line |= metrics

    def sampling_now(self) -> bool:
        """Whether samples are due in this step: every `sample_every`, and in the last one."""
        every = self.options.sample_every
        return bool(every) and (self.step % every == 0 or self.step == self._total)

    def evaluating_now(self) -> bool:
        """Whether an evaluation is due after this step: every `evaluate_every`, and in the last one."""
        every = self.options.evaluate_every
        return bool(every) and (self.step % every == 0 or self.step == self._total)

    def before_training(self, metrics: Mapping[str, Any]) -> None:
        """Write what was measured before the first step as the line of step 0, in the loop of the first step."""
        self._metrics.cut(-1)
        self._metrics.append(plain({"step": 0} | dict(metrics)))

    def stop_after_step(self, reason: BaseException) -> None:
        """End this step as ever, save a checkpoint, and raise the reason: what was done can be resumed."""
        self._stop_reason = reason

    def samples(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add what the model said to samples.jsonl: rows with `prompt` (messages), `response` and maybe `reward`."""
        for row in rows:
            self._samples.append({"step": self.step, **row})

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Evaluate or sample in here: the learners' modules in eval mode, no gradients, no effect on training."""
        generators = {name: generator.get_state() for name, generator in self._generators.items()}
        try:
            with evaluating(*(module for learner in self._learners().values() for module in learner.modules)):
                yield
        finally:
            self._generators = {name: self._generators[name] for name in generators}
            for name, state in generators.items():
                self._generators[name].set_state(state)

    def generator(self, name: str) -> torch.Generator:
        """A CPU generator for one purpose, seeded from the run's seed and the name, and kept in checkpoints."""
        if name not in self._generators:
            self._generators[name] = torch.Generator().manual_seed(derived_seed(self.options.seed, name))
            if name in self._saved_generators:
                self._generators[name].set_state(self._saved_generators[name])
        return self._generators[name]

    def note(self, name: str, value: Any) -> None:
        """Keep a fact about the run as the JSON file `name` in its folder, such as the bad rows that were skipped.

        Before the first step the file waits for the folder.
        """
        self._notes[name] = value
        if self._lock is not None:
            write_json(self.output / name, value)

    def seed(self, name: str) -> int:
        """A seed for one purpose in this step, from the run's seed, the name and the step: nothing to keep."""
        return derived_seed(self.options.seed, name, self.step)

    def save(self) -> Path:
        """Write a checkpoint of the state after `step`."""
        self._metrics.sync()
        self._samples.sync()
        self._write_ledger()
        keep = self.options.keep_checkpoints
        return save_checkpoint(self.checkpoints, self.step, self._state(), keep)

    def finish(
        self,
        model: Any,
        tokenizer: Any,
        save_model: Callable[[Any, Any, Path], Any],
        results: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write model/ and ledger.json, then finished.json with the `results`, which marks the run as done.

        `save_model(model, tokenizer, folder)` has to be atomic. Returns the run folder.
        """
        with writing(self.output / "model"):
            save_model(model, tokenizer, self.output / "model")
        return self.conclude(results)

    def conclude(self, results: Mapping[str, Any] | None = None) -> Path:
        """`finish` without a model, for a run that makes something else: ledger.json, then finished.json."""
        self._write_ledger()
        write_json(self.output / "finished.json", {"steps": self.step, "results": dict(results or {})})
        return self.output

    def _begin(self, total: int) -> None:
        """Make the folder, or go back to the last checkpoint and forget what came after it."""
        if self.finished:
            raise RuntimeError(f"{self.output}: the run is finished; a stage asks run.finished first")
        self._total = total
        self._fresh = not (self.output / "config.yaml").exists()
        self._lock = lock_folder(self.output)
        write_config(self.output / "config.yaml", self.name, self.config)
        for note, value in self._notes.items():
            write_json(self.output / note, value)
        self._metrics.cut(self.step)
        self._samples.cut(self.step)
        found = checkpoints(self.checkpoints)
        if found:
            self._restore(found[-1][1], total)
        self._displays = displays(self.options, self.output, self.name, self.config, self.step, total)

    def _forget(self) -> None:
        """Leave no run behind that never made a step: a mistake in its first one is not something to resume."""
        with suppress(OSError):  # the folder could not be made, or holds something else
            for name in ("config.yaml", "samples.jsonl", "metrics.jsonl", *self._notes):
                (self.output / name).unlink(missing_ok=True)
            rmtree(self.output / EVALUATION, ignore_errors=True)
            self.output.rmdir()

    def _state(self, without: Container[str] = ()) -> dict[str, Any]:
        return {
            "step": self.step,
            "total": self._total,
            "tracked": {name: one.state_dict() for name, one in self._tracked.items() if name not in without},
            "random": random_state(),
            "generators": {name: generator.get_state() for name, generator in self._generators.items()},
            "ledger": self.ledger.state_dict(),
        }

    def _learners(self) -> dict[str, Learner]:
        return {name: one for name, one in self._tracked.items() if isinstance(one, Learner)}

    def _restore(self, path: Path, total: int) -> None:
        state = load_checkpoint(path)
        if state["total"] != total or state["tracked"].keys() != self._tracked.keys():
            raise UserError(
                f"{path}: belongs to a run of {state['total']} steps with {sorted(state['tracked'])}, but this one has "
                f"{total} with {sorted(self._tracked)}; was the data changed? choose another output"
            )
        for name, one in self._tracked.items():
            one.load_state_dict(state["tracked"][name])
        self._saved_generators = state["generators"]
        for name in self._generators.keys() & self._saved_generators.keys():
            self._generators[name].set_state(self._saved_generators[name])
        self.ledger.load_state_dict(state["ledger"])
        restore_random_state(state["random"])

    def _write_line(self, tokens: int, seconds: float) -> None:
        """The finished step's line, to the file and to the displays."""
        ledger = {"tokens": self.ledger.tokens, "tokens_per_second": tokens / seconds, "seconds": self.ledger.seconds}
        due = self.step % self.options.log_every == 0 or self.step == self._total
        if due or self._stop_reason is not None or self.evaluating_now():
            line = plain({"step": self.step} | self._line | ledger)
            self._metrics.append(line)
            self._written = True
            for display in self._displays:
                display.show(self.step, line)
        if self.ledger.seconds - self._ledger_written > LEDGER_SECONDS:
            self._write_ledger()

    def _write_ledger(self) -> None:
        self._ledger_written = self.ledger.seconds
        summary = {"stage": self.name, **self.ledger.summary(), "versions": versions()}
        write_json(self.output / "ledger.json", summary)

    def _stop(self, number: int) -> None:
        """Save and leave."""
        self._save_once()
        stop = Interrupted(number)
        print(f"{self.output}: {stop.name}: saved after step {self.step}; continue with --resume", file=sys.stderr)
        raise stop

    def _save_once(self) -> None:
        """Save, unless this step was saved just now."""
        if (self.step, self.checkpoints / f"step-{self.step:06d}") not in checkpoints(self.checkpoints):
            self.save()
