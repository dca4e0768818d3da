"""The page shows the content of the folder as text, is self-contained, and tolerates missing parts."""

import json
import os
import shutil
from html.parser import HTMLParser

import pytest
from synthetic_runs import HOSTILE_TEXT, write_lines, write_recipe, write_run

from zhenlong.api.folder_format import FORMAT_NOTE
from zhenlong.errors import UserError
from zhenlong.report import write_report
from zhenlong.report.page import render_report
from zhenlong.report.report_data import read_report_data


class Page(HTMLParser):
    """A parsed page: elements with their attributes, and the text outside scripts and styles."""

    VOID = ("meta", "link", "br", "img", "input", "wbr")

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.open, self.mismatched = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.mismatched.append(tag)

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join("".join(self.texts).split())

    def with_class(self, name):
        return [attrs for _, attrs in self.elements if name in (attrs.get("class") or "").split()]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = write_recipe(tmp_path_factory.mktemp("runs") / "demo")
    return Page(write_report(folder).read_text(encoding="utf-8"))


def test_everything_in_the_folder_is_on_the_page(recipe):
    for said in (
        "demo", "3 models · 3 training runs · seed 0 · 6 min 40 s in all",  # what it is
        "Gold reward", "0.50", "0.45 to 0.55", "n = 300", "My measure", "held-out accuracy", "80.0 %", "n = 600",
        "Gold reward: gain over SFT", "−0.10", "−0.15 to −0.05", "significant decrease",
        "over-optimised: the proxy rose and gold fell", "family 0", "gold 0.50", "proxy 1.50",
        "SFT 60 steps", "Reward model 60 steps", "After, perplexity", "Loss", "Learning rate", "step 30",
        "2.5 M", "4 TFLOP", "1 min 15 s", "33,333", "61 %", "512 MiB", "7.5 M", "Annotations", "36",
        "pocket", "python 3.11", "zhenlong 0.1.0",
    ):  # fmt: skip
        assert said in recipe.text, said
    assert recipe.text.index("SFT 60 steps") < recipe.text.index("Reward model 60") < recipe.text.index("GRPO 60")


def test_model_output_is_shown_and_never_executed(recipe):
    assert recipe.text.count("<script>alert('x')</script>") >= 9
    assert "{{ 7 * 7 }}" in recipe.text
    assert len([tag for tag, _ in recipe.elements if tag == "script"]) == 2  # plotly and the page's own
    assert not any(name.startswith("on") for _, attrs in recipe.elements for name in attrs)


def test_the_page_needs_no_network(recipe):
    assert [a["src"] for _, a in recipe.elements if a.get("src")] == []
    targets = [attrs["href"] for _, attrs in recipe.elements if attrs.get("href")]
    assert targets
    assert all(target.startswith(("#", "data:")) for target in targets)


def test_the_page_is_well_formed_and_its_links_resolve(recipe):
    assert recipe.mismatched == []
    assert recipe.open == []
    names = [attrs["id"] for _, attrs in recipe.elements if attrs.get("id")]
    assert len(names) == len(set(names))
    links = [a["href"][1:] for _, a in recipe.elements if (a.get("href") or "").startswith("#")]
    links += [attrs["aria-describedby"] for _, attrs in recipe.elements if attrs.get("aria-describedby")]
    assert set(links) <= set(names)
    heads = [attrs for tag, attrs in recipe.elements if tag == "th"]
    assert heads
    assert all(attrs.get("scope") in ("col", "row") for attrs in heads)


def test_charts_contain_their_numbers_and_have_labels_for_screen_readers(recipe):
    charts = recipe.with_class("chart")
    specs = [json.loads(attrs["data-chart"]) for attrs in charts]
    assert {spec["kind"] for spec in specs} == {"curve", "dots", "scatter"}
    assert all(attrs["aria-label"] for attrs in charts)
    losses = [spec for attrs, spec in zip(charts, specs, strict=True) if attrs["aria-label"].startswith("Loss")]
    assert len(losses) == 3
    assert losses[0]["x"] == list(range(1, 61))
    assert losses[0]["y"][0] == pytest.approx(3.0 - 0.01 + 0.3)
    assert "Odd" not in recipe.text  # a quantity without any number has no curve


def test_a_single_run_has_a_report(tmp_path):
    page = Page(write_report(write_run(tmp_path / "sft")).read_text(encoding="utf-8"))
    assert "1 training run" in page.text
    assert "Results" not in page.text
    assert "Samples side by side" not in page.text
    assert page.mismatched == []


@pytest.mark.parametrize(
    "absent",
    ["config.yaml", "metrics.jsonl", "ledger.json", "samples.jsonl", "finished.json", "summary.json", "evaluation",
     "sft.jsonl", "grpo", "models"],
)  # fmt: skip
def test_a_missing_file_removes_only_its_own_part_of_the_page(tmp_path, absent):
    folder = write_recipe(tmp_path / "demo")
    for path in sorted(folder.rglob(absent)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if absent == "models":
        (folder / "summary.json").write_text('{"seconds": 3}')
    page = Page(render_report(read_report_data(folder)))
    assert page.mismatched == []
    assert "demo" in page.text


def test_any_single_file_gives_a_report(tmp_path):
    whole = write_recipe(tmp_path / "demo")
    for number, path in enumerate([p for p in sorted(whole.rglob("*")) if p.is_file()]):
        copy = tmp_path / str(number) / path.relative_to(whole)
        copy.parent.mkdir(parents=True)
        shutil.copy(path, copy)
        assert Page(render_report(read_report_data(tmp_path / str(number)))).mismatched == []


def test_damage_is_left_out_and_reported(tmp_path):
    folder = write_run(tmp_path / "sft")
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text().splitlines()
    metrics.write_text("\n".join([*lines[:10], '{"step": 11, "lo', "[]", *lines[12:], '{"step": 61, "l']))
    (folder / "ledger.json").write_text("not json")
    (folder / "config.yaml").write_text(f"# {FORMAT_NOTE}\na: [1")
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert "sft/metrics.jsonl: 2 damaged lines were left out." in page.text  # the torn last line is no damage
    assert "sft/ledger.json does not hold an object" in page.text
    assert "sft/config.yaml does not hold an object" in page.text
    assert len(json.loads(page.with_class("chart")[0]["data-chart"])["x"]) == 58


@pytest.mark.parametrize(
    "wrong",
    [
        {"models": 3},
        {"models": {"a": 4}},
        {"models": {"a": {"b": "c", "d": [1]}}},
        {"models": {"a": {"gold_reward": {"mean": "x", "ci95": 3, "n": "y"}}}},
        {"n": {}, "seed": [], "seconds": "long"},
    ],
)
def test_a_summary_of_another_shape_does_not_break_the_page(tmp_path, wrong):
    (tmp_path / "summary.json").write_text(json.dumps(wrong))
    write_lines(tmp_path / "evaluation" / "a.jsonl", [{"prompt": 3, "gold": "x"}, {"response": 4}, {"prompt": ["hi"]}])
    assert Page(render_report(read_report_data(tmp_path))).mismatched == []


def test_a_folder_without_runs_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        write_report(tmp_path / "absent")
    with pytest.raises(UserError, match="nothing to report"):
        write_report(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="no such folder"):
        write_report(tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_the_page_is_written_atomically(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "sft")
    before = write_report(folder).read_text(encoding="utf-8")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match="No space left"):
        write_report(folder)
    assert (folder / "report.html").read_text(encoding="utf-8") == before
    assert [p.name for p in folder.iterdir() if "partial" in p.name] == []


def test_hostile_text_survives_unchanged(tmp_path):
    folder = write_run(tmp_path / "sft")
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert HOSTILE_TEXT in "".join(page.texts)
