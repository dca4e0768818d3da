"""What the runs cost, from their ledgers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from zhenlong.report.folder import RunStory
from zhenlong.report.measures import NONE, mean_of, name_of

Writer = Callable[[float], str]


@dataclass(frozen=True)
class Costs:
    """A table: a heading for each column, a row for each run, and the sums of those columns that add up."""

    columns: list[str]
    rows: list[tuple[str, list[str]]]
    total: list[str]


def costs_of(runs: Sequence[RunStory]) -> Costs:
    """The costs of the runs that have a ledger; quantities that no ledger has are left out."""
    told = [run for run in runs if run.ledger]
    extra = dict.fromkeys(
        k for run in told for k in run.ledger if k not in COLUMNS and mean_of(run.ledger[k]) is not None
    )
    columns = COLUMNS | {key: (key.replace("_", " ").capitalize(), _plain, True) for key in extra}
    shown = {
        key: column for key, column in columns.items() if any(mean_of(run.ledger.get(key)) is not None for run in told)
    }
    rows = [
        (name_of(run.name), [_cell(run.ledger.get(key), write) for key, (_, write, _) in shown.items()]) for run in told
    ]
    total = [
        write(sum(mean_of(run.ledger.get(key)) or 0.0 for run in told)) if adds else ""
        for key, (_, write, adds) in shown.items()
    ]
    return Costs([heading for heading, _, _ in shown.values()], rows, total if len(rows) > 1 else [])


def duration(seconds: float) -> str:
    """A time in the two largest of hours, minutes and seconds."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def scaled(value: float, unit: str = "", step: float = 1000.0) -> str:
    """A count with the prefix that leaves one to three digits before the point."""
    prefixes = ("", "k", "M", "G", "T", "P", "E") if step == 1000.0 else ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
    power = 0
    while abs(value) >= step and power < len(prefixes) - 1:
        value, power = value / step, power + 1
    return f"{value:.{0 if value == int(value) else 1}f} {prefixes[power]}{unit}".rstrip()


def _plain(value: float) -> str:
    return f"{value:,.4g}"


def _cell(value: Any, write: Writer) -> str:
    number = mean_of(value)
    return NONE if number is None else write(number)


COLUMNS: Final[dict[str, tuple[str, Writer, bool]]] = {  # key: heading, how it is written, whether runs add up
    "seconds": ("Time", duration, True),
    "tokens": ("Tokens trained on", scaled, True),
    "flops": ("Arithmetic", lambda value: scaled(value, "FLOP"), True),
    "tokens_per_second": ("Tokens/s", lambda value: f"{value:,.0f}", False),
    "utilisation": ("Utilisation", lambda value: f"{100 * value:.0f} %", False),
    "matmul_flops_per_second": ("Matmul rate", lambda value: scaled(value, "FLOP/s"), False),
    "peak_memory_bytes": ("Peak memory", lambda value: scaled(value, "B", 1024.0), False),
}
