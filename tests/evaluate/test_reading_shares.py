"""Beside every measure stand the shares of answers that were not read, and large ones are said with an example."""

import json
from dataclasses import replace

import pytest

from zhenlong.evaluate.metrics import registry
from zhenlong.evaluate.results.result_files import read_manifest, read_results
from zhenlong.evaluate.run.score_command import file_model_name, score


@pytest.fixture(autouse=True)
def looks_for_a_number(monkeypatch):
    """GSM8K's metric looks for a digit."""
    metric = replace(registry.get_metric("gsm8k"), finds=lambda text, instance: any(map(str.isdigit, text)))
    monkeypatch.setitem(registry._METRICS, "gsm8k", metric)


def transcript(tmp_path, name, outputs):
    rows = [{"id": str(number), **one} for number, one in enumerate(outputs)]
    file = tmp_path / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def data(tmp_path, count):
    rows = [{"question": f"{n} + 1?", "answer": f"#### {n + 1}"} for n in range(count)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_shares_stand_beside_the_measure_and_large_ones_are_said_with_an_example(tmp_path, capsys):
    outputs = [{"output": f"so #### {n + 1}"} for n in range(12)]
    outputs += [{"output": "I would rather not"}] * 4 + [{"output": ""}] * 2
    outputs += [{"output": "cut", "finish_reason": "length"}, {"output": "x", "finish_reason": "content_filter"}]
    file = transcript(tmp_path, "gpt-3.5-turbo.jsonl", outputs)
    folder = tmp_path / "e"
    score("gsm8k", outputs=file, data=data(tmp_path, 20), output=str(folder))
    (main,) = [one for one in read_results(folder) if one.main]
    assert main.model == "gpt-3.5-turbo"
    assert main.reading == {"unread": 4 / 20, "empty": 2 / 20, "truncated": 1 / 20, "failed": 1 / 20}
    assert (main.value.n, main.failed) == (19, 1)  # what the filter stopped is failed, not wrong
    said = capsys.readouterr()
    line = (
        "gpt-3.5-turbo, gsm8k, 0-shot: 20.0 % of the answers could not be read (4 of 20; id 12: 'I would rather not')"
    )
    assert line in said.err
    assert "10.0 % of the answers are empty" in said.err
    assert "cut off" not in said.err  # 5 % is not above 5 %
    assert "20 % unread" in said.out
    assert any(line in note for note in read_manifest(folder)["notes"])


def test_answers_that_are_all_read_have_no_shares(tmp_path, capsys):
    file = transcript(tmp_path, "m.jsonl", [{"output": f"#### {n + 1}"} for n in range(3)])
    (main,) = [one for one in score("gsm8k", outputs=file, data=data(tmp_path, 3)) if one.main]
    assert main.reading == {}
    assert "of the answers" not in capsys.readouterr().err


def test_a_file_of_outputs_gives_its_model_the_whole_name():
    assert file_model_name("a/gpt-3.5-turbo.jsonl") == "gpt-3.5-turbo"
    assert file_model_name("gpt-3.7.json.gz") == "gpt-3.7"
