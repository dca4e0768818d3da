"""Pure functions of the benchmarks: operator categories, curve fits, tables, text lengths."""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType

import numpy as np
import pytest
import torch
from tiny import tiny_model
from torch.profiler import ProfilerActivity, profile, record_function

from zhenlong.forest import forward, log_probs, make_tree, pack_trees
from zhenlong.models import load_model

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def load(name: str) -> ModuleType:
    """A module of `benchmarks/`, whose folder is not on the path, because its module names clash with others."""
    spec = spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    return module


argument_types, operator_categories, scaling_curves, results_table, workload = map(
    load, ("argument_types", "operator_categories", "scaling_curves", "results_table", "workload")
)
SPAN = operator_categories.SPAN_PREFIX


@dataclass
class Event:
    name: str
    self_cpu_time_total: float
    cpu_parent: "Event | None" = None


@pytest.mark.parametrize(("names", "column"), [
    (["aten::linear", "aten::mm"], "products"),
    (["aten::mul"], "elementwise"),
    (["_LogProbs", "aten::linear", "aten::mm"], "head_products"),
    (["autograd::engine::evaluate_function: _LogProbsBackward", "_LogProbsBackward", "aten::exp_"], "head"),
    (["_LogProbsBackward"], "python"),
    (["aten::scaled_dot_product_attention", "aten::_scaled_dot_product_attention_math", "aten::bmm"], "attention"),
    (["aten::scaled_dot_product_attention"], "attention"),
    (["_GatherRows", "aten::index_select"], "attention"),
    ([f"{SPAN}attention", "aten::softmax"], "attention"),
    ([f"{SPAN}attention"], "python"),
    (["Optimizer.step#AdamW.step", "aten::_fused_adamw_"], "optimizer"),
    ([f"{SPAN}optimizer", "aten::mul_"], "optimizer"),
    ([f"{SPAN}data"], "data"),
    ([f"{SPAN}sampling", f"{SPAN}data", "aten::mm"], "sampling"),
])  # fmt: skip
def test_an_operator_is_assigned_to_the_category_of_its_caller(names, column):
    assert operator_categories.operator_category(names) == column


def test_fractions_are_of_wall_time_and_the_rest_is_python():
    outer = Event("aten::linear", 1.0)
    events = [outer, Event("aten::mm", 30.0, outer), Event("aten::mul", 9.0), Event("AddBackward0", 5.0)]
    found, named = operator_categories.time_fractions(events, 100.0)
    assert found["products"] == pytest.approx(0.31)
    assert found["elementwise"] == pytest.approx(0.09)
    assert found["python"] == pytest.approx(0.60)
    assert sum(found.values()) == pytest.approx(1.0)
    assert next(iter(named)) == "products: aten::mm"


def test_operators_that_took_longer_than_the_clock_are_refused():
    with pytest.raises(ValueError, match="several threads"):
        operator_categories.time_fractions([Event("aten::mm", 101.0)], 100.0)


def test_a_real_step_has_time_in_every_column_of_a_forward_and_backward_pass():
    model = tiny_model()
    forest = pack_trees([make_tree(list(range(65, 90)), [list(range(65, 100)), list(range(70, 80))])])
    log_probs(model, forward(model, forest), forest)  # chooses the layout beforehand
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        with record_function(f"{SPAN}data"):
            forest = pack_trees([make_tree(list(range(65, 90)), [list(range(65, 100)), list(range(70, 80))])])
        log_probs(model, forward(model, forest), forest).sum().backward()
        optimizer = torch.optim.AdamW(model.parameters())
        optimizer.step()
    events = profiler.events()
    found, _ = operator_categories.time_fractions(events, sum(event.cpu_time_total for event in events))
    assert {name for name, share in found.items() if share > 0} == set(operator_categories.OPERATOR_CATEGORIES) - {
        "sampling",
        "layers",
    }
    assert sum(found.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("place", [*operator_categories.FUNCTION_SPANS, *operator_categories.SAMPLING_SPANS])
def test_the_profiled_functions_exist(place):
    assert callable(resolve_name(place))


def test_the_table_compares_with_earlier_measurements():
    shares = dict.fromkeys(operator_categories.OPERATOR_CATEGORIES, 0.0) | {"python": 0.25, "products": 0.75}
    row = {"work": "sft", "model": "small-4k", "shape": "even", "milliseconds": 1234.0, "shares": shares}
    new = row | {"work": "dpo"}
    one, two = (
        operator_categories.profile_table([], [row]),
        operator_categories.profile_table([row | {"milliseconds": 2000.0}], [row, new]),
    )
    assert [line.count("|") for line in one.splitlines()] == [len(operator_categories.OPERATOR_CATEGORIES) + 4] * 3
    assert [line.count("|") for line in two.splitlines()] == [len(operator_categories.OPERATOR_CATEGORIES) + 5] * 5
    assert "| sft | small-4k, even | before | 2,000 | 75.0% |" in two
    assert "| sft | small-4k, even | now | 1,234 | 75.0% |" in two
    assert two.count("| dpo |") == 1


def test_a_linear_cost_gives_its_slope_and_intercept():
    found = scaling_curves.fit_curve("sft", "tokens", "ms", [1, 2, 4, 8], [7.0, 9.0, 13.0, 21.0])
    assert (found.slope, found.fixed, found.r2) == pytest.approx((2.0, 5.0, 1.0))
    assert found.exponent is not None
    assert 0 < found.exponent < 1  # a fixed part


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_recovered(power):
    x = np.array([1.0, 3.0, 10.0, 40.0])
    found = scaling_curves.fit_curve("dpo", "tokens", "ms", x, 3 * x**power)
    assert found.exponent == pytest.approx(power)
    assert (found.r2 > 1 - 1e-9) == (power == 1.0)


def test_a_cost_that_falls_or_a_point_at_zero_has_no_exponent():
    assert scaling_curves.fit_curve("dpo", "share", "ms", [0.1, 0.5, 0.9], [3.0, 2.0, 1.0]).exponent is None
    assert scaling_curves.fit_curve("dpo", "share", "ms", [0.0, 0.5, 0.9], [1.0, 2.0, 3.0]).exponent is None
    flat = scaling_curves.fit_curve("dpo", "vocabulary", "MiB", [1, 2, 3], [5.0, 5.0, 5.0])
    assert (flat.slope, flat.r2) == pytest.approx((0.0, 1.0), abs=1e-12)


def test_a_table_row_has_points_and_slope_in_three_digits():
    found = scaling_curves.fit_curve("sft", "tokens", "ms", [640, 1280, 10240], [1234.4, 2468.8, 19750.4])
    header, _, row = scaling_curves.curve_table([found]).splitlines()
    assert row.startswith("| sft | tokens | 640: 1,234, 1,280: 2,469, 10,240: 19,750 ms | 1.93 ms |")
    assert row.count("|") == header.count("|")


CPU = {"cpu": "A CPU", "cores": 2, "threads": 2, "load_before": 0.0}
GPU = CPU | {"accelerator": "NVIDIA H100 80GB HBM3"}


def made_row(work: str) -> dict:
    return results_table.make_row((work, "small-4k", "even", "trl-tuned"), [2.0, 4.0, 3.0], [20.0, 10.0], 0.5, 1.5)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "two", ""])
def test_an_invalid_count_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="integer above 0"):
        argument_types.positive_int(text)
    assert argument_types.positive_int("12") == 12


def test_an_unknown_name_is_refused():
    chosen = argument_types.subset_of(("sft", "dpo"))
    assert chosen("dpo,sft") == ["dpo", "sft"]
    with pytest.raises(argparse.ArgumentTypeError, match="expected some of sft,dpo, got ppo"):
        chosen("sft,ppo")


def test_a_row_shows_spread_speeds_utilisation_and_memory():
    full = "3.00 × trl-tuned (2.00 to 4.00), 20 and 10 tokens/s, 50% of the matmul rate, peak memory 1.50 ×"
    assert results_table.format_row(made_row("sft")) == full
    bare = results_table.make_row(("ppo", "small-4k", "even", "parts"), [1.0], [1234.0, 5.0])
    assert results_table.format_row(bare) == "1.00 × parts (1.00 to 1.00), 1,234 and 5 tokens/s"


def test_a_results_file_is_named_after_the_accelerator_or_else_the_processor():
    assert results_table.results_file_stem(GPU).endswith("-nvidia-h100-80gb-hbm3")
    assert results_table.results_file_stem(CPU).endswith("-a-cpu-2-cores")


def test_rows_of_another_accelerator_are_removed_from_the_file(tmp_path):
    path = results_table.update_results_file([made_row("sft")], tmp_path, GPU)
    assert results_table.update_results_file([made_row("dpo")], tmp_path, GPU) == path
    assert [one["work"] for one in json.loads(path.read_text())["rows"]] == ["dpo", "sft"]
    path.rename(tmp_path / f"{results_table.results_file_stem(CPU)}.json")
    assert len(json.loads(results_table.update_results_file([made_row("kto")], tmp_path, CPU).read_text())["rows"]) == 1


def test_each_kind_of_machine_has_its_own_table_on_the_page(tmp_path):
    page = tmp_path / "page.md"
    names = (results_table.CPU_TABLE, results_table.GPU_TABLE)
    page.write_text("".join(f"before\n<!-- {name}: begin -->\n<!-- {name}: end -->\n" for name in names))
    results_table.update_page_table(results_table.update_results_file([made_row("sft")], tmp_path, CPU), page)
    results_table.update_page_table(results_table.update_results_file([made_row("dpo")], tmp_path, GPU), page)
    _, cpu, gpu = page.read_text().split("before\n")
    assert ("| sft |" in cpu, "| dpo |" in cpu, GPU["accelerator"] in cpu) == (True, False, False)
    assert ("| sft |" in gpu, "| dpo |" in gpu, GPU["accelerator"] in gpu) == (False, True, True)


def shaped_row(shape: str, ratio: float, memory: float | None = None) -> dict:
    return results_table.make_row(("sft", "small-4k", shape, "trl-tuned"), [ratio], [20.0, 10.0], 0.5, memory)


def test_the_shapes_of_a_comparison_share_one_table_row(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"<!-- {results_table.CPU_TABLE}: begin -->\n<!-- {results_table.CPU_TABLE}: end -->\n")
    rows = [shaped_row("long_prompt", 8.0), shaped_row("long_answer", 5.0, 1.5), made_row("dpo")]
    results_table.update_page_table(results_table.update_results_file(rows, tmp_path, CPU), page)
    head, _, dpo, sft = [line for line in page.read_text().splitlines() if line.startswith("|")]
    assert "| long_answer | long_prompt | even |" in head
    assert "| trl-tuned |  |  | 3.00 × (2.00 to 4.00) |" in dpo
    assert "| 5.00 × (5.00 to 5.00) | 8.00 × (8.00 to 8.00) |  | 20 / 20 | 50%, 50% | 1.50 × |" in sft
    assert {line.count("|") for line in (head, dpo, sft)} == {10}


def test_processors_are_columns_where_all_have_a_comparison():
    rows = [shaped_row("long_answer", 5.0), shaped_row("long_prompt", 8.0), made_row("dpo")]
    found = [{"machine": CPU, "rows": rows}, {"machine": CPU | {"cpu": "B"}, "rows": [shaped_row("long_answer", 3.0)]}]
    head, _, only = results_table.processors_table(found).splitlines()
    assert head.endswith("| A CPU | B |")
    assert only == "| sft | small-4k | trl-tuned | long_answer | 5.00 × | 3.00 × |"
    found[1]["rows"] = [shaped_row("long_prompt", 3.0)]
    found.append(found[0])
    assert results_table.processors_table(found).endswith("| 5.00 ×, 8.00 × | –, 3.00 × | 5.00 ×, 8.00 × |")


def test_the_page_has_every_table():
    text = results_table.PERFORMANCE_PAGE.read_text()
    for name in (results_table.CPU_TABLE, results_table.GPU_TABLE, results_table.PROCESSORS_TABLE):
        assert text.count(f"<!-- {name}: begin -->") == text.count(f"<!-- {name}: end -->") == 1


SMALL_RUNS = """
import compiled_kernels, forward_backward, profile_step, scaling
forward_backward.main(["--backend", "torch", "kernels", "--repeats", "1", "--vocab_size", "64", "--operations", "3"])
scaling.main()
"""


def test_benchmarks_without_other_libraries_run_on_the_current_code(tmp_path):
    """They run outside pytest, at small size: they refer to functions by name, which a type checker cannot verify."""
    (tmp_path / "here.py").write_text(SMALL_RUNS)
    given = ["--scale", "0.05", "--repeats", "1", "--curves", "tokens_sft,tokens_grpo", "--page", ""]
    command = [sys.executable, str(tmp_path / "here.py"), *given, "--output", str(tmp_path)]
    paths = os.pathsep.join(filter(None, (str(BENCHMARKS), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(next(tmp_path.glob("scaling-*.json")).read_text())["curves"]) == 2


def test_a_missing_package_has_no_version():
    assert results_table.package_versions(["torch", "no_such_package"]).keys() == {"torch"}


@pytest.mark.parametrize("shape", workload.SHAPES)
def test_texts_grow_with_the_model_size_and_fit_its_context(shape):
    for name, size in workload.MODEL_SIZES.items():
        plain, found = workload.SHAPES[shape], workload.scaled_shape(name, shape)
        assert found.prompt == tuple(size.length_scale * length for length in plain.prompt)
        assert found.response == tuple(size.length_scale * length for length in plain.response)
        assert found.prompt[1] + found.response[1] <= size.config(4096).max_position_embeddings
        assert found.middle_lengths[1] <= workload.MAX_SAMPLED_TOKENS


def test_a_size_with_grouped_query_heads_is_a_qwen2_with_a_word_level_tokenizer(tmp_path):
    size = workload.ModelSize(32, 1, 4, 64, num_kv_heads=2)
    workload.make_model(tmp_path, size, 64)
    model, tokenizer = load_model(str(tmp_path / "model"), device="cpu")
    assert model.config.model_type == "qwen2"
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert tokenizer("w3 w9 <|end|>")["input_ids"] == [3, 9, 63]
