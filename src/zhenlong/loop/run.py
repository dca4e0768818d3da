"""A run: one folder, one loop over steps, and exact resume after an interruption.

    with Run(output, config, training, name="sft", model_options=model_options) as run:
        if run.finished:
            return run.output
        ...                                          # load the model and the data
        run.track(learner=learner, order=order)
        for step in run.steps(total):
            run.log(learner.step(...))
        return run.finish(model, tokenizer, save_model)

Nothing is written before the first step, so a mistake in data or options leaves no folder behind.
"""

from __future__ import annotations

import json
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
from zhenlong.loop.atomic import JsonLines, lock_folder, reporting_write_errors, to_jsonable, write_json
from zhenlong.loop.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from zhenlong.loop.config import check_run_folder, package_versions, resolve_config, write_config
from zhenlong.loop.learner import Learner, NonFiniteError
from zhenlong.loop.ledger import Ledger
from zhenlong.loop.loggers import MetricLogger, make_loggers
from zhenlong.loop.options import TrainingOptions
from zhenlong.loop.precision import compute_dtype, device_of
from zhenlong.loop.signals import Interrupted, StopSignals
from zhenlong.models.options import ModelOptions
from zhenlong.options import Options
from zhenlong.randomness import (
    derived_seed,
    eval_mode,
    random_state,
    restore_random_state,
    seed_everything,
)

DEFAULT_MODEL_OPTIONS: Final = ModelOptions()
LEDGER_INTERVAL_SECONDS: Final = 10.0
EVALUATION_FOLDER: Final = "evaluation"  # the run's folder of evaluations during training


class Stateful(Protocol):
    """State that a checkpoint can hold: dicts, lists, tuples, strings, numbers, None, tensors and numpy arrays."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


class Run:
    """One training run in the folder `output`.

    Args:
        output: the run folder, created at the first step.
        config: the stage's arguments for config.yaml; `dict(locals())` on the stage's first line works.
        options: how the run optimises, saves and reports.
        name: the stage's command name.
        model_options: device and precision.
        other_options: the stage's other options, for config.yaml.

    Attributes:
        step: the current step; outside the loop, the completed steps (of the checkpoint to resume from).
        ledger: the costs; a stage calls `run.ledger.count(tokens=…, flops=…)`.
        device: the device that `model_options.device` selects.
        dtype: precision of matrix products.

    Raises `UserError` when the folder holds another run, or holds this one but `options.resume` is off or the config
    has changed.
    """

    def __init__(
        self,
        output: str | Path,
        config: Mapping[str, Any],
        options: TrainingOptions,
        name: str = "run",
        *,
        model_options: ModelOptions = DEFAULT_MODEL_OPTIONS,
        other_options: Sequence[Options] = (),
    ) -> None:
        self.output, self.options, self.name, self.model_options = Path(output), options, name, model_options
        self.config = resolve_config(config, *other_options, model_options, options)
        check_run_folder(self.output, self.config, options.resume)
        self.device = device_of(model_options)
        self.dtype = compute_dtype(model_options, self.device)
        self.ledger = Ledger(self.device, self.dtype)
        self.checkpoints_folder = self.output / "checkpoints"
        self.step = max((step for step, _ in list_checkpoints(self.checkpoints_folder)), default=0)
        self._metrics_file = JsonLines(self.output / "metrics.jsonl")
        self._samples_file = JsonLines(self.output / "samples.jsonl")
        self._tracked: dict[str, Stateful] = {}
        self._generators: dict[str, torch.Generator] = {}
        self._saved_generators: dict[str, torch.Tensor] = {}
        self._loggers: list[MetricLogger] = []
        self._signals = StopSignals()
        self._step_metrics: dict[str, Any] = {}
        self._must_write = False  # this step's line
        self._notes: dict[str, Any] = {}
        self._state_before_step: dict[str, Any] = {}
        self._total_steps = 0
        self._ledger_written_at = 0.0
        self._stop_reason: BaseException | None = None
        self._is_last_step = False
        self._has_logged_a_step = False  # whether a step's line is in metrics.jsonl
        self._lock: int | None = None
        self._is_new = False

    @property
    def finished(self) -> bool:
        """Whether the run finished earlier, so that nothing is left to do."""
        return (self.output / "finished.json").exists()

    @property
    def total_steps(self) -> int:
        """The steps of the whole run; 0 before the loop over steps."""
        return self._total_steps

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
        for logger in self._loggers:
            logger.close()
        if self._lock is not None:
            os.close(self._lock)
        if isinstance(error, NonFiniteError) and self._state_before_step:
            learners = {
                name: one.state_dict() for name, one in self._learners().items()
            }  # unchanged by the failed step
            state = self._state_before_step | {"tracked": self._state_before_step["tracked"] | learners}
            path = save_checkpoint(self.output / "nan_checkpoint", self._state_before_step["step"], state)
            raise NonFiniteError(f"{error}; the state before it is in {path}") from error
        if isinstance(error, UserError) and self._is_new and self.step <= 1 and not self._has_logged_a_step:
            self._remove_new_folder()

    def track(self, **tracked: Stateful) -> None:
        """Register what checkpoints hold besides random states: learners, data orders, rollout buffers, controllers.

        The `state_dict` of anything but a learner must not share objects that a step changes in place.
        """
        self._tracked |= tracked

    def steps(self, total: int) -> Iterator[int]:
        """Yield the steps (counted from 1) from the first one not done to `total`; saves and stops in between."""
        self._start(total)
        self.ledger.start()
        self._signals.in_step = True
        for step in range(self.step + 1, self.step + 1 if self._is_last_step else total + 1):
            self._state_before_step = self._state(exclude=self._learners())
            tokens_before, step_started = self.ledger.tokens, time.perf_counter()
            self.step, self._step_metrics, self._must_write = step, {}, False
            yield step
            self._log_step(self.ledger.tokens - tokens_before, time.perf_counter() - step_started)
            self._state_before_step = {}
            every = self.options.save_every
            if every and step % every == 0:
                self.save()
            if self._stop_reason is not None:
                self._save_if_unsaved()
                raise self._stop_reason
            if self._signals.received is not None:
                self._stop_on_signal(self._signals.received)
            if self._is_last_step:
                break
        self._signals.in_step = False
        self.ledger.stop()

    def log(self, metrics: Mapping[str, Any], *, write: bool = False) -> None:
        """Add metrics to the step's line in metrics.jsonl; several calls in one step are merged.

        With `write` the line is written whatever `log_every` says.
        """
        self._must_write |= write
        if not self._state_before_step:
            raise RuntimeError("log() belongs inside the loop over steps(); results go to finish(results=…)")
        self._step_metrics |= metrics

    def should_sample(self) -> bool:
        """Whether samples are due in this step: every `sample_every` steps and in the last one."""
        every = self.options.sample_every
        return bool(every) and (self.step % every == 0 or self.step == self._total_steps)

    def should_evaluate(self) -> bool:
        """Whether an evaluation is due after this step: every `evaluate_every` steps and after the last one."""
        every = self.options.evaluate_every
        is_last = self._is_last_step or self.step == self._total_steps
        return bool(every) and (self.step % every == 0 or is_last)

    def log_step_zero(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics from before training as the line of step 0. Call it inside the first step."""
        self._metrics_file.truncate_after(-1)
        self._metrics_file.append(to_jsonable({"step": 0} | dict(metrics)))

    def stop_after_step(self, reason: BaseException) -> None:
        """Complete this step, save a checkpoint, then raise `reason`; the run can be resumed."""
        self._stop_reason = reason

    def end_after_step(self) -> None:
        """Make this step the last one: the loop over steps ends, and the stage finishes as usual."""
        self._is_last_step = True

    def logged(self, name: str) -> list[tuple[int, float]]:
        """The steps before this one with a value of a metric in metrics.jsonl, and the values."""
        path = self._metrics_file.path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [(row["step"], row[name]) for row in rows if row.get(name) is not None and row["step"] < self.step]

    def write_samples(self, samples: Sequence[Mapping[str, Any]]) -> None:
        """Append responses to samples.jsonl: rows with `prompt` (messages), `response` and optionally `reward`."""
        for row in samples:
            self._samples_file.append({"step": self.step, **row})

    @contextmanager
    def eval_mode(self) -> Iterator[None]:
        """Evaluate or sample inside: learners' modules in eval mode, no gradients, no effect on training."""
        generators = {name: generator.get_state() for name, generator in self._generators.items()}
        try:
            with eval_mode(*(module for learner in self._learners().values() for module in learner.modules)):
                yield
        finally:
            self._generators = {name: self._generators[name] for name in generators}
            for name, state in generators.items():
                self._generators[name].set_state(state)

    def generator(self, name: str) -> torch.Generator:
        """A CPU generator for one purpose, seeded from the run's seed and the name, and saved in checkpoints."""
        if name not in self._generators:
            self._generators[name] = torch.Generator().manual_seed(derived_seed(self.options.seed, name))
            if name in self._saved_generators:
                self._generators[name].set_state(self._saved_generators[name])
        return self._generators[name]

    def write_note(self, name: str, value: Any) -> None:
        """Write a JSON file `name` into the run folder, such as the list of skipped rows.

        Notes made before the first step are written when the folder is created.
        """
        self._notes[name] = value
        if self._lock is not None:
            write_json(self.output / name, value)

    def add_to_note(self, name: str, counts: Mapping[str, int]) -> None:
        """Add counts to those that the note `name` has from this process, such as those of another source."""
        before = self._notes.get(name, {})
        self.write_note(name, {key: before.get(key, 0) + count for key, count in counts.items()})

    def step_seed(self, name: str) -> int:
        """A seed for one purpose in this step, from the run's seed, the name and the step; nothing to save."""
        return derived_seed(self.options.seed, name, self.step)

    def save(self) -> Path:
        """Write a checkpoint of the state after `step`."""
        self._metrics_file.sync()
        self._samples_file.sync()
        self._write_ledger()
        keep = self.options.keep_checkpoints
        return save_checkpoint(self.checkpoints_folder, self.step, self._state(), keep)

    def finish(
        self,
        model: Any,
        tokenizer: Any,
        save_model: Callable[[Any, Any, Path], Any],
        results: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write model/ and ledger.json, then finished.json with the `results`, which marks the run as finished.

        `save_model(model, tokenizer, folder)` must be atomic. Returns the run folder.
        """
        with reporting_write_errors(self.output / "model"):
            save_model(model, tokenizer, self.output / "model")
        return self.finish_without_model(results)

    def finish_without_model(self, results: Mapping[str, Any] | None = None) -> Path:
        """`finish` for a run that produces no model: ledger.json, then finished.json."""
        self._write_ledger()
        write_json(self.output / "finished.json", {"steps": self.step, "results": dict(results or {})})
        return self.output

    def _start(self, total: int) -> None:
        """Create the folder, or restore the last checkpoint and drop everything written after it."""
        if self.finished:
            raise RuntimeError(f"{self.output}: the run is finished; a stage must check run.finished first")
        self._total_steps = total
        self._is_new = not (self.output / "config.yaml").exists()
        self._lock = lock_folder(self.output)
        write_config(self.output / "config.yaml", self.name, self.config)
        for note, value in self._notes.items():
            write_json(self.output / note, value)
        self._metrics_file.truncate_after(self.step)
        self._samples_file.truncate_after(self.step)
        saved_checkpoints = list_checkpoints(self.checkpoints_folder)
        if saved_checkpoints:
            self._restore(saved_checkpoints[-1][1], total)
        self._loggers = make_loggers(self.options, self.output, self.name, self.config, self.step, total)

    def _remove_new_folder(self) -> None:
        """Delete a new folder whose first step failed: there is nothing to resume."""
        with suppress(OSError):  # the folder could not be made, or holds something else
            for name in ("config.yaml", "samples.jsonl", "metrics.jsonl", *self._notes):
                (self.output / name).unlink(missing_ok=True)
            rmtree(self.output / EVALUATION_FOLDER, ignore_errors=True)
            self.output.rmdir()

    def _state(self, exclude: Container[str] = ()) -> dict[str, Any]:
        return {
            "step": self.step,
            "total": self._total_steps,
            "ended": self._is_last_step,
            "tracked": {name: one.state_dict() for name, one in self._tracked.items() if name not in exclude},
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
        self._is_last_step = state["ended"]
        self._saved_generators = state["generators"]
        for name in self._generators.keys() & self._saved_generators.keys():
            self._generators[name].set_state(self._saved_generators[name])
        self.ledger.load_state_dict(state["ledger"])
        restore_random_state(state["random"])

    def _log_step(self, tokens: int, seconds: float) -> None:
        """Write the finished step's line to the file and to the loggers."""
        ledger = {"tokens": self.ledger.tokens, "tokens_per_second": tokens / seconds, "seconds": self.ledger.seconds}
        should_log = self.step % self.options.log_every == 0 or self.step == self._total_steps
        if should_log or self._must_write or self._stop_reason is not None or self.should_evaluate():
            line = to_jsonable({"step": self.step} | self._step_metrics | ledger)
            self._metrics_file.append(line)
            self._has_logged_a_step = True
            for logger in self._loggers:
                logger.log(self.step, line)
        if self.ledger.seconds - self._ledger_written_at > LEDGER_INTERVAL_SECONDS:
            self._write_ledger()

    def _write_ledger(self) -> None:
        self._ledger_written_at = self.ledger.seconds
        summary = {"stage": self.name, **self.ledger.summary(), "versions": package_versions()}
        write_json(self.output / "ledger.json", summary)

    def _stop_on_signal(self, signal_number: int) -> None:
        """Save, then exit."""
        self._save_if_unsaved()
        stop = Interrupted(signal_number)
        print(f"{self.output}: {stop.name}: saved after step {self.step}; continue with --resume", file=sys.stderr)
        raise stop

    def _save_if_unsaved(self) -> None:
        """Save a checkpoint of this step unless there is one."""
        if (self.step, self.checkpoints_folder / f"step-{self.step:06d}") not in list_checkpoints(
            self.checkpoints_folder
        ):
            self.save()
