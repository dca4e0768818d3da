"""Which method aligns best? A leaderboard of the methods in a recipe: means over seeds with confidence intervals.

zhenlong run methods --seed 0 --output runs/methods/0        (and 1, and 2)
zhenlong leaderboard runs/methods/0 runs/methods/1 runs/methods/2 --output runs/methods
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from rich.console import Console
from rich.markdown import Markdown
from scipy import stats

from zhenlong.api.folder_format import require_json_format
from zhenlong.errors import UserError
from zhenlong.evaluate.statistics.bootstrap import UNKNOWN
from zhenlong.evaluate.statistics.intervals import Interval
from zhenlong.loop.atomic import to_jsonable, write_json, write_text
from zhenlong.report.labels import display_name, mean_value
from zhenlong.report.summary_table import markdown_row


@dataclass(frozen=True)
class Column:
    """One column of the table: its title, where the summary has it, how it is written, and whether more is better."""

    title: str
    keys: tuple[str, ...]  # keys of summary.json; the first one present is used
    format_spec: str = "{:.2f}"
    direction: int = 0  # 1: higher is better, -1: lower is better, 0: neither
    is_fraction: bool = False
    complement: bool = False  # shown as 1 - the value


COLUMNS: Final = (
    Column("gold reward", ("gold_reward",), "{:.3f}", 1),
    Column("proxy reward", ("proxy_reward",)),
    Column("KL", ("kl_from_sft", "kl"), "{:.2f}"),
    Column("tokens", ("mean_response_tokens",), "{:.1f}"),
    Column("refuses harm %", ("harmful_refused",), "{:.1f}", 1, is_fraction=True),
    Column("over-refuses %", ("benign_compliance",), "{:.1f}", -1, is_fraction=True, complement=True),
    Column("accuracy %", ("accuracy",), "{:.1f}", 1, is_fraction=True),
    Column("ECE", ("world_facts_ece_10_bin",), "{:.3f}", -1),
)
COSTS: Final = (
    Column("GFLOP", ("flops",), "{:.0f}"),
    Column("seconds", ("seconds",), "{:.0f}"),
)
CONFIDENCE: Final = 0.95


def leaderboard(runs: Sequence[str] = (), *, output: str, baseline: str = "sft", json: bool = False) -> Path:
    """Write one table of the methods that recipes compared, over their seeds.

    Args:
        runs: Finished output folders of one recipe, one folder per seed, separated by spaces.
        output: Folder for leaderboard.md and leaderboard.json.
        baseline: Model that the gains are measured against.
        json: Print the numbers as JSON instead of the table.

    Each value is the mean over seeds with Student's t interval; a gain is paired by seed. A second interval of the same
    gain is paired by prompt: it holds for these trained models and says nothing about other seeds. Raises `UserError`
    for runs that are unfinished, share a seed, or differ in models or recipe.
    """
    folders = [Path(run) for run in runs]
    summaries = [_read_summary(folder) for folder in folders]
    _require_comparable(folders, summaries, baseline)
    names = list(summaries[0]["models"])
    costs = {name: [_method_cost(folder, summary, name) for folder, summary in zip(folders, summaries, strict=True)]
             for name in names}  # fmt: skip
    rows = {name: _method_row([one["models"][name] for one in summaries], costs[name]) for name in names}
    gains = {
        name: seed_paired_gain(
            [one["models"][name] for one in summaries], [one["models"][baseline] for one in summaries]
        )
        for name in names
        if name != baseline and "gold_reward" in summaries[0]["models"][name]
    }
    prompt_gains = {
        name: prompt_paired_gain([one["models"][name].get(f"gold_gain_over_{baseline}") for one in summaries])
        for name in gains
    }
    seeds = [summary["seed"] for summary in summaries]
    found = {
        "runs": [str(folder) for folder in folders],
        "seeds": seeds,
        "baseline": baseline,
        "methods": {name: {key: one.as_json() for key, one in row.items()} for name, row in rows.items()},
        "gains": {name: one.as_json() | {"above_zero": one.above_zero} for name, one in gains.items()},
        "gains_over_prompts": {
            name: one.as_json() | {"above_zero": one.above_zero} for name, one in prompt_gains.items() if one
        },
    }
    table_arguments = (rows, gains, baseline, seeds, prompt_gains)
    path = Path(output) / "leaderboard.md"
    write_json(Path(output) / "leaderboard.json", to_jsonable(found))
    write_text(path, markdown_table(*table_arguments))
    _print(
        found if json else markdown_table(*table_arguments, columns=COLUMNS[:1])
    )  # all columns do not fit a terminal
    return path


def mean_over_seeds(values: Iterable[float]) -> Interval:
    """The mean over seeds with Student's t interval; its ends are NaN for a single seed, and if all seeds agree."""
    data = np.asarray(list(values), dtype=np.float64)
    n, mean = len(data), float(data.mean())
    if n < 2:
        return Interval(mean, (math.nan, math.nan), n)
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1) * data.std(ddof=1) / math.sqrt(n))
    return Interval(mean, (mean - half, mean + half) if half > 1e-12 * max(1.0, abs(mean)) else UNKNOWN, n)


def seed_paired_gain(
    models: Sequence[Mapping[str, Any]], baselines: Sequence[Mapping[str, Any]], key: str = "gold_reward"
) -> Interval:
    """The gain of a method over the baseline, paired by seed."""
    pairs = zip(models, baselines, strict=True)
    return mean_over_seeds(_mean_of_measure(model, key) - _mean_of_measure(before, key) for model, before in pairs)


def prompt_paired_gain(gains: Sequence[Any]) -> Interval | None:
    """The mean gain over seeds with the interval from sampling prompts only; None where a run has no gain.

    Each seed samples its prompts independently, so the variances of the seeds' means add up.
    """
    if any(mean_value(one) is None for one in gains):
        return None
    mean = float(np.mean([one["mean"] for one in gains]))
    n = sum(one["n"] for one in gains)
    if any(end is None for one in gains for end in one["ci95"]):
        return Interval(mean, UNKNOWN, n)
    half = math.sqrt(sum(((one["ci95"][1] - one["ci95"][0]) / 2) ** 2 for one in gains)) / len(gains)
    return Interval(mean, (mean - half, mean + half), n)


def markdown_table(rows: Mapping[str, Mapping[str, Interval]], gains: Mapping[str, Interval], baseline: str,
          seeds: Sequence[int], prompt_gains: Mapping[str, Interval | None],
          columns: Sequence[Column] = ()) -> str:  # fmt: skip
    """The table as Markdown, baseline first, then by gain in gold reward; a note below names gains within chance."""
    columns = columns or [one for one in (*COLUMNS, *COSTS) if any(one.title in row for row in rows.values())]
    order = sorted(rows, key=lambda name: (name in gains, -(gains[name].mean if name in gains else 0.0)))
    titles = ["method", *(f"{column.title} {_arrow(column)}".strip() for column in columns), f"gain over {baseline}"]
    titles += ["over prompts"] if any(prompt_gains.values()) else []
    lines = [markdown_row(titles), "|---|" + "---:|" * (len(titles) - 1)]
    for name in order:
        cells = [_format_interval(rows[name].get(column.title), column) for column in columns]
        over = _format_interval(gains[name], Column("", (), "{:+.3f}")) if name in gains else ""
        lines.append(
            markdown_row([display_name(name), *cells, over, *_format_bounds(prompt_gains.get(name))][: len(titles)])
        )
    not_above = [display_name(name) for name, one in gains.items() if not one.above_zero]
    conclusion = (
        f"Not above {baseline} beyond chance: {', '.join(not_above)}." if not_above else f"All are above {baseline}."
    )
    note = (
        f"Means over {len(seeds)} seeds ({', '.join(map(str, seeds))}) ± half of Student's 95 % interval; the gain is "
        f"in gold reward and paired by seed. {conclusion} Costs count a method's own steps only, "
        f"without the shared steps ({baseline}, reward model)."
    )
    if any(prompt_gains.values()):
        not_above_prompts = [display_name(name) for name, one in prompt_gains.items() if not (one and one.above_zero)]
        note += " *Over prompts*: 95 % interval of the same gain, paired by prompt, for these models; not above 0: "
        note += f"{', '.join(not_above_prompts) or 'none'}."
    return "\n".join([*lines, "", note]) + "\n"


def _method_row(models: Sequence[Mapping[str, Any]], costs: Sequence[Mapping[str, float]]) -> dict[str, Interval]:
    found = {}
    for column in (*COLUMNS, *COSTS):
        sources: Sequence[Mapping[str, Any]] = costs if column in COSTS else models
        key = next((key for key in column.keys if all(mean_value(one.get(key)) is not None for one in sources)), None)
        if key is None:
            continue
        values = [_mean_of_measure(one, key) for one in sources]
        scale = 100.0 if column.is_fraction else 1e-9 if key == "flops" else 1.0
        found[column.title] = mean_over_seeds(scale * (1 - value if column.complement else value) for value in values)
    return found


def _mean_of_measure(measures: Mapping[str, Any], key: str) -> float:
    found = mean_value(measures.get(key))
    if found is None:
        raise UserError(f"summary.json: a model has no {key}; expected it for every method")
    return found


def _method_cost(folder: Path, summary: Mapping[str, Any], name: str) -> dict[str, float]:
    """FLOPs and seconds of a method's own steps: the step `name` and the steps that start with `name_`.

    A step that fits several methods counts for the longest name. Shared steps (SFT, reward model) count for none.
    """
    steps = [step for step in summary.get("step_seconds", {}) if _method_of(step, summary["models"]) == name]
    if not steps:
        return {}
    ledgers = [folder / step / "ledger.json" for step in steps]
    flops = sum(_read_json(path).get("flops", 0.0) for path in ledgers if path.exists())
    return {"flops": flops, "seconds": float(sum(summary["step_seconds"][step] for step in steps))}


def _method_of(step: str, names: Iterable[str]) -> str:
    matching = [name for name in names if step == name or step.startswith(f"{name}_")]
    return max(matching, key=len, default="")


def _read_summary(folder: Path) -> dict[str, Any]:
    if not (folder / "summary.json").exists():
        raise UserError(f"{folder}: no summary.json; expected the output of a finished recipe")
    found = _read_json(folder / "summary.json")
    if not isinstance(found.get("models"), dict) or "seed" not in found:
        raise UserError(f"{folder}/summary.json: expected models and a seed, as `zhenlong run` writes them")
    return found


def _require_comparable(folders: Sequence[Path], summaries: Sequence[Mapping[str, Any]], baseline: str) -> None:
    if not folders:
        raise UserError("runs: expected one folder or more, such as runs/methods/0 runs/methods/1")
    if baseline not in summaries[0]["models"]:
        raise UserError(f"baseline: expected one of {', '.join(summaries[0]['models'])}, got {baseline!r}")
    seeds: dict[Any, Path] = {}
    for folder, summary in zip(folders, summaries, strict=True):
        if summary["seed"] in seeds:
            raise UserError(
                f"{folder}: same seed {summary['seed']} as {seeds[summary['seed']]}; expected one run per seed"
            )
        seeds[summary["seed"]] = folder
        if set(summary["models"]) != set(summaries[0]["models"]):
            raise UserError(f"{folder}: other models than in {folders[0]}; expected runs of one recipe")
        if _recipe_without_seed(folder, summary) != _recipe_without_seed(folders[0], summaries[0]):
            raise UserError(f"{folder}: other steps or options than in {folders[0]}; only the seed may differ")


def _recipe_without_seed(folder: Path, summary: Mapping[str, Any]) -> str:
    """The recipe as it ran, with output folder and seed replaced by placeholders."""
    progress = _read_json(folder / "progress.json") if (folder / "progress.json").exists() else {}
    if progress:
        require_json_format(folder, progress)
    text = yaml.safe_dump(progress.get("recipe"))
    text = text.replace(str(folder), "OUTPUT").replace(folder.as_posix(), "OUTPUT")
    return re.sub(rf"seed(=|: ){summary['seed']}\b", "seed", text)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def _arrow(column: Column) -> str:
    return {1: "↑", -1: "↓", 0: ""}[column.direction]


def _format_interval(one: Interval | None, column: Column) -> str:
    if one is None:
        return "–"
    mean = column.format_spec.format(one.mean)
    half = (one.ci95[1] - one.ci95[0]) / 2
    return mean if not math.isfinite(half) else f"{mean} ± {column.format_spec.replace('+', '').format(half)}"


def _format_bounds(one: Interval | None) -> tuple[str, ...]:
    return (f"[{one.ci95[0]:+.3f}, {one.ci95[1]:+.3f}]" if one else "",)


def _print(found: Any) -> None:
    if isinstance(found, str):
        Console().print(Markdown(found))
    else:
        print(json.dumps(to_jsonable(found), indent=2, ensure_ascii=False))
