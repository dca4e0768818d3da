"""Tables show the summary, and charts the metrics, in every output format."""

import io

import numpy as np
import pytest
from rich.console import Console
from synthetic_runs import interval

from zhenlong.report import summary_markdown, terminal_table
from zhenlong.report.cost_table import format_duration, format_si
from zhenlong.report.curves import MAX_POINTS, moving_mean, training_curves
from zhenlong.report.examples import compare_responses
from zhenlong.report.labels import FALL, NOT_SIGNIFICANT, RISE, format_measure, significance
from zhenlong.report.overoptimization import proxy_gold_scatter, reward_gains, training_rewards, verifier_note
from zhenlong.report.report_data import RunData
from zhenlong.report.summary_table import scalar_results, summary_table

MEASURED = {
    "gold_reward": interval(0.5, 0.02), "proxy_reward": interval(-0.4, 0.1), "accuracy": interval(0.55),
    "format_following": interval(0.6), "harmful_refused": interval(0.7), "benign_compliance": interval(1.0),
    "kl_from_sft": 1.234, "mean_response_tokens": 16.94, "truncated": 0.013,
}  # fmt: skip
GAIN = {"mean": 0.15, "ci95": [0.13, 0.17]}
SUMMARY = {
    "seconds": 1.0, "seed": 0, "reward_model": {"heldout_accuracy": interval(0.8, n=600), "n": 600},
    "models": {"base": MEASURED, "sft": MEASURED} | {
        name: MEASURED | {"gold_gain_over_sft": GAIN} for name in ("dpo", "ppo", "grpo")
    },
}  # fmt: skip


def run_of(metrics):
    return RunData("sft", "sft", "", {}, metrics, {}, [], {})


def test_the_terminal_table_fits_80_columns():
    console = Console(width=80, file=io.StringIO())
    console.print(terminal_table(SUMMARY))
    shown = console.file.getvalue()
    assert "…" not in shown
    for text in ("Benign compliance", "GRPO", "0.50±0.02", "−0.40±0.10", "55±5 %", "1.23", "+0.15±0.02*"):
        assert text in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_many_models_are_split_into_several_tables():
    console = Console(width=80, file=io.StringIO())
    names = [f"method_{number}" for number in range(11)]
    console.print(terminal_table({"models": {name: MEASURED | {"gold_gain_over_sft": GAIN} for name in names}}))
    shown = console.file.getvalue()
    assert "…" not in shown
    assert all(shown.count(name) == 1 for name in names[2:])
    assert shown.count("Gain over SFT") == 3


def test_markdown_is_a_table_of_as_many_columns_in_every_row():
    lines = [line for line in summary_markdown(SUMMARY).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 10
    assert {line.count("|") for line in lines} == {7}
    assert "| Gold reward | 0.50 [0.48 to 0.52]" in lines[2]
    assert "+0.15 [+0.13 to +0.17]" in lines[-1]
    assert "Reward model, held-out accuracy: 80.0 % (95 % interval 75.0 to 85.0 %; n = 600)" in summary_markdown(
        SUMMARY
    )
    assert summary_markdown({}) == "\n"


def test_markdown_is_not_broken_by_a_models_name():
    shown = summary_markdown({"models": {"a|b\nc": {"gold_reward": 0.5}}})
    assert "a\\|b c" in shown


def test_models_keep_the_summarys_order_and_gains_come_last():
    results = summary_table(
        {"models": {"zeta": {"gold_gain_over_sft": GAIN, "new": 1.0, "gold_reward": 0.5}, "alpha": {}}}
    )
    assert results.models == ["zeta", "alpha"]
    assert [row.key for row in results.rows] == ["gold_reward", "new", "gold_gain_over_sft"]
    assert results.rows[0].cells[1].mean == "–"


def test_scalar_results_are_everything_outside_the_table():
    facts = scalar_results(
        {"seed": 3, "models": {"a": {"x": 1}}, "sft": {"after": {"too_long": 4}, "perplexity": interval(2.0)}}
    )
    assert [(fact.label, fact.text) for fact in facts] == [("SFT, after, too long", "4"), ("SFT, perplexity", "2.00")]


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ([1, 2], RISE),
        ([-2, -1], FALL),
        ([-1, 1], NOT_SIGNIFICANT),
        ([0.0, 1], NOT_SIGNIFICANT),
        ([None, None], ""),
    ],
)
def test_a_gain_is_significant_only_if_its_interval_excludes_0(ends, said):
    assert significance({"mean": 0.1, "ci95": ends}) == said


def test_number_formats():
    assert format_measure(0.1234, "fraction") == "12.3 %"
    assert format_measure(0.012, "fraction", signed=True) == "+1.2 pp"
    assert format_measure(-0.0123) == "−0.012"
    assert format_measure(1234.5) == "1,234"
    assert format_measure(None) == "–"
    assert [format_duration(s) for s in (4.21, 75, 3725)] == ["4.2 s", "1 min 15 s", "1 h 2 min"]
    assert [format_si(999), format_si(1500), format_si(2e12, "FLOP"), format_si(512 * 2**20, "B", 1024.0)] == [
        "999", "1.5 k", "2 TFLOP", "512 MiB"]  # fmt: skip


def test_a_long_run_is_thinned_to_means_that_keep_its_mean():
    values = np.random.default_rng(0).normal(size=4 * MAX_POINTS)
    (curve,) = training_curves(run_of([{"step": i + 1, "loss": float(v)} for i, v in enumerate(values)]))
    assert len(curve.values) == MAX_POINTS
    assert np.mean(curve.values) == pytest.approx(values.mean(), abs=1e-4)
    assert curve.note == "each point is the mean of 4 steps"


def test_only_a_noisy_curve_gets_a_moving_mean():
    steps = range(1, 101)
    noise = np.random.default_rng(0).normal(size=100)
    run = run_of([{"step": s, "lr": 1e-3 / s, "loss": float(n)} for s, n in zip(steps, noise, strict=True)])
    curves = {curve.key: curve for curve in training_curves(run)}
    assert curves["lr"].smooth == []
    assert np.std(curves["loss"].smooth) < np.std(curves["loss"].values) / 2


def test_a_metric_logged_at_some_steps_is_plotted_at_those_steps():
    run = run_of([{"step": i, "loss": 1.0, **({"heldout": i / 10} if i % 10 == 0 else {})} for i in range(1, 31)])
    curve = {curve.key: curve for curve in training_curves(run)}["heldout"]
    assert (curve.steps, curve.values) == ([10, 20, 30], [1.0, 2.0, 3.0])


def test_the_moving_mean_of_a_line_is_the_line_away_from_the_ends_and_of_a_constant_the_constant():
    line = np.arange(20.0)
    assert moving_mean(line, 5)[2:-2] == pytest.approx(line[2:-2])
    assert moving_mean(np.full(7, 3.0), 5) == pytest.approx(3.0)


def test_examples_are_prompts_with_responses_of_all_models_one_per_family_first():
    def rows(numbers, text):
        return [
            {"prompt": [{"role": "user", "content": str(i)}], "response": text, "family": f"f{i // 10}"}
            for i in numbers
        ]

    examples = compare_responses({"a": rows([1, 2, 11, 12, 21], "x"), "b": rows([21, 12, 11, 2], "y")}, limit=4)
    assert [example.prompt[0].text for example in examples] == ["2", "11", "21", "12"]
    assert [said.text for said in examples[0].responses] == ["x", "y"]


def test_gains_over_sft_are_paired_by_prompt_in_any_order():
    def rows(golds, proxy):
        return [{"prompt": [{"content": str(i)}], "gold": gold, "proxy": proxy} for i, gold in golds]

    start = [(i, i / 10) for i in range(10)]
    better = [(i, gold + 0.1 + (i % 2) / 1000) for i, gold in reversed(start)]
    (gain,) = reward_gains({"base": rows(start, 9.0), "sft": rows(start, 0.0), "ppo": rows(better, 0.0)}, {})
    assert (gain.model, gain.gold, gain.gold_interval, gain.interpretation) == (
        "PPO",
        "+0.10",
        gain.gold_interval,
        "only gold rose",
    )
    assert reward_gains({"ppo": rows(better, 0.0)}, {}) == []


def test_only_a_model_trained_on_the_proxy_is_over_optimised():
    def rows(gold, proxy):
        return [
            {
                "prompt": [{"content": str(i)}],
                "gold": gold + i % 3 / 100,
                "proxy": proxy + i % 2 / 100,
                "correct": i % 2,
            }
            for i in range(20)
        ]

    def run(name, **config):
        return RunData(name, name, "", config, [], {}, [], {})

    runs = [run("ppo", reward="model:runs/a/rm + 2*verifier"), run("grpo", reward="verifier"), run("dpo")]
    rewards = training_rewards(runs)
    assert {name: one.text for name, one in rewards.items()} == {
        "ppo": "reward model + 2*verifier", "grpo": "verifier", "dpo": "preferences, no reward",
    }  # fmt: skip
    worse = {name: [{**row, "gold": row["gold"] - 0.2 - place / 999} for place, row in enumerate(rows(0.5, 2.0))]
             for name in ("ppo", "grpo", "dpo")}  # fmt: skip
    for rows_of_model in worse.values():
        for place, row in enumerate(rows_of_model):
            row["proxy"] += place / 999
    evaluations = {"sft": rows(0.5, 0.0)} | worse
    said = {one.model: one.interpretation for one in reward_gains(evaluations, {}, rewards)}
    assert said["PPO"] == "over-optimised: the proxy rose and gold fell"
    assert {said["GRPO"], said["DPO"]} == {"the proxy rose and gold fell"}
    value = {"mean": 1.0, "ci95": [0.9, 1.1]}
    summary = {"models": {name: {"proxy_reward": value, "gold_reward": value} for name in ("sft", "ppo", "grpo")}}
    scatter = proxy_gold_scatter(summary, rewards)
    assert [point["name"] for point in scatter["points"]] == ["SFT", "PPO"]
    assert proxy_gold_scatter(summary, {"grpo": rewards["grpo"]}) is None
    assert "r = " in verifier_note(evaluations, rewards)
    assert verifier_note(evaluations, {"dpo": rewards["dpo"]}) == ""
