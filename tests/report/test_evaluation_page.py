"""The page of an evaluation shows the folder's results, recomputed here, and leaves nothing out silently."""

import base64
import json
import math
import re
import zlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from synthetic_evaluation import MODELS, PROMPT_PREFIX, write_evaluation
from synthetic_runs import HOSTILE_TEXT, write_recipe
from test_page import Page

from zhenlong.errors import UserError
from zhenlong.evaluate.results.result_files import (
    InstanceRecord,
    Result,
    instances_path,
    read_records,
    read_results,
    write_results,
)
from zhenlong.evaluate.statistics.intervals import Interval
from zhenlong.report import write_report
from zhenlong.report.evaluation.calibration import confidences_by_model, reliability_diagram
from zhenlong.report.evaluation.differences import apply_holm, compared_pairs, scenario_differences
from zhenlong.report.evaluation.evaluation_data import read_evaluation_data, read_scenario_records
from zhenlong.report.evaluation.heat_table import category_tables, heat_levels
from zhenlong.report.evaluation.instance_browser import max_min_fair_shares, pack_scenario
from zhenlong.report.evaluation.number_format import decimals_for, format_decimal
from zhenlong.report.evaluation.sections import EvaluationSections, build_sections
from zhenlong.report.evaluation.svg_charts import axis_for
from zhenlong.report.evaluation.win_rates import win_rate_table
from zhenlong.report.evaluation.worst_case import perturbation_drops

SCENARIOS = ("mmlu", "gsm8k", "ifeval", "real_toxicity_prompts", "imdb")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_evaluation(tmp_path_factory.mktemp("runs") / "holistic", scenarios=SCENARIOS, n=70)


@pytest.fixture(scope="module")
def page(folder):
    return Page(write_report(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sections(folder) -> EvaluationSections:
    return build_sections(read_evaluation_data(folder))


def unpacked(chunk) -> dict:
    return json.loads(zlib.decompress(base64.b64decode(chunk.packed), -15))


def prompts_of(data: dict) -> list[str]:
    """Reassembles prompts as the page's script does; its strings count UTF-16 units."""
    found: list[bytes] = []
    for base, shared, rest in data["prompts"]:
        found.append((found[base][: 2 * shared] if base >= 0 else b"") + rest.encode("utf-16-le", "surrogatepass"))
    return [one.decode("utf-16-le", "surrogatepass") for one in found]


def test_every_section_is_there_and_the_page_is_well_formed(page):
    for said in (
        "3 models · 5 scenarios", "suite holistic · limit 70 · seed 0", "Accuracy", "Calibration", "Robustness",
        "Fairness", "Toxicity", "Efficiency", "gsm8k, 0-shot", "gsm8k, 5-shot", "Mean win rates", "Paired differences",
        "GRPO - SFT", "Worst case", "mmlu by subject", "Gap", "ECE: Base", "Examples in the prompt",
        "Cost and quality", "1 failed",
    ):  # fmt: skip
        assert said in page.text, said
    assert page.mismatched == []
    assert page.open == []
    names = [attrs["id"] for _, attrs in page.elements if attrs.get("id")]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    links = [attrs["href"][1:] for _, attrs in page.elements if (attrs.get("href") or "").startswith("#")]
    assert {link.split("?")[0] for link in links} <= set(names)
    assert all(attrs.get("scope") for tag, attrs in page.elements if tag == "th")
    assert [attrs["src"] for _, attrs in page.elements if attrs.get("src")] == []


def test_a_cell_is_the_result_with_its_interval(folder, sections):
    results = {one.key[:1] + one.key[1:] + (one.model,): one for one in read_results(folder)}
    accuracy = next(one for one in sections.categories if one.name == "accuracy")
    row = next(one for one in accuracy.rows if one.scenario_shots == ("mmlu", 5))
    value = results["mmlu", "5", "", "", "accuracy", "exact_match", "sft"].value
    assert float(row.cells[1].text) == pytest.approx(value.mean, abs=0.006)
    assert float(row.cells[1].half_width) == pytest.approx((value.ci95[1] - value.ci95[0]) / 2, abs=0.006)
    assert row.cells[1].failed == 1
    assert row.cells[0].failed == 0
    robust = next(one for one in sections.categories if one.name == "robustness")
    worst = results["mmlu", "5", "worst_case/robustness", "", "robustness", "exact_match", "base"]
    assert (
        next(r for r in robust.rows if r.scenario_shots == ("mmlu", 5))
        .cells[0]
        .aria_label.startswith(f"{worst.value.mean:.2f}")
    )


def _result(mean, half, model, better=True, n=90):
    return Result(model, "s", "m", Interval(mean, (mean - half, mean + half), n), higher_is_better=better)


def test_colour_follows_the_direction_and_stays_pale_for_noise():
    assert heat_levels([_result(0.2, 0.05, "a"), _result(0.8, 0.05, "b")]) == [-3, 3]
    assert heat_levels([_result(0.2, 0.05, "a", False), _result(0.8, 0.05, "b", False)]) == [3, -3]
    assert heat_levels([_result(0.45, 0.06, "a"), _result(0.55, 0.06, "b")]) == [0, 0]
    assert heat_levels([_result(0.2, 0.01, "a", None), _result(0.8, 0.01, "b", None)]) == [0, 0]
    assert heat_levels([_result(0.2, 0.01, "a"), None]) == [0, 0]
    assert heat_levels([_result(0.2, math.nan, "a"), _result(0.8, 0.01, "b")]) == [0, 3]
    few = [_result(0.2, 0.05, "a", n=9), _result(0.8, 0.05, "b", n=9)]
    assert heat_levels(few) == [0, 0]  # too few observations for a colour


def test_win_rates_count_only_directed_measures(folder, sections):
    wins = sections.win_rates
    assert wins is not None
    assert "bias" not in wins.categories  # the one measure there has no direction
    accuracy = [rates[wins.categories.index("accuracy")][1] for _, rates in wins.rows]
    assert sum(accuracy) == pytest.approx(len(MODELS) / 2)
    assert accuracy[0] == min(accuracy)
    evaluation = read_evaluation_data(folder)
    evaluation.models = evaluation.models[:1]
    assert win_rate_table(evaluation, category_tables(evaluation)) is None


def test_the_drop_is_paired_by_instance(folder):
    evaluation = read_evaluation_data(folder)
    records = read_scenario_records(evaluation, "mmlu")
    fall = perturbation_drops(evaluation, ("mmlu", 5), records)[2]
    own = [one for one in records["grpo"] if not one.failed]
    before = {one.id: one.scores["exact_match"] for one in own if not one.perturbation}
    after = {one.id: one.scores["exact_match"] for one in own if one.perturbation == "mild_mix"}
    expected = np.mean([min(after[key], before[key]) - before[key] for key in before])
    assert fall.worst_case[0].change == format_decimal(float(expected), 3, signed=True)
    assert fall.worst_case[0].half_width
    assert {one.name for one in fall.per_perturbation} == {"mild_mix", "dialect"}


def test_differences_are_over_the_shared_instances_and_corrected(folder):
    evaluation = read_evaluation_data(folder)
    assert compared_pairs(evaluation) == [("sft", "base"), ("grpo", "base"), ("grpo", "sft")]
    records = read_scenario_records(evaluation, "mmlu")
    found = dict(scenario_differences(evaluation, ("mmlu", 5), records))
    row = found["sft", "base"]
    scores = [
        {one.id: one.scores for one in records[m] if not one.failed and not one.perturbation} for m in ("sft", "base")
    ]
    shared = [key for key in scores[0] if key in scores[1]]
    expected = np.mean([scores[0][key]["exact_match"] - scores[1][key]["exact_match"] for key in shared])
    assert row.value.mean == pytest.approx(expected)
    assert row.value.n == len(shared) == 69  # one request failed
    evaluation.manifest["baseline"] = "grpo"
    evaluation.models += ["a", "b"]
    assert compared_pairs(evaluation) == [(one, "grpo") for one in ("base", "sft", "a", "b")]


def test_a_difference_that_is_not_significant_after_correction_is_not_coloured(sections):
    one = sections.differences[0].rows[0]
    rows = [replace(one, p=0.04, higher_is_better=True), *[replace(one, p=0.5)] * 9]
    pair = replace(sections.differences[0], rows=rows)
    assert [row.level for row in apply_holm([pair])[0].rows] == [0] * 10
    assert apply_holm([replace(pair, rows=rows[:1])])[0].rows[0].level == 2


def test_a_reliability_diagram_plots_the_confidence_of_the_records(folder):
    evaluation = read_evaluation_data(folder)
    sure = confidences_by_model(evaluation, ("mmlu", 5), read_scenario_records(evaluation, "mmlu"))
    assert set(sure) == set(MODELS)
    own = [one for one in read_records(folder, "base", "mmlu") if not one.failed and not one.perturbation]
    assert sure["base"][0] == [one.confidence for one in own]
    assert sure["base"][1] == [one.scores["exact_match"] for one in own]
    chart = reliability_diagram(evaluation, ("mmlu", 5), sure)
    assert len([mark for mark in chart.markers if mark.model_index == 0]) == 10
    assert reliability_diagram(evaluation, ("gsm8k", 0), {}) is None
    written = {"base": [InstanceRecord(str(i), "", ("a",), {"exact_match": 0.3}, confidence=0.1) for i in range(40)]}
    assert (
        confidences_by_model(evaluation, ("gsm8k", 0), written) == {}
    )  # no log-probabilities of choices, no calibration


def test_the_browser_holds_every_record_exactly(folder):
    evaluation = read_evaluation_data(folder)
    for scenario in SCENARIOS:
        records = read_scenario_records(evaluation, scenario)
        data = unpacked(pack_scenario(evaluation, scenario, records))
        prompts = prompts_of(data)
        assert len(data["answers"]) == sum(map(len, records.values()))
        for row in data["answers"]:
            question = data["questions"][row["q"]]
            key = (question["id"], question.get("perturbation", ""), question.get("shots", 0), question.get("trial", 0))
            record = next(one for one in records[evaluation.models[row["m"]]] if one.pairing_key == key)
            assert prompts[row["p"]] == record.prompt
            assert tuple(row.get("outputs", ())) == record.outputs
            assert row.get("scores", {}) == record.scores
            assert row.get("failed", "") == record.failed
            assert row.get("judgement", {}) == record.judgement


@pytest.mark.parametrize("texts", [["é😀a", "é😀b", "é😁"], ["", "x", ""], ["\ud83d", "\ud83d\ude00", "a\u2028b"]])
def test_prompts_of_any_characters_survive_packing(folder, texts):
    evaluation = read_evaluation_data(folder)
    records = {
        "base": [InstanceRecord(str(at), text, scores={"exact_match": math.nan}) for at, text in enumerate(texts)]
    }
    chunk = pack_scenario(evaluation, "mmlu", records)
    data = unpacked(chunk)
    found = prompts_of(data)
    joined = [text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass") for text in texts]
    assert [found[row["p"]] for row in data["answers"]] == joined
    assert data["answers"][0]["scores"] == {"exact_match": None}


def test_the_common_prefix_of_all_prompts_is_marked(folder):
    evaluation = read_evaluation_data(folder)
    data = unpacked(pack_scenario(evaluation, "mmlu", read_scenario_records(evaluation, "mmlu")))
    assert data["leads"]["0/5/0"] == len(PROMPT_PREFIX)


def test_a_page_over_the_limits_says_what_it_leaves_out(folder):
    small = build_sections(read_evaluation_data(folder), max_records=90)
    assert sum(len(unpacked(chunk)["answers"]) for chunk in small.chunks) <= 90
    assert all(chunk.shown >= 1 and chunk.omitted == chunk.questions - chunk.shown > 0 for chunk in small.chunks)
    assert all(len(unpacked(chunk)["answers"]) == 3 * chunk.shown for chunk in small.chunks)  # every model of each
    whole = build_sections(read_evaluation_data(folder))
    assert [chunk.omitted for chunk in whole.chunks] == [0] * len(SCENARIOS)
    assert build_sections(read_evaluation_data(folder), max_bytes=20_000).chunks[0].omitted > 0


def test_max_min_fair_shares_use_the_total_and_are_fair():
    assert max_min_fair_shares([10, 100, 100], 90) == [10, 40, 40]
    assert max_min_fair_shares([10, 20], 90) == [10, 20]
    assert max_min_fair_shares([], 5) == []


def test_hostile_text_is_shown_and_never_executed(tmp_path):
    hostile = f"{HOSTILE_TEXT}</script><img src=x onerror=alert(1)>{'{%'} raw"
    models = {"base": 0.3, f"evil{hostile}": 0.6}
    folder = write_evaluation(tmp_path / "e", models=models, scenarios=("mmlu", f"odd{hostile}"), n=8, hostile=hostile)
    text = write_report(folder).read_text(encoding="utf-8")
    page = Page(text)
    assert page.mismatched == []
    assert not any(tag == "img" for tag, _ in page.elements)
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    assert hostile.split("\u2028")[0] in "".join(page.texts)
    scripts = [attrs for tag, attrs in page.elements if tag == "script"]
    assert len([one for one in scripts if "type" not in one]) == 1  # the page's own; the others are data
    policy = next(attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv"))
    assert "unsafe-inline" not in policy.split("script-src")[1]
    assert "default-src 'none'" in policy
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert "\n<" not in markdown
    assert re.search(r"(?<!\\)<script", markdown) is None
    assert "\\<script>" in markdown
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in markdown.split("\n") if "by subject" in line} == {0}


def test_markdown_has_the_tables(folder):
    write_report(folder)
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "# holistic" in text
    for said in (
        "## Accuracy",
        "## Efficiency",
        "## Mean win rates",
        "## Paired differences",
        "## Worst case",
        "| Gap |",
    ):
        assert said in text, said
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert all(len({row.count(" | ") for row in table.splitlines()}) == 1 for table in tables)


def test_the_number_of_digits_follows_the_interval():
    assert decimals_for([Interval(0.5, (0.4, 0.6), 9)]) == 2
    assert decimals_for([Interval(0.5, (0.4997, 0.5003), 9)]) == 3
    assert decimals_for([Interval(0.0021, (0.0019, 0.0023), 9)]) == 5
    assert decimals_for([Interval(250.0, (230.0, 270.0), 9)]) == 0
    assert decimals_for([Interval(math.nan, (math.nan, math.nan), 0)]) == 3
    assert format_decimal(-0.0001, 2) == "0.00"
    assert format_decimal(0.02, 2, signed=True) == "+0.02"
    assert format_decimal(3.2e9, 0) == "3.2 G"
    assert format_decimal(None, 2) == format_decimal(math.nan, 2) == "–"


def test_axes_cover_their_values():
    for values in ([0.5, 0.5], [0.0, 0.0], [1e-9, 1e9], [-3, 7], [0.1, 0.11], [1e12, 2e12], [math.nan]):
        axis = axis_for(values, "x")
        assert axis.low < axis.high
        assert 2 <= len(axis.ticks) <= 9
        assert all(axis.low <= value <= axis.high for value in values if math.isfinite(value))
        assert all(0 <= axis.fraction(value) <= 1 for value, _ in axis.ticks)


def test_an_evaluation_without_instances_or_of_one_model_is_a_page_too(tmp_path):
    write_results(tmp_path, {"failed": [{"model": "m", "scenario": "s", "reason": "no data"}], "notes": ["a note"]},
                  [Result("m", "t", "f1", Interval(0.5, (math.nan, math.nan), 1), main=True)])  # fmt: skip
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert page.mismatched == []
    assert "s with m could not be run: no data" in page.text
    assert "a note" in page.text
    assert "0.5" in page.text
    assert "Instances" not in page.text


def test_damage_is_reported_and_the_rest_is_shown(tmp_path):
    folder = write_evaluation(tmp_path / "e", scenarios=("ifeval",), n=5)
    path = instances_path(folder, "sft", "ifeval")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]) + '{"id": "3", "outp')
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert "line 4: not a record" in page.text
    (folder / "results.json").write_text('[{"model": "a"}]')
    with pytest.raises(UserError, match=r"results\.json: not the results of an evaluation"):
        write_report(folder)
    (folder / "results.json").write_text("[]")
    with pytest.raises(UserError, match="nothing to report"):
        write_report(folder)


def test_a_recipes_page_holds_its_evaluation_too(tmp_path):
    folder = write_recipe(tmp_path / "demo")
    write_evaluation(folder / "evaluation", scenarios=("world_tasks",), n=6)
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    for said in ("Training", "Proxy and gold", "Evaluation", "world_tasks", "Instances"):
        assert said in page.text
    assert page.mismatched == []
    names = [attrs["id"] for _, attrs in page.elements if attrs.get("id")]
    assert len(names) == len(set(names))
    (folder / "evaluation" / "results.json").write_text("{")
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert "Instances" not in page.text
    assert "not valid JSON" in page.text
