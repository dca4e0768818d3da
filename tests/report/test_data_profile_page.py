"""`zhenlong data profile`: table, JSON and page agree, and the page escapes text."""

import json
import re

import pytest

from zhenlong.cli import main
from zhenlong.report.data_profile import profile

SHOUT = "you idiot, you stupid idiot"
ROWS = [
    {"prompt": "Name a colour of the rainbow, please.", "chosen": "Red is a colour of the rainbow.", "rejected": "No."},
    {"prompt": "Say <script>alert(1)</script>.", "chosen": "- one\n- two <b>bold</b>", "rejected": SHOUT},
    {"prompt": "Wer bist du?", "chosen": "Ich bin ein Sprachmodell und helfe gerne bei Fragen.", "rejected": "."},
]


@pytest.fixture
def files(tmp_path):
    pairs, texts = tmp_path / "pairs.jsonl", tmp_path / "texts.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, ROWS[0], {"prompt": "p"}]))
    story = " ".join(f"word{i}" for i in range(30))
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in (story, f"{story} <i>end</i>", "Other.")))
    return f"{pairs},{texts}"


def test_the_table_the_json_and_the_page_agree(files, tmp_path, capsys):
    main(["data", "profile", files, "--output", str(tmp_path / "p.json"), "--html", str(tmp_path / "p.html")])
    said = capsys.readouterr().out
    pairs, texts = json.loads((tmp_path / "p.json").read_text())["sources"]
    assert pairs["rows"] == 5
    assert [bad["location"][-6:] for bad in pairs["bad_rows"]] == ["line 5"]
    assert pairs["stats"]["records"] == 4
    assert pairs["stats"]["duplicates"]["exact"] == 1
    assert pairs["stats"]["preference"]["longer_win_rate"] == 0.75
    assert pairs["sample_stats"]["toxic_fraction"] == pytest.approx(1 / 8)
    assert dict(map(tuple, pairs["sample_stats"]["languages"]))["de"] == pytest.approx(1 / 8)
    assert texts["stats"]["kind"] == "document"
    assert texts["stats"]["duplicates"]["near"] == 1
    for line in (
        r"bad rows +1 +0",
        r"exact duplicates +1 \(25.0 %\) +0 \(0.0 %\)",
        r"longer response chosen +75.0 % +–",
    ):
        assert re.search(line, said), line
    page = (tmp_path / "p.html").read_text()
    for words in ("pairs.jsonl", "texts.jsonl", "75.0 %", "1 (25.0 %)", "ranking", "document"):
        assert words in page


def test_the_page_escapes_text_and_loads_nothing(files, tmp_path):
    profile(files, html=str(tmp_path / "p.html"), toxicity_classifier="none", detect_language=False)
    page = (tmp_path / "p.html").read_text()
    assert "<i>end</i>" not in page
    assert "&lt;i&gt;end&lt;/i&gt;" in page
    assert "<script" not in page
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", page)


def test_the_sample_depends_on_the_seed(files, tmp_path):
    found = []
    for seed in (0, 0, 1, 2, 3):
        profile(files, sample_size=2, seed=seed, output=str(tmp_path / "p.json"))
        found.append(json.loads((tmp_path / "p.json").read_text())["sources"][0]["sample_stats"])
    assert found[0] == found[1]
    assert found[0]["n"] == 2
    assert any(one != found[0] for one in found)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--near_duplicate_threshold", "0"], "expected near_duplicate_threshold in"),
        (["--toxicity_classifier", "nowhere/model"], "toxicity scorer nowhere/model"),
        (["--kind", "poem"], "--kind poem: unknown"),
    ],
)
def test_a_wrong_option_is_a_one_line_error(files, options, problem, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["data", "profile", files, *options])
    assert stop.value.code == 2
    assert problem in capsys.readouterr().err


def test_a_source_without_a_usable_row_is_an_error(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"foo": 1}\n')
    with pytest.raises(SystemExit):
        main(["data", "profile", str(tmp_path / "a.jsonl")])
    assert "no usable rows" in capsys.readouterr().err
