"""What `make bench` writes: rows of ratios as one JSON file, and as a table of docs/performance.md.

python benchmarks/results_table.py results.json [page.md [name]]    # a file's table into the page, between the markers
of a name
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import torch

BenchmarkRow = dict[str, Any]
ROW_KEY: Final = ("work", "model", "shape", "peer")  # what a row is about; there is one row for each
PACKAGES: Final = ("zhenlong", "torch", "transformers", "trl", "accelerate", "lm_eval")
CPU_TABLE, GPU_TABLE = "table of make bench", "table of make bench on a GPU"
PERFORMANCE_PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "performance.md"


def make_row(
    key: tuple[str, str, str, str],
    ratios: Sequence[float],
    tokens_per_s: Sequence[float],
    matmul_fraction: float | None = None,
    memory_ratio: float | None = None,
) -> BenchmarkRow:
    """A row: `about` in the order of KEY; ratios above 1 where we are faster; `tokens_per_s` of ours and the peer."""
    return {
        **dict(zip(ROW_KEY, key, strict=True)),
        "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
        "ours_tokens_per_s": tokens_per_s[0],
        "peer_tokens_per_s": tokens_per_s[1],
        "share_of_matmul_rate": matmul_fraction,
        "peak_memory_ratio": memory_ratio,
    }


def update_results_file(rows: Sequence[BenchmarkRow], folder: Path, machine: dict[str, Any]) -> Path:
    """Write `<date>-<machine>.json`; rows that today's file has of other comparisons stay, if versions are the same."""
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
    """What the name of a results file ends with: the date and the machine."""
    machine_name = machine.get("accelerator") or f"{machine['cpu']} {machine['cores']} cores"
    name = re.sub(r"[^a-z0-9]+", "-", machine_name.lower()).strip("-")
    return f"{date.today().isoformat()}-{name}"


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """The version of each package that is installed."""
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def machine_info(threads: int, device: str = "cpu") -> dict[str, Any]:
    """The processor, its cores, the threads used, how busy it was before the start, and the accelerator if any."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    cpuinfo = dict([part.strip() for part in line.split(":", 1)] for line in lines if ":" in line)
    cpu = cpuinfo.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in cpuinfo:  # virtual machines have names like "AMD EPYC", whatever the generation
        cpu += f" (family {cpuinfo['cpu family']}, model {cpuinfo.get('model', '?')})"
    found = {"cpu": cpu, "cores": os.cpu_count(), "threads": threads, "load_before": os.getloadavg()[0]}
    return found | ({} if device == "cpu" else {"accelerator": torch.cuda.get_device_name()})


def update_page_table(path: Path, page: Path, name: str = "") -> None:
    """Put the rows of a results file between the page's markers of that name, CPU or GPU if none is given."""
    found = json.loads(path.read_text())
    name = name or (GPU_TABLE if "accelerator" in found["machine"] else CPU_TABLE)
    markers = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    replace_between_markers(page, markers, f"{provenance(found, path)}\n\n{_table(found['rows'])}")


def replace_between_markers(page: Path, markers: tuple[str, str], text: str) -> None:
    """Put `text` between two markers of a page."""
    before, rest = page.read_text().split(markers[0])
    after = rest.split(markers[1])[1]
    page.write_text(f"{before}{markers[0]}\n{text}\n{markers[1]}{after}")


def provenance(found: dict[str, Any], path: Path) -> str:
    """Where the numbers of a results file come from."""
    machine = found["machine"]
    versions_text = ", ".join(f"{package} {number}" for package, number in found["versions"].items())
    accelerator = f"{machine['accelerator']}, with " if "accelerator" in machine else ""
    return (
        f"{accelerator}{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"load {machine['load_before']:.1f} before the start;\n{versions_text} (`benchmarks/results/{path.name}`)."
    )


def _table(rows: Sequence[BenchmarkRow]) -> str:
    lines = [
        "| benchmark | model | shape | against | ratio | from, to | tokens/s, ours, theirs | of matmul rate | memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(f"| {' | '.join([*_row_key(one), *_value_cells(one)])} |" for one in rows)])


def format_row(one: BenchmarkRow) -> str:
    """A row in a line for the terminal."""
    ratio, spread, speeds, share, memory = _value_cells(one)
    parts = [f"{ratio} {one['peer']} ({spread.replace(',', ' to')})", f"{speeds.replace(', ', ' and ')} tokens/s"]
    parts += [f"{share} of the matmul rate"] * bool(share) + [f"peak memory {memory}"] * bool(memory)
    return ", ".join(parts)


def _value_cells(one: BenchmarkRow) -> list[str]:
    """Ratio, spread, tokens a second of both, share of the matmul rate and memory, as the table has them."""
    ratio, share, memory = one["ratio"], one["share_of_matmul_rate"], one["peak_memory_ratio"]
    return [f"{ratio['median']:.2f} ×", f"{ratio['min']:.2f}, {ratio['max']:.2f}",
            f"{one['ours_tokens_per_s']:,.0f}, {one['peer_tokens_per_s']:,.0f}",
            "" if share is None else f"{share:.0%}", "" if memory is None else f"{memory:.2f} ×"]  # fmt: skip


def _row_key(one: BenchmarkRow) -> tuple[str, ...]:
    return tuple(one[name] for name in ROW_KEY)


def _machine_key(machine: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(machine.get(name) for name in ("cpu", "cores", "threads", "accelerator"))


if __name__ == "__main__":
    update_page_table(Path(sys.argv[1]), Path(*sys.argv[2:3] or [PERFORMANCE_PAGE]), *sys.argv[3:4])
