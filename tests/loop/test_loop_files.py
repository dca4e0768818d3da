"""Files and checkpoints are complete or absent, restore what was saved, and contain no pickle."""

import json
import resource
import signal
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from zhenlong.errors import UserError
from zhenlong.loop.atomic import JsonLines, write_json, write_text
from zhenlong.loop.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint

BASE = torch.arange(6.0)
STATE = {
    "tensors": {0: BASE, 1: BASE[2:4], "alias": BASE, "turned": torch.ones(2, 3).T},
    "kinds": [torch.tensor(1.5, dtype=torch.bfloat16), torch.tensor([True]), torch.empty(0, 3), torch.empty(0)],
    "arrays": (np.arange(4, dtype=np.uint32), np.array(2.5), np.float64(0.1)),
    "numbers": [1, 2**100, 0.1, -1e-300, True],
    "nothing": None,
    "nested": ((), [], {}, ("a", (1, None)), [[1, 2], (3,)]),
    "not a reference": {"tensor": "x", "dict": 1},
}


def same(a, b) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@contextmanager
def full_disk(size: int = 4096):
    """Limit files to `size` bytes, so that writes fail as on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_restored_state_is_equal_in_value_type_and_dtype(tmp_path):
    state = STATE | {"arrays": (*STATE["arrays"][:2], 0.1)}  # numpy's float64 comes back as a float
    path = save_checkpoint(tmp_path, 3, STATE)
    assert same(load_checkpoint(path), state)
    assert {file.name for file in path.iterdir()} == {"state.safetensors", "state.json"}
    assert b"pickle" not in (path / "state.safetensors").read_bytes()


def test_unsupported_types_in_a_state_are_refused(tmp_path):
    with pytest.raises(TypeError, match="state/a/1: a checkpoint cannot hold a set"):
        save_checkpoint(tmp_path, 1, {"a": [None, {1}]})
    assert list(tmp_path.iterdir()) == []


def test_only_the_newest_checkpoints_stay_ordered_by_number_not_by_name(tmp_path):
    for step in (2, 999_999, 1_000_000):
        save_checkpoint(tmp_path, step, {"step": step}, keep_last=2)
    assert [step for step, _ in list_checkpoints(tmp_path)] == [999_999, 1_000_000]


def test_a_full_disk_leaves_the_old_checkpoint_and_a_one_line_error(tmp_path):
    save_checkpoint(tmp_path, 1, {"x": torch.zeros(10)}, keep_last=1)
    with full_disk(), pytest.raises(UserError, match=r"step-000002: cannot be written \(.*\); free or allow") as error:
        save_checkpoint(tmp_path, 2, {"x": torch.zeros(10_000)}, keep_last=1)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    assert torch.equal(load_checkpoint(tmp_path / "step-000001")["x"], torch.zeros(10))


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_a_damaged_checkpoint_is_named(tmp_path, name):
    path = save_checkpoint(tmp_path, 1, {"x": torch.zeros(10)})
    (path / name).write_bytes((path / name).read_bytes()[:-5])
    with pytest.raises(UserError, match="step-000001: the checkpoint is damaged"):
        load_checkpoint(path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "ledger.json"
    write_json(path, {"tokens": 1})
    with full_disk(), pytest.raises(UserError, match="cannot be written"):
        write_text(path, "x" * 10_000)
    assert json.loads(path.read_text()) == {"tokens": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_an_unwritable_folder_is_a_one_line_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_text(tmp_path / "file" / "run" / "config.yaml", "x")
    with full_disk(0), pytest.raises(UserError, match="cannot be written"):
        JsonLines(tmp_path / "metrics.jsonl").append({"step": 1})


def test_numbers_of_other_libraries_become_json_numbers(tmp_path):
    values = {"nan": float("nan"), "inf": torch.tensor(float("inf")), "np": np.float32(0.5), "tensor": torch.tensor(2)}
    JsonLines(tmp_path / "lines").append({"step": 1, **values, "path": tmp_path})
    row = json.loads((tmp_path / "lines").read_text(), parse_constant=pytest.fail)
    assert row == {"step": 1, "nan": None, "inf": None, "np": 0.5, "tensor": 2, "path": str(tmp_path)}


def test_truncation_drops_lines_after_a_step_and_after_damage(tmp_path):
    lines = JsonLines(tmp_path / "lines")
    lines.truncate_after(5)  # nothing there yet
    for step in (1, 2, 2, 3):
        lines.append({"step": step, "text": "ü\u2028"})
    lines.truncate_after(2)
    assert [json.loads(line)["step"] for line in lines.path.read_text("utf-8").split("\n")[:-1]] == [1, 2, 2]
    with open(lines.path, "ab") as file:
        file.write('{"step": 2, "text": "ü'.encode()[:-1])
    lines.truncate_after(2)
    lines.append({"step": 3})
    assert [json.loads(line)["step"] for line in lines.path.read_text("utf-8").split("\n")[:-1]] == [1, 2, 2, 3]
