"""Every row of the shared cases through the commands: `zhenlong verify` for texts, `zhenlong score` for programs."""

import json
from pathlib import Path

import pytest
from verify.hostile.machine import UNSAFE

from zhenlong.cli import main
from zhenlong.evaluate.results.result_files import read_records

CASES = Path(__file__).parents[3] / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not there")
FILES = {"maths": "maths", "choice": "choices", "refusal": "refusals", "programs": "programs"}
FILES |= dict.fromkeys(("pair", "rating", "winner", "label"), "judges")


def case_rows(reader):
    rows = [json.loads(line) for line in (CASES / f"{FILES[reader]}.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row.get("kind", reader) == reader]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def expected(row):
    return None if row["expected"] == "none" else row["expected"]


@pytest.mark.parametrize("reader", [name for name in FILES if name != "programs"])
def test_verify_reads_every_text_as_it_is_meant(tmp_path, capsys, reader):
    rows = case_rows(reader)
    main(["verify", reader, "--data", write_rows(tmp_path / "rows.jsonl", rows), "--json"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["id"] for one in found] == [row["id"] for row in rows]
    assert rows
    wrong = [(row["output"], one) for row, one in zip(rows, found, strict=True) if one["value"] != expected(row)]
    assert wrong == []


@pytest.mark.parametrize("scenario", ["humaneval_chat", "livecodebench"])
def test_score_runs_every_program_that_is_there(tmp_path, scenario):
    rows = [row for row in case_rows("programs") if row["scenario"] == scenario]
    id_field = "task_id" if scenario == "humaneval_chat" else "question_id"
    data = write_rows(tmp_path / "data.jsonl", [row["row"] | {id_field: row["id"]} for row in rows])
    outputs = write_rows(tmp_path / "outputs.jsonl", [{"id": row["id"], "output": row["output"]} for row in rows])
    folder = str(tmp_path / "scores")
    sandbox = "none" if UNSAFE else "auto"
    main(["score", scenario, "--data", data, "--outputs", outputs, "--output", folder, "--sandbox", sandbox])
    found = {one.id: one.scores["pass@1"] for one in read_records(folder, "outputs", scenario)}
    assert rows
    assert [row["id"] for row in rows if found[row["id"]] != row["expected"]] == []
