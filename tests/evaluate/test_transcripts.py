"""Files as benchmarks and harnesses publish them are read as the rows of recorded outputs that they hold."""

import io
import json
import struct
import zipfile
import zlib

import pyarrow
import pytest

from zhenlong.errors import UserError
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.run.recorded_outputs import MatchingOptions, read_recorded_outputs
from zhenlong.evaluate.scenarios.scenario import Scenario, get_scenario
from zhenlong.evaluate.transcripts.formats import read_transcript
from zhenlong.evaluate.transcripts.inspect_log import ZSTANDARD
from zhenlong.evaluate.transcripts.transcript import ReadingContext

QUESTIONS = ("What is 1+1?", "What is 2+2?", "What is 3+3?")
INSTANCES = [Instance(str(81 + place), text, (Reference("2"),)) for place, text in enumerate(QUESTIONS)]
SCENARIO = Scenario(
    "sums", "Sums", "none", ({"using": "question_answer"},), ("exact_match",), "exact_match", id="question_id"
)


@pytest.fixture
def read(tmp_path):
    """The recorded outputs of a list of rows, written as JSON lines or as one JSON file."""

    def run(rows, name="o.jsonl", scenario=SCENARIO, instances=INSTANCES, **options):
        path = tmp_path / name
        path.write_text(json.dumps(rows) if name.endswith(".json") else "".join(json.dumps(one) + "\n" for one in rows))
        return read_recorded_outputs(scenario, instances, path, MatchingOptions(**options))

    return run


def answers(model="m", **changed):
    return [
        {
            "question_id": 81 + place,
            "answer_id": "x",
            "model_id": model,
            "choices": [{"index": 0, "turns": [str(place)]}],
        }
        | changed
        for place in range(3)
    ]


@pytest.mark.parametrize(
    "rows",
    [
        answers(),
        [{"question_id": 81 + n, "model_id": "m", "choices": [{"turns": [{"content": str(n)}]}]} for n in range(3)],
        [
            {
                "uid": str(81 + n),
                "model": "m",
                "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": {"answer": str(n)}}],
            }
            for n in range(3)
        ],
        [{"instruction": text, "output": str(n), "generator": "m"} for n, text in enumerate(QUESTIONS)],
        [{"prompt": text, "response": str(n)} for n, text in reversed(list(enumerate(QUESTIONS)))],
        [{"prompt": [{"role": "user", "content": text}], "completion": str(n)} for n, text in enumerate(QUESTIONS)],
        [{"prompt": f"Answer!\n{text}\nA:", "response": str(n)} for n, text in enumerate(QUESTIONS)],
        [{"question_id": 81 + n, "completion": str(n)} for n in range(3)],
        [
            {
                "doc_id": n,
                "doc": {"question_id": 81 + n},
                "resps": [[str(n)]],
                "filter": filter_,
                "arguments": [["q", {}]],
            }
            for filter_ in ("strict-match", "flexible-extract")
            for n in range(3)
        ],
    ],
)
def test_answers_in_every_published_form_reach_their_instance(rows, read):
    found = read(rows)
    assert [(one.instance.id, one.text) for one in found.outcomes] == [("81", "0"), ("82", "1"), ("83", "2")]


def test_a_file_of_several_models_needs_the_name_of_one(read):
    both = answers("a") + answers("b", choices=[{"index": 0, "turns": ["b"]}])
    assert {one.text for one in read(both, model="b").outcomes} == {"b"}
    with pytest.raises(UserError, match=r"holds 2 models \(a, b\); choose one with --model"):
        read(both)


def test_several_choices_of_a_question_are_its_trials(read):
    rows = answers(choices=[{"index": 0, "turns": ["x"]}, {"index": 1, "turns": ["y"]}])
    found = read(rows)
    assert [(one.trial, one.text) for one in found.outcomes] == [(0, "x"), (1, "y")] * 3
    assert "up to 2 rows of an id: its trials" in found.notes


def test_equally_many_rows_of_every_id_are_trials_and_other_repeated_ids_are_counted(read):
    rows = [{"id": 81 + n, "output": text} for text in ("x", "y") for n in range(3)]
    assert [one.trial for one in read(rows).outcomes] == [0, 1] * 3
    with pytest.raises(UserError, match=r"line 4: duplicate id '81' .*\(1 of 3 ids have several rows\)"):
        read(rows[:4])
    assert [
        one.trial
        for one in read([*rows[:3], rows[3] | {"trial": 7}, rows[0] | {"trial": 8}][1:], allow_missing=True).outcomes
    ] == [7, 8, 0, 0]


def test_samples_of_an_instance_are_one_outcome_where_a_metric_takes_several(read):
    scenario = get_scenario("humaneval")
    instances = [Instance(f"HumanEval/{place}", "def f():") for place in range(2)]
    rows = [{"task_id": one.id, "completion": text} for one in instances for text in "xyz"]
    found = read(rows, scenario=scenario, instances=instances).outcomes
    assert [[output.text for output in one.outputs] for one in found] == [["x", "y", "z"]] * 2


def test_missing_and_extra_rows_are_counted_and_the_wanted_field_is_named(read):
    rows = [{"id": 81, "output": "x"}, {"id": 7, "output": "y"}, {"id": 8, "output": "z"}]
    with pytest.raises(
        UserError, match=r"line 2: unknown id '7'; sums has 3 ids: 81, 82, 83 \(an id is question_id in .*2 of 3 rows"
    ):
        read(rows)
    found = read(rows, allow_extra=True, allow_missing=True)
    assert found.counts == {"rows": 3, "instances": 3, "missing": 2, "extra": 2}
    assert len(found.notes) == 2
    with pytest.raises(UserError, match="belong to none"):
        read(rows[1:], allow_extra=True, allow_missing=True)  # not one row fits: this is another data set


def test_a_prompt_without_instance_shows_both_sides(read):
    rows = [{"prompt": "Who?", "response": "I"}]
    with pytest.raises(UserError, match=r"has the prompt 'Who\?'; the first of 3 is 'What is 1\+1\?' .*question_id"):
        read(rows)


def test_equal_prompts_take_their_rows_in_turn(read):
    twins = [Instance("a", "same"), Instance("b", "same")]
    found = read([{"prompt": "same", "response": text} for text in "xy"], instances=twins)
    assert [one.text for one in found.outcomes] == ["x", "y"]


def test_rows_of_another_form_than_the_first_are_an_error_with_their_line(read):
    with pytest.raises(UserError, match="line 2: not a row of AlpacaEval outputs"):
        read([{"instruction": QUESTIONS[0], "output": "x", "generator": "m"}, {"instruction": QUESTIONS[1]}])


def test_annotations_of_alpaca_eval_are_turned_where_the_model_is_output_1(read):
    row = {"instruction": QUESTIONS[0], "output_1": "base", "generator_1": "b", "output_2": "own", "generator_2": "m"}
    for given, as_second, as_first in (("1.25", 1.25, 1.75), (0, 0, 0), (None, None, None), (1.5, 1.5, 1.5)):
        rows = [row | {"annotator": "j", "preference": given}]
        for model, preference, text, baseline in (("", as_second, "own", "base"), ("b", as_first, "base", "own")):
            found = read(rows, model=model, instances=INSTANCES[:1]).outcomes[0]
            assert found.metadata["preference"] == preference
            assert (found.text, found.instance.data["baseline"]) == (text, (baseline,))


def test_fastchat_verdicts_are_read_from_the_side_of_the_model(read):
    row = {"question_id": 81, "model_1": "m", "model_2": "n", "judge": ["j", "pair-v2"], "turn": 1}
    rows = [
        row | {"g1_winner": "model_1", "g2_winner": "tie"},
        row | {"turn": 2, "g1_winner": "error", "g2_winner": "model_2"},
    ]
    own = read(rows, model="m", scenario=judged(), instances=INSTANCES[:1]).outcomes[0]
    other = read(rows, model="n", scenario=judged(), instances=INSTANCES[:1]).outcomes[0]
    assert own.metadata["verdicts"] == [["A", "C"], [None, "A"]]  # [model is A, model is B]; model_2 is A in game 2
    assert other.metadata["verdicts"] == [["C", "A"], ["A", None]]  # A is a slot: m won it in game 1


def judged():
    return get_scenario("mt_bench_pairwise")


def test_fastchat_grades_are_put_together_by_turn(read):
    row = {"question_id": 81, "model": "m", "judge": ["j", "single-v1"]}
    rows = [row | {"turn": 2, "score": -1}, row | {"turn": 1, "score": 7}]
    scenario = get_scenario("mt_bench")
    assert read(rows, scenario=scenario, instances=INSTANCES[:1]).outcomes[0].metadata["scores"] == [7, -1]
    with pytest.raises(UserError, match="line 3: a second verdict on the same question and turn"):
        read([*rows, rows[0]], scenario=scenario, instances=INSTANCES[:1])


def test_arena_hard_games_are_kept(read):
    games = [{"score": "A>B"}, {"score": None}]
    rows = [{"question_id": "81", "model": "m", "judge": "j", "games": games}]
    found = read(rows, scenario=get_scenario("arena_hard_v01"), instances=INSTANCES[:1])
    assert (found.outcomes[0].metadata["games"], found.model) == (games, "m")


@pytest.mark.parametrize("number", [str, float])
def test_log_likelihoods_of_lm_eval_are_those_of_the_choices(number, read):
    scenario = get_scenario("mmlu")
    doc = {"question": "Which?", "subject": "law", "choices": ["a", "b", "c", "d"], "answer": 1}
    instances = [
        Instance("0", "Else?", (Reference("a"),)),
        Instance("1", "Which?", tuple(Reference(c, c == "b") for c in "abcd")),
    ]
    resps = [[[number(value), "False"]] for value in (-2.0, -1.0, -3.0, -4.0)]
    rows = [{"doc_id": 0, "doc": doc, "resps": resps, "filter": "none"}]
    found = read(rows, scenario=scenario, instances=instances, allow_missing=True).outcomes
    assert found[0].failed  # matched by the document, not by doc_id
    assert (found[1].predicted, found[1].choices.log_probs) == (1, (-2.0, -1.0, -3.0, -4.0))


def sample(number, epoch=1, **changed):
    message = {
        "role": "assistant",
        "content": [{"type": "reasoning", "reasoning": "no"}, {"type": "text", "text": "attachment://h"}],
    }
    return {
        "id": number,
        "epoch": epoch,
        "input": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTIONS[number]}],
        "attachments": {"h": f"{number} {epoch}"},
        "output": {"choices": [{"message": message, "stop_reason": "stop"}]},
    } | changed


def log(**changed):
    cut = {"output": {"choices": [{"message": {"content": "x"}, "stop_reason": "content_filter"}]}}
    samples = [
        sample(0),
        sample(0, 2),
        sample(1),
        sample(1, 2, **cut),
        sample(2, error={"message": "boom"}),
        sample(2, 2),
    ]
    return {"version": 2, "status": "success", "eval": {"model": "mock/m"}, "plan": {}, "samples": samples} | changed


def zstandard_zip(files):
    """A zip file whose members are compressed by zstandard, which `zipfile` cannot write before Python 3.14."""
    out, entries = io.BytesIO(), []
    for name, content in files.items():
        packed = pyarrow.compress(content, codec="zstd", asbytes=True)
        sizes = (zlib.crc32(content), len(packed), len(content), len(name))
        entries.append((name, sizes, out.tell()))
        out.write(struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 63, 0, ZSTANDARD, 0, 33, *sizes, 0) + name.encode() + packed)
    start = out.tell()
    for name, sizes, place in entries:
        out.write(
            struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 63, 63, 0, ZSTANDARD, 0, 33, *sizes, 0, 0, 0, 0, 0, place)
            + name.encode()
        )
    size = out.tell() - start
    out.write(struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, len(entries), len(entries), size, start, 0))
    return out.getvalue()


@pytest.mark.parametrize("packing", ["json", "deflate", "zstandard"])
def test_logs_of_inspect_are_read_whatever_their_packing(packing, tmp_path):
    whole = log()
    path = tmp_path / ("log.json" if packing == "json" else "log.eval")
    parts = {"header.json": json.dumps({name: value for name, value in whole.items() if name != "samples"}).encode()}
    parts |= {f"samples/{one['id']}_epoch_{one['epoch']}.json": json.dumps(one).encode() for one in whole["samples"]}
    if packing == "json":
        path.write_text(json.dumps(whole, indent=2))
    elif packing == "zstandard":
        path.write_bytes(zstandard_zip(parts))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
    found = read_recorded_outputs(SCENARIO, INSTANCES, path)
    assert found.model == "mock/m"
    assert [(one.instance.id, one.trial, one.text, one.failed) for one in found.outcomes] == [
        ("81", 0, "0 1", ""), ("81", 1, "0 2", ""), ("82", 0, "1 1", ""), ("82", 1, "", "content_filter"),
        ("83", 0, "", "boom"), ("83", 1, "2 2", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("log.eval", b"no zip", "not a whole log of inspect"),
        ("log.eval", zstandard_zip({"other.json": b"{}"}), "with header.json in the zip"),
        (
            "log.eval",
            zstandard_zip({"header.json": b'{"eval": {}, "status": "error"}'}),
            r"no samples \(status error\)",
        ),
        ("log.json", json.dumps(log(samples=[{"id": 1}])).encode(), "a sample is not in inspect's format"),
    ],
)
def test_a_broken_log_is_one_line(name, content, expected, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=expected) as error:
        read_transcript(tmp_path / name, ReadingContext(name))
    assert "\n" not in str(error.value)
