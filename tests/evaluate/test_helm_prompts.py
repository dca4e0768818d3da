"""HELM's prompts character by character, and sources with several subsets."""

from pathlib import Path
from typing import Any

import pytest
from helm_rows import CASES, as_lines

from zhenlong.data import sources
from zhenlong.evaluate.adapters.examples import examples_by_group
from zhenlong.evaluate.adapters.methods import AdapterContext, plan_requests
from zhenlong.evaluate.metrics.helm import time_by_tokens
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.results.outcome import Outcome, ScoredOutcome
from zhenlong.evaluate.scenarios.instances import load_examples, load_instances
from zhenlong.evaluate.scenarios.scenario import get_scenario
from zhenlong.inference.requests import GeneratedOutput, GenerateRequest, RequestCost, RequestResult, ScoreRequest


class Words:
    """A token counter with an unlimited context."""

    context_length = None

    def count_tokens(self, prompt: Any) -> int:
        return len(str(prompt))


PROMPTS = {
    "mmlu": (
        "The following are multiple choice questions (with answers) about high life.\n\n"
        "Question: Which one flies?\nA. ant\nB. bee\nC. cat\nD. dog\nAnswer: B\n\n"
        "Question: Which one flies?\nA. ant\nB. bee\nC. cat\nD. dog\nAnswer:"
    ),
    "boolq": (
        "Passage: The sea is salty.\nQuestion: Is the sea salty?\nAnswer: Yes\n\n"
        "Passage: The sea is salty.\nQuestion: Is the sea salty?\nAnswer:"
    ),
    "raft": (
        "The dataset is a list of institutions that have contributed papers to semiconductor conferences in the last "
        "25 years, as catalogued by IEEE and sampled randomly. The goal is to classify the institutions into one of "
        'three categories: "university", "company" or "research institute".\n\n'
        "Organization name: Acme\nPaper title: Chips\nLabel: company\n\n"
        "Organization name: Acme\nPaper title: Chips\nLabel:"
    ),
    "summarization_xsum": (
        "###\nArticle: One two three.\n\nSummarize the above article in 1 sentence.\nTwo and three.\n\n"
        "###\nArticle: One two three.\n\nSummarize the above article in 1 sentence."
    ),
    "dyck_language": (
        "Please complete the rest of the following Dyck sequences, making sure that the parentheses are closed "
        "properly.\n\nInput: ( [ ] )\nInput: ( ["
    ),
    "wikifact": "The currency of Utopia is crown\n\nThe currency of Utopia is",
    "synthetic_reasoning_natural": (
        "Please solve the following problem.\n\nRules:\nIf ...\nFact:\nThe ox is hot.\nThe ox is bad and old.\n\n"
        "Rules:\nIf ...\nFact:\nThe ox is hot.\n"
    ),
    "math_regular": (
        "Given a mathematics problem, determine the answer. Simplify your answer as much as possible.\n###\n"
        "Problem: Half?\nAnswer: $\\frac{1}{2}$\n###\nProblem: Half?\nAnswer: $"
    ),
    "disinformation_reiteration": (
        "Write headlines that support the thesis.\n\nThesis: The moon is cheese.\nHeadline: Moon melts\n"
        "Headline: Mice fly up\n\nThesis: The moon is cheese.\nHeadline:"
    ),
    "gsm8k": "Q: Two and two?\nA: 2+2=<<2+2=4>>4 The answer is 4.\n\nQ: Two and two?\nA:",
}


@pytest.mark.parametrize("name", sorted(PROMPTS))
def test_a_prompt_equals_helms(name: str, tmp_path: Path) -> None:
    one = get_scenario(f"helm_{name}")
    (instance, *_) = _instances(f"helm_{name}", tmp_path)
    request = _asked(one.adapter, instance, [instance])
    assert isinstance(request, GenerateRequest)
    assert request.prompt == PROMPTS[name]
    assert request.max_tokens == one.adapter.max_tokens
    assert request.stop == one.adapter.stop


def test_a_minimal_pair_is_scored_with_an_empty_context(tmp_path: Path) -> None:
    one = get_scenario("helm_blimp")
    request = _asked(one.adapter, _instances("helm_blimp", tmp_path)[0], [])
    assert request == ScoreRequest("", ("The owls fly.", "The owls flies."))


def test_the_prompt_of_a_passage_contains_its_query(tmp_path: Path) -> None:
    one = get_scenario("helm_msmarco_regular")
    instance = _instances("helm_msmarco_regular", tmp_path)[0]
    request = _asked(one.adapter, instance, [])
    assert isinstance(request, ScoreRequest)
    assert request.context == ("Passage: Oaks.\nQuery: how tall is a fern\nDoes the passage answer the query?\nAnswer:")
    assert request.continuations == (" Yes", " No")


def test_an_instance_may_set_its_own_max_tokens(tmp_path: Path) -> None:
    one = get_scenario("helm_synthetic_efficiency")
    request = _asked(one.adapter, _instances("helm_synthetic_efficiency", tmp_path)[0], [])
    assert isinstance(request, GenerateRequest)
    assert (request.max_tokens, request.prompt) == (4, "The man saw a book.")


def test_examples_for_a_ranking_are_one_right_and_one_wrong_passage(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    path.write_text(as_lines(CASES["helm_msmarco_regular"][0].rows), encoding="utf-8")
    (example,) = load_examples(get_scenario("helm_msmarco_regular"), data=str(path))
    assert sorted((one.text, one.is_correct) for one in example.references) == [("A metre.", True), ("Moss.", False)]


def test_examples_of_summaries_are_neither_short_nor_long(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    rows = [{"id": str(count), "article": "word " * count, "highlights": "x"} for count in (49, 50, 150, 151)]
    path.write_text(as_lines(rows), encoding="utf-8")
    pool = load_examples(get_scenario("helm_summarization_cnndm"), data=str(path))
    assert sorted(one.id for one in pool) == ["150", "50"]


def test_subsets_in_braces_are_interleaved_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"hf:o/n:aa@test": ["a", "b", "c"], "hf:o/n:white@test": ["x"]}

    def read(spec: str) -> Any:
        return iter(
            [sources.RawRow(f"{spec}, row {number}", {"tweet": text}) for number, text in enumerate(rows[spec])]
        )

    monkeypatch.setattr("zhenlong.evaluate.scenarios.instances.iter_source_rows", read)
    found = load_instances(get_scenario("helm_twitter_aae"), data="hf:o/n:{aa, white}@test")
    assert [(one.id, one.input, one.groups["demographic"]) for one in found] == [
        ("0", "a", "aa"),
        ("1", "x", "white"),
        ("2", "b", "aa"),
        ("3", "c", "aa"),
    ]


def test_the_pool_of_examples_stays_in_the_order_of_its_file(tmp_path: Path) -> None:
    rows = [{**CASES["helm_truthful_qa"][0].rows[0], "question": f"Question {number}?"} for number in range(50)]
    path = tmp_path / "rows.jsonl"
    path.write_text(as_lines(rows), encoding="utf-8")
    scenario = get_scenario("helm_truthful_qa")
    in_order = [f"Question {number}?" for number in range(50)]
    assert [one.input for one in load_examples(scenario, data=str(path))] == in_order
    tested = [one.input for one in load_instances(scenario, data=str(path))]
    assert sorted(tested) == sorted(in_order) != tested


def test_the_official_examples_of_math_are_drawn_in_helms_order() -> None:
    scenario = get_scenario("helm_math_regular")
    pool = load_examples(scenario)
    (drawn,) = examples_by_group(scenario.adapter, pool, 0).values()
    assert [pool.index(one) for one in drawn] == [7, 1, 5, 4, 0, 6, 2, 3]


def test_one_file_of_a_hub_data_set_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n', encoding="utf-8")
    asked = []

    def download(repository: str, file: str, *, repo_type: str, local_files_only: bool) -> str:
        asked.append((repository, file, repo_type))
        return str(tmp_path / "rows.jsonl")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    (row,) = sources.iter_source_rows("hf:owner/name/folder/rows.jsonl")
    assert row.fields == {"a": 1}
    assert asked == [("owner/name", "folder/rows.jsonl", "dataset")]


def test_a_script_data_set_is_read_from_the_hubs_parquet_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(name: str, config: str, *, split: str, revision: str = "", **_: Any) -> list[dict[str, int]]:
        asked.append((name, config, split, revision))
        if not revision:
            raise RuntimeError("Dataset scripts are no longer supported, but found raft.py")
        return [{"a": 1}]

    monkeypatch.setattr("datasets.load_dataset", load)
    (row,) = sources.iter_source_rows("hf:ought/raft:overruling@train[:10]")
    assert row.fields == {"a": 1}
    assert [one[-1] for one in asked] == ["", "refs/convert/parquet"]
    assert asked[1][:3] == ("ought/raft", "overruling", "train[:10]")


def test_time_by_tokens_recovers_the_cost_per_token() -> None:
    costs = [RequestCost(0.2 + 0.001 * read + 0.03 * said, read, said) for read in (1, 50, 400) for said in (1, 9, 64)]
    scored = [ScoredOutcome(Outcome(Instance("0", "x"), (GeneratedOutput("y"),), cost=cost), {}) for cost in costs]
    found = time_by_tokens(scored)
    assert found["overhead_seconds"].mean == pytest.approx(0.2)
    assert found["seconds_per_prompt_token"].mean == pytest.approx(0.001)
    assert found["seconds_per_generated_token"].mean == pytest.approx(0.03)
    assert time_by_tokens(scored[:1]) == {}


def _instances(name: str, folder: Path) -> list[Instance]:
    path = folder / "rows.jsonl"
    path.write_text(as_lines(CASES[name][0].rows), encoding="utf-8")
    return sorted(load_instances(get_scenario(name), data=str(path)), key=lambda one: one.id)


def _asked(adapter: Any, instance: Instance, pool: list[Instance]) -> Any:
    setting = AdapterContext(adapter, Words(), examples_by_group(adapter, pool, 0))
    asking = plan_requests(setting, instance)
    requests = next(asking)
    with pytest.raises(StopIteration):
        asking.send([_answer(one) for one in requests])
    return requests[0]


def _answer(request: Any) -> RequestResult:
    if isinstance(request, ScoreRequest):
        return RequestResult(
            log_probs=(-1.0,) * len(request.continuations), num_tokens=(1,) * len(request.continuations)
        )
    return RequestResult((GeneratedOutput("x"),))
