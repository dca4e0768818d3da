"""The table of costs, from the runs' ledgers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from zhenlong.evaluate.results.number_format import format_short
from zhenlong.report.labels import MISSING_TEXT, display_name, mean_value
from zhenlong.report.report_data import RunData

Formatter = Callable[[float], str]


@dataclass(frozen=True)
class CostTable:
    """Column headings, a row for each run, and sums of the additive columns."""

    columns: list[str]
    rows: list[tuple[str, list[str]]]
    totals: list[str]


def cost_table(runs: Sequence[RunData]) -> CostTable:
    """The costs of the runs with a ledger, without quantities that no ledger has."""
    runs_with_ledger = [run for run in runs if run.ledger]
    unknown_keys = dict.fromkeys(
        k
        for run in runs_with_ledger
        for k in run.ledger
        if k not in LEDGER_COLUMNS and mean_value(run.ledger[k]) is not None
    )
    columns = LEDGER_COLUMNS | {key: (key.replace("_", " ").capitalize(), _format_plain, True) for key in unknown_keys}
    present_columns = {
        key: column
        for key, column in columns.items()
        if any(mean_value(run.ledger.get(key)) is not None for run in runs_with_ledger)
    }
    rows = [
        (
            display_name(run.name),
            [_format_cell(run.ledger.get(key), write) for key, (_, write, _) in present_columns.items()],
        )
        for run in runs_with_ledger
    ]
    total = [
        write(sum(mean_value(run.ledger.get(key)) or 0.0 for run in runs_with_ledger)) if adds else ""
        for key, (_, write, adds) in present_columns.items()
    ]
    return CostTable([heading for heading, _, _ in present_columns.values()], rows, total if len(rows) > 1 else [])


def format_duration(seconds: float) -> str:
    """A duration in its two largest units of hours, minutes and seconds."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_si(value: float, unit: str = "", base: float = 1000.0) -> str:
    """A count with an SI prefix and one to three digits before the decimal point."""
    prefixes = ("", "k", "M", "G", "T", "P", "E") if base == 1000.0 else ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
    power = 0
    while abs(value) >= base and power < len(prefixes) - 1:
        value, power = value / base, power + 1
    return f"{value:.{0 if value == int(value) else 1}f} {prefixes[power]}{unit}".rstrip()


def _format_plain(value: float) -> str:
    return format_short(value, 4)


def _format_cell(value: Any, formatter: Formatter) -> str:
    number = mean_value(value)
    return MISSING_TEXT if number is None else formatter(number)


LEDGER_COLUMNS: Final[
    dict[str, tuple[str, Formatter, bool]]
] = {  # key: heading, formatter, whether it is summed over runs
    "seconds": ("Time", format_duration, True),
    "tokens": ("Tokens trained on", format_si, True),
    "flops": ("Arithmetic", lambda value: format_si(value, "FLOP"), True),
    "tokens_per_second": ("Tokens/s", lambda value: f"{value:,.0f}", False),
    "utilisation": ("Utilisation", lambda value: f"{100 * value:.0f} %", False),
    "matmul_flops_per_second": ("Matmul rate", lambda value: format_si(value, "FLOP/s"), False),
    "peak_memory_bytes": ("Peak memory", lambda value: format_si(value, "B", 1024.0), False),
}
