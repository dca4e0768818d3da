"""The results of `make bench`: rows of ratios as a JSON file, and as a table of docs/performance.md.

python benchmarks/results_table.py results.json                # the file's table into the page, between its markers
python benchmarks/results_table.py one.json other.json ...     # one table of several processors, side by side
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import torch

BenchmarkRow = dict[str, Any]
ROW_KEY: Final = ("work", "model", "shape", "peer")  # identifies a row
PACKAGES: Final = ("zhenlong", "torch", "transformers", "trl", "accelerate", "lm_eval")
CPU_TABLE, GPU_TABLE = "table of make bench", "table of make bench on a GPU"
SHAPE_ORDER: Final = ("long_answer", "long_prompt", "even", "letters")
PROCESSORS_TABLE: Final = "table of processors"
PERFORMANCE_PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "performance.md"


def make_row(
    key: tuple[str, str, str, str],
    ratios: Sequence[float],
    tokens_per_s: Sequence[float],
    matmul_fraction: float | None = None,
    memory_ratio: float | None = None,
) -> BenchmarkRow:
    """A row: `about` in the order of ROW_KEY; ratios above 1 if we are faster; `tokens_per_s` of ours and the peer."""
    return {
        **dict(zip(ROW_KEY, key, strict=True)),
        "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
        "ours_tokens_per_s": tokens_per_s[0],
        "peer_tokens_per_s": tokens_per_s[1],
        "share_of_matmul_rate": matmul_fraction,
        "peak_memory_ratio": memory_ratio,
    }


def update_results_file(rows: Sequence[BenchmarkRow], folder: Path, machine: dict[str, Any]) -> Path:
    """Write `<date>-<machine>.json`; today's rows of other comparisons stay if the versions are the same."""
    path = folder / f"{results_file_stem(machine)}.json"
    found: dict[str, Any] = {"machine": machine, "versions": package_versions(PACKAGES)}
    before = json.loads(path.read_text()) if path.is_file() else {}
    same = before.get("versions") == found["versions"] and _machine_key(before["machine"]) == _machine_key(machine)
    new = {_row_key(one) for one in rows}
    earlier_rows = [one for one in before.get("rows", []) if same and _row_key(one) not in new]
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found | {"rows": sorted([*earlier_rows, *rows], key=_row_key)}, indent=1) + "\n")
    return path


def results_file_stem(machine: dict[str, Any]) -> str:
    """The stem of a results file's name: date and machine."""
    machine_name = machine.get("accelerator") or f"{machine['cpu']} {machine['cores']} cores"
    name = re.sub(r"[^a-z0-9]+", "-", machine_name.lower()).strip("-")
    return f"{date.today().isoformat()}-{name}"


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """The version of each installed package."""
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def machine_info(threads: int, device: str = "cpu") -> dict[str, Any]:
    """The processor, its cores, the threads used, the load average before the start, and the accelerator if any."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    cpuinfo = dict([part.strip() for part in line.split(":", 1)] for line in lines if ":" in line)
    cpu = cpuinfo.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in cpuinfo:  # virtual machines report names like "AMD EPYC" without the generation
        cpu += f" (family {cpuinfo['cpu family']}, model {cpuinfo.get('model', '?')})"
    found = {"cpu": cpu, "cores": os.cpu_count(), "threads": threads, "load_before": os.getloadavg()[0]}
    return found | ({} if device == "cpu" else {"accelerator": torch.cuda.get_device_name()})


def update_page_table(path: Path, page: Path) -> None:
    """Write the rows of a results file into the page's CPU or GPU table."""
    found = json.loads(path.read_text())
    name = GPU_TABLE if "accelerator" in found["machine"] else CPU_TABLE
    replace_between_markers(page, _markers(name), f"{provenance(found, path)}\n\n{_table(found['rows'])}")


def update_processors_table(paths: Sequence[Path], page: Path) -> None:
    """Write the ratios of several results files side by side into the page's table of processors."""
    found = [json.loads(path.read_text()) for path in paths]
    replace_between_markers(page, _markers(PROCESSORS_TABLE), processors_table(found))


def replace_between_markers(page: Path, markers: tuple[str, str], text: str) -> None:
    """Replace the text between two markers of a page."""
    before, rest = page.read_text().split(markers[0])
    after = rest.split(markers[1])[1]
    page.write_text(f"{before}{markers[0]}\n{text}\n{markers[1]}{after}")


def provenance(found: dict[str, Any], path: Path) -> str:
    """The provenance of a results file: machine, versions, file name."""
    machine = found["machine"]
    versions_text = ", ".join(f"{package} {number}" for package, number in found["versions"].items())
    accelerator = f"{machine['accelerator']}, with " if "accelerator" in machine else ""
    return (
        f"{accelerator}{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"load {machine['load_before']:.1f} before the start;\n{versions_text} (`benchmarks/results/{path.name}`)."
    )


def _table(rows: Sequence[BenchmarkRow]) -> str:
    """A line per benchmark, model and peer, a column per shape; the other columns list the shapes in that order."""
    shapes = [shape for shape in SHAPE_ORDER if any(one["shape"] == shape for one in rows)]
    head = ["benchmark", "model", "against", *shapes, "tokens/s", "of matmul rate", "memory"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for key, by_shape in _by_comparison(rows).items():
        values = {shape: _value_cells(by_shape[shape]) for shape in shapes if shape in by_shape}
        spreads = {shape: f"{ratio} ({spread.replace(',', ' to')})" for shape, (ratio, spread, *_) in values.items()}
        speeds = " / ".join(cells[2].split(", ")[0] for cells in values.values())
        rest = [", ".join(filter(None, cells)) for cells in zip(*(one[3:] for one in values.values()), strict=True)]
        lines.append(f"| {' | '.join([*key, *(spreads.get(shape, '') for shape in shapes), speeds, *rest])} |")
    return "\n".join(lines)


def processors_table(found: Sequence[dict[str, Any]]) -> str:
    """A line per comparison that every file has, with its median ratio for each shape that at least two files have."""
    tables = [_by_comparison(one["rows"]) for one in found]
    head = ["benchmark", "model", "against", "shapes", *(one["machine"]["cpu"] for one in found)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for key in sorted(set.intersection(*map(set, tables))):
        shapes = [shape for shape in SHAPE_ORDER if sum(shape in table[key] for table in tables) > 1]
        medians = [", ".join(_median(table[key].get(shape)) for shape in shapes) for table in tables]
        lines.append(f"| {' | '.join([*key, ', '.join(shapes), *medians])} |")
    return "\n".join(lines)


def _by_comparison(rows: Sequence[BenchmarkRow]) -> dict[tuple[str, ...], dict[str, BenchmarkRow]]:
    found: dict[tuple[str, ...], dict[str, BenchmarkRow]] = {}
    for one in rows:
        found.setdefault((one["work"], one["model"], one["peer"]), {})[one["shape"]] = one
    return found


def _median(one: BenchmarkRow | None) -> str:
    return "–" if one is None else f"{one['ratio']['median']:.2f} ×"


def _markers(name: str) -> tuple[str, str]:
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def format_row(one: BenchmarkRow) -> str:
    """A row as one line for the terminal."""
    ratio, spread, speeds, share, memory = _value_cells(one)
    parts = [f"{ratio} {one['peer']} ({spread.replace(',', ' to')})", f"{speeds.replace(', ', ' and ')} tokens/s"]
    parts += [f"{share} of the matmul rate"] * bool(share) + [f"peak memory {memory}"] * bool(memory)
    return ", ".join(parts)


def _value_cells(one: BenchmarkRow) -> list[str]:
    """Cells of the table: ratio, spread, tokens per second of both, fraction of the matmul rate, and memory."""
    ratio, share, memory = one["ratio"], one["share_of_matmul_rate"], one["peak_memory_ratio"]
    return [f"{ratio['median']:.2f} ×", f"{ratio['min']:.2f}, {ratio['max']:.2f}",
            f"{one['ours_tokens_per_s']:,.0f}, {one['peer_tokens_per_s']:,.0f}",
            "" if share is None else f"{share:.0%}", "" if memory is None else f"{memory:.2f} ×"]  # fmt: skip


def _row_key(one: BenchmarkRow) -> tuple[str, ...]:
    return tuple(one[name] for name in ROW_KEY)


def _machine_key(machine: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(machine.get(name) for name in ("cpu", "cores", "threads", "accelerator"))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="One results file as the page's table; several side by side.")
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--page", type=Path, default=PERFORMANCE_PAGE)
    args = parser.parse_args(argv)
    if len(args.results) > 1:
        update_processors_table(args.results, args.page)
    else:
        update_page_table(args.results[0], args.page)


if __name__ == "__main__":
    main()
