"""Where metrics are shown during a run: the terminal, TensorBoard, Weights & Biases."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from zhenlong.errors import UserError
from zhenlong.loop.options import TrainingOptions

LINE_INTERVAL_SECONDS = 15.0
PROGRESS_METRICS = ("loss", "reward", "accuracy", "kl")


class MetricLogger(Protocol):
    """Shows the metrics of a step."""

    def log(self, step: int, metrics: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


def make_loggers(
    options: TrainingOptions, folder: Path, name: str, config: Mapping[str, Any], step: int, total: int
) -> list[MetricLogger]:
    """The loggers that the options enable, for a run that has completed `step` of `total` steps.

    Raises `UserError` naming the extra to install when a package is missing.
    """
    result: list[MetricLogger] = []
    if options.progress:
        console = Console(stderr=True)
        result.append(
            ProgressBar(console, name, step, total) if console.is_terminal else ProgressLines(name, step, total)
        )
    if options.tensorboard:
        result.append(TensorBoardLogger(folder / "tensorboard", step))
    if options.wandb:
        result.append(WandbLogger(options.wandb, folder, name, config))
    return result


class ProgressBar:
    """A progress bar in the terminal: steps, loss and reward, tokens/s, time left."""

    def __init__(self, console: Console, name: str, step: int, total: int) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console, refresh_per_second=4)
        self._task = self._progress.add_task(name, total=total, completed=step, numbers="")
        self._progress.start()

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Advance the bar."""
        self._progress.update(self._task, completed=step, numbers=_format_metrics(metrics))

    def close(self) -> None:
        """Stop updating; the bar stays on screen."""
        self._progress.stop()


class ProgressLines:
    """Plain progress lines: one for the first and the last step, and one every 15 seconds between."""

    def __init__(self, name: str, step: int, total: int) -> None:
        self.name, self.total = name, total
        self._first = step + 1
        self._started_at = self._last_printed_at = time.monotonic()

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Print the step if a line is due."""
        now = time.monotonic()
        if step not in (self._first, self.total) and now - self._last_printed_at < LINE_INTERVAL_SECONDS:
            return
        self._last_printed_at = now
        left = (now - self._started_at) / (step - self._first + 1) * (self.total - step)
        print(
            f"{self.name} {step}/{self.total}  {_format_metrics(metrics)}  {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )

    def close(self) -> None:
        """Do nothing: no resource is open."""


class TensorBoardLogger:
    """Scalars for TensorBoard; those after `step`, from an interrupted run, are purged."""

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError(
                "tensorboard: the package is not installed; run pip install 'zhenlong[tensorboard]'"
            ) from error
        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Write the step's scalars."""
        for key, value in metrics.items():
            if key != "step" and isinstance(value, (int, float)):
                self._writer.add_scalar(key, value, step)

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


class WandbLogger:
    """Sends metrics to a Weights & Biases project; a resumed run keeps its id, stored in the run folder."""

    def __init__(self, project: str, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UserError("wandb: the package is not installed; run pip install 'zhenlong[wandb]'") from error
        run_id_file = folder / "wandb" / "run-id.txt"
        if not run_id_file.exists():
            run_id_file.parent.mkdir(parents=True, exist_ok=True)
            run_id_file.write_text(uuid.uuid4().hex)
        settings = {"project": project, "name": f"{name} {folder.name}", "dir": str(folder), "config": dict(config)}
        self._run = wandb.init(id=run_id_file.read_text().strip(), resume="allow", **settings)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Send the step's metrics."""
        self._run.log({key: value for key, value in metrics.items() if key != "step"}, step=step)

    def close(self) -> None:
        """Finish the upload."""
        self._run.finish()


def _format_metrics(metrics: Mapping[str, Any]) -> str:
    shown = [f"{name} {metrics[name]:.4g}" for name in PROGRESS_METRICS if isinstance(metrics.get(name), (int, float))]
    rate = metrics.get("tokens_per_second")
    return "  ".join(shown + ([f"{rate:,.0f} tokens/s"] if rate else []))
