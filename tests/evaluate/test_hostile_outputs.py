"""Hostile outputs x all verifiers, metrics and readers: no exception leaves, and no work is unbounded."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.registry import all_metrics
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.evaluate.results.result_files import record_to_json
from zhenlong.evaluate.run import score_outcomes as scoring
from zhenlong.evaluate.run.aggregate import make_record
from zhenlong.evaluate.run.score_outcomes import score_outcomes
from zhenlong.inference.requests import GeneratedOutput
from zhenlong.records import Message, Task
from zhenlong.verify import check_math, check_regex, is_refusal, judge_parsing, math_verify_check, verify
from zhenlong.verify.answer_text import strip_reasoning
from zhenlong.verify.bounded_regex import RegexTooSlow
from zhenlong.verify.code_extraction import EXTRACTION_MODES, extract_program
from zhenlong.verify.math_verify_check import MathCheckFailed

ODD = [
    "", " ", "\x00", "\ud83d", "\ude00 \ud83d", "9" * 5000, "#### " + "9" * 5000, "\\boxed{" + "9" * 5000 + "}",
    "\\boxed{" * 990 + "}" * 990, "[" * 990 + "]" * 990, "{" * 990 + "}" * 990, "(" * 990, "Decimal('sNaN')", "NaN",
    "-inf", "1e99999999", "[[" + "9" * 5000 + "]]", "Rating: " + "9" * 5000 + "/10", "[[A]]" * 3000, "<think>" * 500,
    "</think>" * 500, "```" * 999, "```python\n" * 500, "~~~\n" * 500, "*" * 5000, "<<" * 2000, "\n" * 3000, "[" * 3000,
    "a" * 3000, "A or B " * 500, "\u202e\u0000\ufffd", "١٢٣", "(A)" * 1000, '{"name": ' * 500, "f(a=" * 500,
    "\\frac" * 500,
    "\\text{ " * 500, "$" * 999, "def f():\n" + " " * 3000, "I cannot " * 500,
]  # fmt: skip
TEXTS = (
    st.sampled_from(ODD)
    | st.text(max_size=40)
    | st.text(st.characters(categories=["Cs", "Nd", "Sm", "Ps"]), max_size=20)
)
HOSTILE = st.builds(lambda first, second: first + second, TEXTS, TEXTS)
PROMPT = (Message("user", "How much?"),)
TASKS = [
    Task(PROMPT, "4", "exact"),
    Task(PROMPT, "4", "regex", {"pattern": r"(\d+)"}),
    Task(PROMPT, "4", "regex", {"pattern": r"(a+)+$", "full": True}),
    Task(PROMPT, "", "tool_call", {"functions": [{"name": "f", "parameters": {"properties": {"a": {"type": "float"}}}}],
                                   "ground_truth": [{"f": {"a": [1.0]}}]}),
    Task(PROMPT, "", "instructions", {
        "instruction_id_list": ["keywords:existence", "detectable_format:json_format", "detectable_format:title",
                                "detectable_format:number_bullet_lists", "detectable_content:number_placeholders",
                                "detectable_format:number_highlighted_sections", "detectable_content:postscript",
                                "length_constraints:number_sentences", "combination:two_responses"],
        "kwargs": [{"keywords": ["(x+x+)+y"]}, {}, {}, {"num_bullets": 2}, {"num_placeholders": 1},
                   {"num_highlights": 1}, {"postscript_marker": "P.S."},
                   {"relation": "at least", "num_sentences": 2}, {}],
        "loose": True,
    }),
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def quick_limits():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zhenlong.verify.bounded_regex.REGEX_SECONDS", 0.2)
        patch.setattr(scoring, "METRIC_SECONDS", 2.0)
        yield


@settings(max_examples=20, deadline=None)
@given(HOSTILE)
def test_every_verifier_gives_a_score(text):
    for task in TASKS:
        with contextlib.suppress(RegexTooSlow):  # no verdict: the answer is failed
            assert 0.0 <= verify(task, text) <= 1.0


@settings(max_examples=20, deadline=None)
@given(HOSTILE)
def test_every_reader_reads_or_reads_nothing(text):
    for read in (judge_parsing.read_pair, judge_parsing.read_winner, judge_parsing.read_graded_winner,
                 judge_parsing.read_rating):  # fmt: skip
        found = read(text)
        assert (found.value is None) == bool(found.reason)
    judge_parsing.parse_rating_fastchat(text)
    judge_parsing.parse_winner_fastchat(text)
    judge_parsing.read_label(text, ["full_compliance", "full_refusal"])
    judge_parsing.read_arena_label(text, ["A>B"])
    assert isinstance(is_refusal(text), bool)
    assert len(strip_reasoning(text)) <= len(text)
    for mode in EXTRACTION_MODES:
        assert isinstance(extract_program(text, mode, prompt="def f(x):\n", entry_point="f"), str)


def outcome(id_, text):
    options = tuple(Reference(one, one == "4") for one in ("4", "5"))
    data = {"functions": [], "ground_truth": [], "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    return Outcome(
        Instance(id_, "How much?", options, data=data), (GeneratedOutput(text, -1.0, 3),), prompt="How much?"
    )


@settings(max_examples=8, deadline=None)
@given(HOSTILE)
def test_a_hostile_answer_changes_no_other_answers_score(text):
    for metric in all_metrics().values():
        if metric.kind != "instance" or metric.name in ("toxicity", "math_verify"):  # models, and seconds: below
            continue
        bound = [(metric, metric.function)]
        try:
            alone = score_outcomes(bound, [outcome("good", "4")], None).scored
        except UserError:
            alone = []
        if not alone:
            continue  # needs other data
        found = score_outcomes(bound, [outcome("odd", text), outcome("good", "4")], None)
        assert {one.outcome.instance.id: one.scores for one in found.scored}["good"] == alone[0].scores
        assert all(not one.failed or one.failed.startswith(f"metric {metric.name}: ") for one in found.outcomes)
        for one in found.outcomes:
            assert record_to_json(make_record(one, None))


@pytest.mark.parametrize("text", ["\\boxed{9^{9^{9^9}}}", "\\boxed{99999999!}", "\\boxed{" + "9" * 5000 + "}",
                                  "\\boxed{" + "(" * 990 + "}", "\ud83d", "1" * 1_000_000])  # fmt: skip
def test_maths_that_does_not_end_is_wrong_or_has_no_verdict(text, monkeypatch):
    monkeypatch.setattr(math_verify_check, "TIMEOUT_SECONDS", 1)
    monkeypatch.setattr(math_verify_check, "CHECK_SECONDS", 2.0)
    with contextlib.suppress(MathCheckFailed):
        assert check_math(text, "4") == 0.0


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|aa)+$", r"(.*a){14}$"])
def test_a_pattern_that_backtracks_has_a_verdict_or_none_but_ends(pattern):
    with contextlib.suppress(RegexTooSlow):
        assert check_regex("a" * 60 + "b", "", pattern=pattern) == 0.0


def test_a_pattern_beyond_the_limit_has_no_verdict():
    with pytest.raises(RegexTooSlow, match=re.escape(repr(r"(a|aa)+$"))):
        check_regex("a" * 60 + "b", "", pattern=r"(a|aa)+$")


@pytest.mark.parametrize("pattern", ["(" * 5000, "(", "a{99999999999999999999}", "[z-a]"])
def test_a_pattern_that_is_none_is_one_line(pattern):
    with pytest.raises(UserError, match="not a regular expression"):
        check_regex("text", "", pattern=pattern)
