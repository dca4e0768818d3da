"""Prompts equal crfm-helm's, given the same rows: options of all scenarios, examples, and every prompt of real rows."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helm_peer import METHODS, helm_instance, helm_requests, run_specs
from helm_rows import CASES, as_lines

from zhenlong.evaluate.adapters.examples import examples_by_group
from zhenlong.evaluate.adapters.methods import AdapterContext, plan_requests
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.scenarios.instances import load_examples, load_instances
from zhenlong.evaluate.scenarios.scenario import Scenario, all_scenarios, get_scenario
from zhenlong.inference.requests import GenerateRequest

pytestmark = pytest.mark.peers("helm")

NAMES = sorted(name.removeprefix("helm_") for name in all_scenarios() if name.startswith("helm_"))
FIELDS = {
    "input_prefix": "input_prefix",
    "input_suffix": "input_suffix",
    "choice_prefix": "reference_prefix",
    "choice_suffix": "reference_suffix",
    "output_prefix": "output_prefix",
    "output_suffix": "output_suffix",
    "instance_separator": "instance_prefix",
    "shots": "max_train_instances",
    "temperature": "temperature",
    "sample_examples": "sample_train",
    "multi_label": "multi_label",
}
UNCOMPARED = {"raft", "the_pile", "twitter_aae", "ice"}  # a download; the prompt of the others is their text


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HELM makes a folder where it runs."""
    monkeypatch.chdir(tmp_path)


def test_options_of_every_scenario_are_helms() -> None:
    assert set(run_specs()) == set(NAMES) - {"raft"}
    for name, make in run_specs().items():
        ours, theirs = get_scenario(f"helm_{name}").adapter, make().adapter_spec
        assert METHODS[ours.method] == theirs.method, name
        for field, same in FIELDS.items():
            assert getattr(ours, field) == getattr(theirs, same), (name, field)
        assert list(ours.stop) == theirs.stop_sequences, name
        if ours.method in ("generation", "multiple_choice_joint") and name != "synthetic_efficiency":
            assert ours.max_tokens == theirs.max_tokens, name
        if ours.method == "generation":
            assert ours.n == theirs.num_outputs, name
        if name != "mmlu":  # whose instances hold the instructions of their subject
            assert ours.instructions == theirs.instructions, name


@pytest.mark.parametrize("name", sorted(set(NAMES) - UNCOMPARED))
def test_prompts_of_made_up_rows(name: str, tmp_path: Path) -> None:
    scenario = get_scenario(f"helm_{name}")
    path = tmp_path / "rows.jsonl"
    path.write_text(as_lines(CASES[scenario.name][0].rows), encoding="utf-8")
    instance = load_instances(scenario, data=str(path))[0]
    pool = [_renamed(instance, number) for number in range(9)]
    spec = _spec(name, instance)
    theirs = helm_requests(spec, [helm_instance(one, "train") for one in pool], [helm_instance(instance)])
    theirs.sort(key=lambda one: one.request_mode == "calibration")  # stable: all choices, then all choices alone
    assert _our_prompts(scenario, pool, instance) == [one.request.prompt for one in theirs]


@pytest.mark.real_data
def test_every_prompt_of_truthful_qa(datasets_folder: Path, tmp_path: Path) -> None:
    from helm.benchmark.scenarios.truthful_qa_scenario import TruthfulQAScenario

    (tmp_path / "data").mkdir()
    rows = list(csv.DictReader((datasets_folder / "truthfulqa" / "TruthfulQA.csv").open(encoding="utf-8-sig")))
    shutil.copy(datasets_folder / "truthfulqa" / "TruthfulQA.csv", tmp_path / "data" / "TruthfulQA.csv")
    theirs = TruthfulQAScenario("mc_single").get_instances(str(tmp_path))
    files = [
        _as_jsonl(tmp_path / name, part) for name, part in (("pool.jsonl", rows[:163]), ("test.jsonl", rows[163:]))
    ]
    assert _equal_prompts("truthful_qa", "valid", theirs, files) == 654


@pytest.mark.real_data
def test_every_prompt_of_mmlu(datasets_folder: Path, tmp_path: Path) -> None:
    from helm.benchmark.scenarios.mmlu_scenario import MMLUScenario

    equal = 0
    for path in sorted((datasets_folder / "mmlu" / "test").glob("*.csv")):
        subject = path.stem.removesuffix("_test")
        files = [str(datasets_folder / "mmlu" / part / f"{subject}_{part}.csv") for part in ("dev", "test")]
        theirs = []
        for file, split in zip(files, ("train", "test"), strict=True):
            theirs += MMLUScenario(subject).process_csv(_without_header(file, tmp_path / "original.csv"), split)
        equal += _equal_prompts("mmlu", "test", theirs, files)
    assert equal == 14_042


@pytest.mark.real_data
def test_every_prompt_of_gsm8k(datasets_folder: Path, tmp_path: Path) -> None:
    from helm.benchmark.scenarios.gsm_scenario import GSM8KScenario

    shutil.copy(datasets_folder / "gsm8k" / "test.jsonl", tmp_path / "gsm_data_test")
    train = gzip.decompress((datasets_folder / "gsm8k" / "train.jsonl.gz").read_bytes())
    (tmp_path / "gsm_data_train").write_bytes(train)
    theirs = GSM8KScenario().get_instances(str(tmp_path))
    files = [str(datasets_folder / "gsm8k" / name) for name in ("train.jsonl.gz", "test.jsonl")]
    assert _equal_prompts("gsm8k", "test", theirs, files) == 1319


def test_every_prompt_of_math_regular_has_the_official_examples_in_helms_order(tmp_path: Path) -> None:
    scenario = get_scenario("helm_math_regular")
    path = _as_jsonl(tmp_path / "rows.jsonl", CASES["helm_math_regular"][0].rows)
    pool, instance = load_examples(scenario), load_instances(scenario, data=path)[0]
    examples = [helm_instance(one, "train") for one in pool]
    theirs = helm_requests(_spec("math_regular", instance), examples, [helm_instance(instance)])
    ours = _our_prompts(scenario, pool, instance)
    assert ours == [theirs[0].request.prompt]


def _equal_prompts(name: str, split: str, theirs: Sequence[Any], files: Sequence[str]) -> int:
    """The number of prompts, all equal; `files` are the pool's and the test rows'."""
    scenario = get_scenario(f"helm_{name}")
    instances = load_instances(scenario, data=files[1])
    pool = [one for one in theirs if one.split == "train"]
    states = helm_requests(_spec(name, instances[0]), pool, [one for one in theirs if one.split == split])
    examples = examples_by_group(scenario.adapter, load_examples(scenario, data=files[0]), 0)
    context = AdapterContext(scenario.adapter, _AnyLength(), examples)
    ours = [next(plan_requests(context, one))[0].prompt for one in instances]
    ours = [one.replace("\r\n", "\n") for one in ours]  # HELM reads CSV files with line ends of one kind
    assert sorted(ours) == sorted(state.request.prompt for state in states)
    return len(ours)


def _our_prompts(scenario: Scenario, pool: Sequence[Instance], instance: Instance) -> list[str]:
    """The prompts of an instance; with the answer for a choice that is scored, as HELM writes it."""
    adapter = replace(scenario.adapter, examples_by="")
    context = AdapterContext(adapter, _AnyLength(), examples_by_group(adapter, pool, 0))
    found = []
    for request in next(plan_requests(context, instance)):
        if isinstance(request, GenerateRequest):
            found.append(request.prompt)
        elif adapter.method == "ranking":
            found.append(request.context)
        else:
            found += [request.context + one for one in request.continuations]
    return found


def _spec(name: str, instance: Instance) -> Any:
    """HELM's options of the adapter, with the instructions of the instance's own run."""
    spec = run_specs()[name]().adapter_spec
    return replace(spec, instructions=instance.data.get("instructions", spec.instructions))


def _renamed(one: Instance, number: int) -> Instance:
    """Another example: its texts, numbered, with the first reference right in two cases of three."""
    references = tuple(Reference(f"{each.text} {number % 4}", each.is_correct, each.tags) for each in one.references)
    return replace(one, id=f"example {number}", input=f"{one.input} {number}", references=references, data={})


def _without_header(file: str, made: Path) -> str:
    """A subject's file as its authors have it: no header, and a letter for the right choice."""
    with open(file, encoding="utf-8", newline="") as given, made.open("w", encoding="utf-8", newline="") as written:
        for row in csv.DictReader(given):
            choices = [row[f"choice{place}"] for place in range(4)]
            csv.writer(written).writerow([row["question"], *choices, "ABCD"[int(row["answer"])]])
    return str(made)


def _as_jsonl(path: Path, rows: Sequence[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


class _AnyLength:
    """A token counter without a limit."""

    context_length = None

    def count_tokens(self, prompt: Any) -> int:
        return len(str(prompt))
