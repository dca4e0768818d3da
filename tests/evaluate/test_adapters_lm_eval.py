"""`lm_eval:<task>`: documents through our adapters give the same numbers as the harness."""

import json

import pytest
from tiny import tiny_model, tiny_tokenizer

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics import lm_eval as harness
from zhenlong.evaluate.results.result_files import read_records
from zhenlong.evaluate.run import evaluate
from zhenlong.evaluate.scenarios import lm_eval as tasks
from zhenlong.inference.local import LocalBackend
from zhenlong.inference.options import BackendSettings

EVERY_ROW = [
    {"q": f"How many is {n} and {n}?", "options": [str(n), str(2 * n), "none at all"], "right": 1} for n in range(9)
]
ROWS, EXAMPLES = (
    EVERY_ROW[:6],
    EVERY_ROW[6:],
)  # an item among its own examples would be left out here, not in the harness
CHOICE = """task: tiny_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}, train: {examples}}}}}
test_split: test
fewshot_split: train
fewshot_config: {{sampler: first_n}}
output_type: multiple_choice
description: "Count.\\n\\n"
doc_to_text: "Question: {{{{q}}}}\\nAnswer:"
doc_to_target: right
doc_to_choice: options
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""
GENERATED = """task: tiny_text
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{q}}}}"
doc_to_target: "{{{{options[right]}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 5}}
filter_list:
  - name: strict
    filter: [{{function: regex, regex_pattern: "is (\\\\d+)"}}, {{function: take_first}}]
  - name: flexible
    filter: [{{function: regex, regex_pattern: "(\\\\d+)"}}, {{function: take_first}}]
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture
def include(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for name, rows in (("rows", ROWS), ("examples", EXAMPLES)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name, text in (("choice", CHOICE), ("text", GENERATED)):
        (folder / f"{name}.yaml").write_text(
            text.format(rows=tmp_path / "rows.jsonl", examples=tmp_path / "examples.jsonl")
        )
    return str(folder)


def mean(found, measure, **where):
    (one,) = [one for one in found.results if one.measure == measure and not one.perturbation
              and all(getattr(one, name) == value for name, value in where.items())]  # fmt: skip
    return one.value.mean


@pytest.mark.peers("lm_eval")
@pytest.mark.parametrize("shots", [0, 2])
def test_a_multiple_choice_task_has_the_harness_numbers_and_log_likelihoods(include, tmp_path, shots):
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    pair = tiny_model("llama"), tiny_tokenizer()
    name = f"lm_eval:tiny_choice?include={include}"
    found = evaluate({"tiny": pair}, tmp_path / "e", scenario=[name], shots=[shots])
    manager = TaskManager(include_path=include, include_defaults=False)
    model = HFLM(pretrained=pair[0], tokenizer=pair[1], batch_size=4, max_length=512)
    theirs = lm_eval.simple_evaluate(
        model, tasks=["tiny_choice"], num_fewshot=shots, task_manager=manager, log_samples=True, bootstrap_iters=0
    )
    for measure in ("acc", "acc_norm"):
        assert mean(found, measure) == pytest.approx(theirs["results"]["tiny_choice"][f"{measure},none"])
    samples = {one["doc_id"]: one for one in theirs["samples"]["tiny_choice"]}
    for number, record in enumerate(read_records(tmp_path / "e", "tiny", "lm_eval:tiny_choice")):
        expected = [float(value[0]) for value in samples[number]["filtered_resps"]]
        assert record.choice_log_probs == pytest.approx(expected, abs=1e-4)
        assert record.prompt == samples[number]["arguments"][0][0]


@pytest.mark.peers("lm_eval")
def test_generated_text_passes_the_tasks_filters(include, tmp_path):
    from scripted_backend import ScriptedBackend

    model = ScriptedBackend(lambda request: "it is 4" if "2 and 2" in request.prompt else "well, 2")
    found = evaluate([model], tmp_path / "e", scenario=[f"lm_eval:tiny_text?include={include}"])
    assert model.requests[0].stop == ("\n",)
    assert model.requests[0].max_tokens == 5
    assert mean(found, "exact_match") == pytest.approx(1 / 6)  # strict: "is 4"
    assert mean(found, "exact_match flexible") == pytest.approx(2 / 6)  # 1 and 1 is 2 as well


@pytest.mark.peers("lm_eval")
def test_an_unknown_task_an_unsupported_kind_and_a_missing_extra_are_one_line_errors(include, tmp_path, monkeypatch):
    import sys

    with pytest.raises(UserError, match="no task of that name"):
        tasks.lm_eval_scenarios(f"lm_eval:tiny_choise?include={include}")
    text = GENERATED.format(rows=tmp_path / "rows.jsonl").replace("generate_until", "loglikelihood")
    (tmp_path / "tasks" / "odd.yaml").write_text(text.replace("tiny_text", "tiny_odd"))
    harness._manager.cache_clear()
    with pytest.raises(UserError, match="kind loglikelihood are not supported"):
        tasks.lm_eval_scenarios(f"lm_eval:tiny_odd?include={include}")
    harness.load_tasks.cache_clear()
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(UserError, match=r"pip install 'zhenlong\[lm_eval\]'"):
        tasks.lm_eval_scenarios("lm_eval:anything")


def test_the_fingerprint_of_a_local_model_depends_on_its_weights(tmp_path):
    def named(seed, **options):
        settings = BackendSettings(**options)
        return LocalBackend(
            (tiny_model("llama", seed), tiny_tokenizer()), file_hash=lambda path: "", settings=settings
        ).fingerprint

    assert named(0) == named(0)
    assert len({named(0), named(1), named(0, dtype="bfloat16"), named(0, chat_template="none")}) == 4
