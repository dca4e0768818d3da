"""Sources other than single files: folders, hub data sets, several sources, the built-in world."""

import json
import sys
import types

import datasets
import pytest

from zhenlong.data import read
from zhenlong.data.sources import WORLD_KINDS, iter_source_rows
from zhenlong.errors import UserError
from zhenlong.records import Demonstration, Document, Ranking, Task
from zhenlong.world import World

ROWS = [{"prompt": f"Question {i}?", "chosen": "Yes.", "rejected": "No."} for i in range(3)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path):
    """A folder as on the hub: parquet files in `data/`, with the split in their names."""
    path = tmp_path / "set"
    for split, rows in (("train", ROWS), ("test", ROWS[:1])):
        (path / "data").mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_list(rows).to_parquet(path / "data" / f"{split}-00000-of-00001.parquet")
    return path


@pytest.mark.parametrize(
    ("before", "after", "count"), [("", "", 3), ("hf:", "", 3), ("hf:", "@test", 1), ("", "@test", 1)]
)
def test_a_folder_of_parquet_files_is_a_data_set_with_splits(folder, before, after, count):
    rankings = read(f"{before}{folder}{after}", Ranking)
    assert [r.prompt[0].content for r in rankings] == [row["prompt"] for row in ROWS[:count]]


def test_limit_streams_the_same_rows(folder):
    assert read(f"hf:{folder}", Ranking, limit=2) == read(f"hf:{folder}", Ranking)[:2]


def test_a_data_set_saved_to_disk_is_read_back(tmp_path):
    saved = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(ROWS), "test": datasets.Dataset.from_list(ROWS[:1])}
    )
    saved.save_to_disk(tmp_path / "dict")
    saved["train"].save_to_disk(tmp_path / "one")
    assert len(read(str(tmp_path / "one"), Ranking)) == 3
    assert len(read(f"{tmp_path / 'dict'}@test", Ranking)) == 1
    with pytest.raises(UserError, match="has no split 'valid'; it has train, test"):
        read(f"hf:{tmp_path / 'dict'}@valid", Ranking)


def test_the_error_for_a_bad_row_of_a_data_set_has_its_number(tmp_path):
    datasets.Dataset.from_list([*ROWS, {"prompt": "p", "chosen": "", "rejected": "No."}]).save_to_disk(tmp_path / "set")
    with pytest.raises(UserError, match=r"set, row 4: responses: expected some text"):
        read(str(tmp_path / "set"), Ranking)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("hf:", "names no data set"),
        ("hf:@test", "names no data set"),
        (
            "hf:nobody/nothing-of-that-name",
            "hf:nobody/nothing-of-that-name: not in the cache, and HF_HUB_OFFLINE is set",
        ),
    ],
)
def test_the_error_names_a_missing_data_set(spec, problem):
    with pytest.raises(UserError, match=problem):
        read(spec, Ranking)


def test_several_sources_are_concatenated(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(name)
    assert read([str(tmp_path / "a.txt"), str(tmp_path / "b.txt")], Document) == [Document("a"), Document("b")]
    with pytest.raises(UserError, match=r"weights, .* order training data, but here each record is read once"):
        read(f"{tmp_path / 'a.txt'}*0.5,{tmp_path / 'b.txt'}*0.5", Document)


@pytest.mark.parametrize(("name", "kind"), WORLD_KINDS.items())
def test_the_world_s_records_are_read_unchanged(name, kind):
    expected = getattr(World(1), name)(4, seed=2)
    assert read(f"world:{name}?n=4&seed=2&world=1", kind) == expected


class FakeWorld:
    """Like the world, with records that contain the arguments of the call."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def documents(self, n: int, seed: int = 0) -> list[Document]:
        return [Document(json.dumps({"world": self.seed, "i": i, "seed": seed})) for i in range(n)]

    def tasks(self, n: int, seed: int = 0, split: str = "train", bias: float = 0.0, maker: object = None) -> list[Task]:
        prompt = [{"role": "user", "content": json.dumps([seed, split, bias])}]
        return [Task(prompt) for _ in range(n)]  # type: ignore[arg-type]


@pytest.fixture
def world(monkeypatch):
    module = types.ModuleType("zhenlong.world")
    module.World = FakeWorld  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "zhenlong.world", module)


def test_options_are_passed_to_the_world(world):
    document = read("world:documents?n=2&seed=3&world=4", Document)[-1]
    assert json.loads(document.text) == {"world": 4, "i": 1, "seed": 3}
    task = read("world:tasks?n=1&split=heldout&bias=0.5", Task)[0]
    assert json.loads(task.prompt[0].content) == [0, "heldout", 0.5]


def test_the_world_makes_a_thousand_rows_by_default(world):
    assert len(list(iter_source_rows("world:documents"))) == 1000


@pytest.mark.parametrize(
    ("spec", "kind", "problem"),
    [
        ("world:stories", Document, "the world has no 'stories'; expected world: and documents, demonstrations"),
        ("world:", Document, "the world has no 'kind'"),
        ("world:documents?colour=red", Document, "unknown option colour; expected n, seed, world"),
        ("world:tasks?maker=me", Task, "unknown option maker; expected n, seed, split, bias, world"),
        ("world:documents?n=many", Document, "n='many' is not a whole number"),
        ("world:documents?n=0", Document, "no usable rows"),
        ("world:documents?n=5", Demonstration, "own document .* cannot be read as Demonstration"),
    ],
)
def test_the_error_for_an_unknown_kind_or_option_of_the_world_lists_the_known_ones(world, spec, kind, problem):
    with pytest.raises(UserError, match=problem):
        read(spec, kind)
