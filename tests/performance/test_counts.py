"""The operations and FLOPs of a step equal the committed counts; no clock is involved."""

import json

import pytest
import torch
from performance.counts import COMPILED, EXPECTED, Operations, describe_changes, measure_all

from zhenlong.kernels.build import load_library


def test_steps_take_the_expected_operations_and_flops():
    expected = json.loads(EXPECTED.read_text())
    steps = {
        name: counts for name, counts in expected["steps"].items() if load_library() or not name.endswith(COMPILED)
    }
    lines = describe_changes(steps, measure_all())
    assert not lines, "\n".join(
        [*lines, f"(counted with torch {expected['torch']}, this is {torch.__version__})",
         "If the change is intended: PYTHONPATH=tests python -m performance.counts --write, and say why in the commit."]
    )  # fmt: skip


def test_every_product_is_counted_forward_and_backward():
    left, right = torch.ones(3, 5, requires_grad=True), torch.ones(5, 7, requires_grad=True)
    with Operations() as operations:
        (left @ right).sum().backward()
    assert operations.flops == 3 * (2 * 3 * 5 * 7)
    assert operations.calls["aten.mm"] == 3


@pytest.mark.parametrize(("operations", "flops", "expected_lines"), [
    (103, 50, []),
    (104, 50, ["sft: operations rose from 100 to 104 (+4.0%)"]),
    (96, 50, ["sft: operations fell from 100 to 96 (-4.0%)"]),
    (100, 51, ["sft: flops rose from 50 to 51 (+2.0%)"]),
])  # fmt: skip
def test_the_report_names_the_count_that_changed(operations, flops, expected_lines):
    before = {"sft": {"operations": 100, "flops": 50}}
    assert describe_changes(before, {"sft": {"operations": operations, "flops": flops}}) == expected_lines


def test_a_step_without_counterpart_is_reported():
    one = {"operations": 1, "flops": 1}
    assert describe_changes({"a": one}, {"b": one}) == ["a: no longer measured", "b: not in counts.json"]
