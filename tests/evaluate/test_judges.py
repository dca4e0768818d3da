"""Judges: verdicts are parsed or counted as unparsed, prompts contain their values, games run in both orders."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from zhenlong.errors import UserError
from zhenlong.evaluate.judges.pairwise_games import (
    PairwiseGame,
    first_position_wins,
    game_from_json,
    longer_output_wins,
    order_consistency,
)
from zhenlong.evaluate.judges.prompts import (
    ALPACA_EVAL,
    ARENA_CREATIVE,
    ARENA_HARD,
    HARM,
    MT_BENCH,
    REFUSAL,
    fill_template,
    read_chatml_prompt,
    read_fastchat_prompts,
)
from zhenlong.evaluate.judges.verdict_parsing import first_output_probability
from zhenlong.evaluate.metrics.alpaca_eval import alpaca_eval, length_controlled, model_shown_first
from zhenlong.evaluate.metrics.arena_hard import arena_hard, judge_preferences
from zhenlong.evaluate.metrics.mt_bench import mt_bench, mt_bench_pairwise, mt_bench_score, mt_bench_win_rate
from zhenlong.evaluate.metrics.refusal import harm_judged, xstest_judged
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.evaluate.run.aggregate import aggregate
from zhenlong.evaluate.run.recorded_outputs import read_recorded_outputs
from zhenlong.evaluate.scenarios.instances import load_instances
from zhenlong.evaluate.scenarios.scenario import get_scenario
from zhenlong.inference.requests import GeneratedOutput
from zhenlong.inference.verdicts import read_output, unread_notes, unread_record, unread_verdicts
from zhenlong.verify.judge_parsing import read_rating


class Scripted:
    """A judge whose response is a function of the conversation's text."""

    name = "scripted"

    def __init__(self, answer):
        self.answer, self.asked, self.max_tokens = answer, [], []

    def __call__(self, conversations, *, max_tokens=1024, temperature=0.0, seed=0, top_log_probs=0):
        self.asked += conversations
        self.max_tokens.append(max_tokens)
        said = [self.answer("\n".join(message.content for message in one)) for one in conversations]
        return [one if isinstance(one, GeneratedOutput) else GeneratedOutput(one) for one in said]


def outcome(id="0", text="answer", turns=(), question="question", recorded=None, category="writing", **data):
    instance = Instance(id, question, groups={"category": category}, turns=("and then?",) * len(turns), data=data)
    return Outcome(instance, (GeneratedOutput(text, turns=turns),), metadata=recorded or {})


def test_a_preference_is_the_normalised_probability_of_the_first_name():
    top = ({"m": math.log(0.6), "M": math.log(0.2), "The": math.log(0.1)}, {"m": 0.0})
    assert first_output_probability(GeneratedOutput("m", top_log_probs=top)) == pytest.approx(0.75)
    assert first_output_probability(GeneratedOutput("M", top_log_probs=({"M": -0.1},))) == 0.0
    assert first_output_probability(GeneratedOutput("The", top_log_probs=({"The": -0.1},))) is None
    assert [first_output_probability(GeneratedOutput(text)) for text in ("m", "M", "both")] == [1.0, 0.0, None]


def test_a_reasoning_judge_prefers_what_its_reply_says_after_the_trace():
    top = ({"<think>": -0.1, "m": -5.0},)
    outputs = [GeneratedOutput(f"<think>m or M?</think>{name}", top_log_probs=top) for name in ("M", "Model m")]
    assert [first_output_probability(one) for one in outputs] == [0.0, 1.0]
    assert first_output_probability(GeneratedOutput("<think>m", top_log_probs=top)) is None


def test_what_was_not_read_is_counted_by_reason_with_an_example():
    outputs = [
        GeneratedOutput("Rating: [[3]]"),
        GeneratedOutput("It is good, because", truncated=True),
        GeneratedOutput("<think>[[9]]"),
        GeneratedOutput("[[44]]"),
        GeneratedOutput("[[33]]"),
        GeneratedOutput(""),
    ]
    verdicts = [read_output(one, read_rating) for one in outputs]
    found = unread_verdicts(
        [unread_record([verdict], [one.text]) for verdict, one in zip(verdicts, outputs, strict=True)]
    )
    assert (found["verdicts"], found["unread"]) == (6, 5)
    assert found["reasons"] == {
        "outside the scale": {"count": 2, "example": "[[44]]"},
        "cut off at the token limit": {"count": 1, "example": "It is good, because"},
        "reasoning trace not closed": {"count": 1, "example": "<think>[[9]]"},
        "no reply (the request failed or did not fit)": {"count": 1, "example": ""},
    }
    assert unread_notes("m", "s", found)[0].startswith("m, s: 5 of 6 verdicts cannot be read (outside the scale 2; ")
    assert unread_notes("m", "s", unread_verdicts([unread_record(verdicts[:1], ["[[3]]"])])) == []
    assert unread_verdicts([{}]) == {}


def test_inserted_values_are_never_expanded():
    assert fill_template("{a} {b} {c}", {"a": "{b}", "b": "1"}) == "{b} 1 {c}"


def test_every_prompt_uses_the_values_it_is_given():
    needed = {
        "single-v1": {"question", "answer"},
        "single-math-v1": {"question", "answer", "ref_answer_1"},
        "pair-v2": {"question", "answer_a", "answer_b"},
        "pair-math-v1": {"question", "answer_a", "answer_b", "ref_answer_1"},
    }
    both = {"question_1", "question_2"}
    needed |= {f"{name}-multi-turn": both for name in list(needed)}
    assert set(MT_BENCH) == set(needed)
    for name, prompt in MT_BENCH.items():
        assert all(f"{{{value}}}" in prompt.user for value in needed[name]), name
        form = "[[rating]]" if name.startswith("single") else "[[C]]"
        assert form in prompt.system + prompt.user
        assert not {"{focus}", "{criteria}"} & set(prompt.system.split() + prompt.user.split())
    for prompt in (ARENA_HARD, ARENA_CREATIVE):
        assert all(label in prompt.system for label in ("[[A>>B]]", "[[A>B]]", "[[A=B]]", "[[B>A]]", "[[B>>A]]"))
        assert "{own}" not in prompt.system
    assert "your own answer" in ARENA_HARD.system
    assert "your own answer" not in ARENA_CREATIVE.system
    assert "{output_1}" in ALPACA_EVAL.user
    assert all("{response}" in prompt.user for prompt in (REFUSAL, HARM))


def test_official_prompts_are_read_from_their_files(tmp_path):
    (tmp_path / "p.txt").write_text(
        '<|im_start|>system\nS\n<|im_end|>\n<|im_start|>user\n{"x": """{instruction}"""}\n<|im_end|>'
    )
    messages = read_chatml_prompt(str(tmp_path / "p.txt")).messages({"instruction": "do {this}"})
    assert [(one.role, one.content) for one in messages] == [("system", "S"), ("user", '{"x": """do {this}"""}')]
    (tmp_path / "j.jsonl").write_text('{"name": "single-v1"}')
    with pytest.raises(UserError, match="line 1"):
        read_fastchat_prompts(str(tmp_path / "j.jsonl"))
    with pytest.raises(UserError, match="cannot be read"):
        read_chatml_prompt(str(tmp_path / "none.txt"))


def test_position_bias_is_detected():
    games = [PairwiseGame(first, float(first), lengths=(5, 9)) for first in (True, False)]
    assert order_consistency(*games) == 0.0
    assert first_position_wins(games) == [1.0, 1.0]
    assert longer_output_wins(games) == [0.0, 1.0]
    fair = [PairwiseGame(first, 1.0, lengths=(9, 5)) for first in (True, False)]
    assert order_consistency(*fair) == 1.0
    assert first_position_wins(fair) == [1.0, 0.0]
    assert longer_output_wins(fair) == [1.0, 1.0]
    assert order_consistency(fair[0], PairwiseGame(False, None)) is None
    assert first_position_wins([PairwiseGame(True, 0.5), PairwiseGame(True, None)]) == []
    assert longer_output_wins([PairwiseGame(True, 1.0, lengths=(5, 5)), PairwiseGame(True, 1.0)]) == []
    assert game_from_json(json.loads(json.dumps(games[0].as_json()))) == games[0]


def alpaca(number: int, text: str, **more) -> Outcome:
    return outcome(str(number), text, question=f"instruction {number}", baseline=("the baseline",), **more)


def test_alpaca_eval_does_not_depend_on_the_order_of_outputs():
    asked = [alpaca(number, "the model!") for number in range(30)]
    assert 5 < sum(model_shown_first(one.instance.input) for one in asked) < 25

    def likes_the_model(text: str) -> GeneratedOutput:
        first = text.index("the model!") < text.index("the baseline")
        return GeneratedOutput(
            "m", top_log_probs=({"m": math.log(0.8 if first else 0.2), "M": math.log(0.2 if first else 0.8)},)
        )

    scored = alpaca_eval(asked, Scripted(likes_the_model))
    assert all(one.scores["win_rate"] == pytest.approx(80) for one in scored)
    assert all(one.scores["judge_unparsed"] == 0 for one in scored)

    position_only = alpaca_eval(asked, Scripted(lambda text: "m"))
    assert {one.scores["win_rate"] for one in position_only} == {0.0, 100.0}


def test_alpaca_eval_shows_the_instruction_and_counts_unparsed_verdicts():
    judge = Scripted(lambda text: "neither")
    (one,) = alpaca_eval([alpaca(3, "hello")], judge)
    assert one.scores == {"judge_unparsed": 1.0}
    assert all(part in judge.asked[0][-1].content for part in ("instruction 3", "hello", "the baseline"))
    with pytest.raises(UserError, match=r"instance 0.*--baseline_outputs"):
        alpaca_eval([outcome()], judge)


def test_alpaca_eval_takes_recorded_preferences():
    given = [2, 1, 0, 1.5, 1.25, None]
    scored = alpaca_eval([alpaca(i, "x", recorded={"preference": value}) for i, value in enumerate(given)], None)
    assert [one.scores.get("win_rate") for one in scored] == [100, 0, 50, 50, 25, None]
    assert scored[-1].scores["judge_unparsed"] == 1.0
    for wrong in (0.5, 3, "2", True):
        with pytest.raises(UserError, match="instance 0: preference"):
            alpaca_eval([alpaca(0, "x", recorded={"preference": wrong})], None)
    with pytest.raises(UserError, match=r"instance 0.*preference"):
        alpaca_eval([alpaca(0, "x")], None)


def test_who_is_preferred_by_place_is_said_only_where_the_order_is_known():
    rows = [alpaca(i, "xx", recorded={"preference": 2}) for i in range(12)]
    assert "judge_prefers_first" not in judge_preferences(alpaca_eval(rows, None))
    assert judge_preferences(alpaca_eval(rows, Scripted(lambda _: "m")))["judge_prefers_first"].mean == 1.0


def test_the_length_controlled_rate_needs_ten_verdicts_and_the_baseline():
    rows = [alpaca(i, "x" * (i + 1), recorded={"preference": 1 + i % 2}) for i in range(12)]
    found = length_controlled(alpaca_eval(rows, None))
    assert 20 < found["length_controlled_win_rate"].mean < 80
    assert length_controlled(alpaca_eval(rows[:9], None)) == {}
    assert length_controlled(alpaca_eval(rows, None), length_effect="fitted") != found
    with pytest.raises(UserError, match="published or fitted"):
        length_controlled(alpaca_eval(rows, None), length_effect="none")
    bare = [replace(one, instance=replace(one.instance, data={})) for one in rows]
    assert length_controlled(alpaca_eval(bare, None)) == {}


def as_meant(scores):
    """The scores without those by FastChat's own reading."""
    return {name: value for name, value in scores.items() if not name.startswith("fastchat_")}


def test_fastchats_reading_stands_beside_the_last_verdict():
    asked = [outcome("a", "one", ("two",), baseline=("base", "base"))]
    (rated,) = scored = mt_bench(asked, Scripted(lambda _: "A perfect answer is [[10]]. Rating: [[4]]"))
    assert rated.scores == {
        "turn_1": 4.0, "turn_2": 4.0, "fastchat_turn_1": 10.0, "fastchat_turn_2": 10.0, "judge_unparsed": 0.0,
    }  # fmt: skip
    assert {name: value.mean for name, value in mt_bench_score(scored).items()} == {
        "mt_bench": 4.0,
        "fastchat_mt_bench": 10.0,
    }
    pairs = mt_bench_pairwise(asked, Scripted(lambda _: "It is not [[A]]. Verdict: [[B]]"))
    assert [game["verdict"] for game in pairs[0].judgement["games"]] == ["B"] * 4
    assert pairs[0].judgement["fastchat_turns"] == [0.5, 0.5]
    words = mt_bench_pairwise(asked, Scripted(lambda _: "Assistant A is better."))
    assert words[0].scores["judge_unparsed"] == 0.0
    assert words[0].judgement["fastchat_turns"] == [None, None]


def test_the_judges_token_limit_reaches_every_judged_metric():
    asked = [outcome("a", "one", baseline=("base",), label="safe")]
    for metric in (mt_bench, mt_bench_pairwise, arena_hard, alpaca_eval, xstest_judged, harm_judged):
        judge = Scripted(lambda _: "?")
        metric(asked, judge, judge_max_tokens=7000)
        assert judge.max_tokens == [7000], metric


def test_mt_bench_is_the_mean_over_all_parsed_turns():
    asked = [outcome("a", "one", ("two",)), outcome("b", "three", ("four",))]
    ratings = {"one": "[[10]]", "two": "[[4]]", "three": "[[1]]", "four": "no idea"}

    def answer(text: str) -> str:
        return ratings[max(ratings, key=text.rfind)]  # the answer shown last is the one that is judged

    scored = mt_bench(asked, Scripted(answer))
    assert as_meant(scored[0].scores) == {"turn_1": 10.0, "turn_2": 4.0, "judge_unparsed": 0.0}
    assert as_meant(scored[1].scores) == {"turn_1": 1.0, "judge_unparsed": 0.5}
    assert mt_bench_score(scored)["mt_bench"].mean == 5.0  # of three ratings; the mean of the questions' means is 4
    assert mt_bench_score(mt_bench(asked, Scripted(lambda _: "?"))) == {}


def test_mt_bench_shows_the_second_turn_with_the_first_and_mathematics_with_its_reference():
    judge = Scripted(lambda _: "[[5]]")
    mt_bench([outcome("a", "one", ("two",), category="math", reference_answers=("ref 1", "ref 2"))], judge)
    first, second = ("\n".join(message.content for message in one) for one in judge.asked)
    assert "question" in first
    assert "ref 1" in first
    assert "two" not in first
    assert all(part in second for part in ("question", "and then?", "one", "two", "ref 1", "ref 2"))
    with pytest.raises(UserError, match="reference_answer"):
        mt_bench([outcome("a", "one", category="coding")], judge)
    mt_bench([outcome("a", "one", category="writing")], judge)  # needs none


def test_mt_bench_takes_recorded_ratings_and_judgments():
    def of(**recorded):
        return as_meant(mt_bench([outcome("a", "one", ("two",), recorded=recorded)], None)[0].scores)

    assert of(scores=[8, -1]) == {"turn_1": 8.0, "judge_unparsed": 0.5}
    assert of(judgments=["[[3]]", "Rating: [[6.5]]"]) == {"turn_1": 3.0, "turn_2": 6.5, "judge_unparsed": 0.0}
    for wrong in ([8], 8, [8, 11], {"1": 8}):
        with pytest.raises(UserError, match="instance a"):
            of(scores=wrong)
    with pytest.raises(UserError, match="instance a: no scores or judgments"):
        of()


def test_recorded_verdicts_are_enough_and_null_counts_as_unparsed(rows):
    """As `zhenlong score` reads them: a mean of verdicts does not need the responses."""
    questions = rows("q.jsonl", *({"question_id": i, "category": "math", "turns": ["a", "b"]} for i in (1, 2)))
    built = get_scenario("mt_bench")
    instances = load_instances(built, data=questions)
    given = rows("o.jsonl", {"id": 1, "scores": [9, 6]}, {"id": 2, "scores": [3, None]})
    results, _ = aggregate(built, read_recorded_outputs(built, instances, given).outcomes, model="m")
    found = {one.measure: one.value for one in results if not one.group}
    assert (found["mt_bench"].mean, found["turn_2"].n, found["judge_unparsed"].mean) == (6.0, 1, 0.25)

    built = get_scenario("alpaca_eval")
    instances = load_instances(
        built, data=rows("a.jsonl", *({"instruction": f"{i}", "output": "long"} for i in (0, 1)))
    )
    given = rows("p.jsonl", {"id": 0, "preference": 2}, {"id": 1, "preference": None})
    scored = alpaca_eval(read_recorded_outputs(built, instances, given).outcomes, None)
    assert [one.scores.get("win_rate") for one in scored] == [100.0, None]
    assert "lengths" not in scored[0].judgement["games"][0]  # the response is not recorded


def test_a_pair_is_won_only_if_both_orders_agree():
    verdicts = {
        "win": [["A", "B"]], "loss": [["B", "A"]], "tie": [["C", "C"]], "first": [["A", "A"]], "half": [["A", "C"]],
        "unread": [["A", None]],
    }  # fmt: skip
    scored = mt_bench_pairwise([outcome(name, recorded={"verdicts": v}) for name, v in verdicts.items()], None)
    assert [one.judgement["turns"] for one in scored] == [[1.0], [0.0], [0.5], [0.5], [0.5], [None]]
    assert [one.scores.get("judge_consistency") for one in scored] == [1.0, 1.0, 1.0, 0.0, 0.0, None]
    found = {name: value.mean for name, value in mt_bench_win_rate(scored).items()}
    assert {name: found[f"fastchat_{name}"] for name in as_meant(found)} == as_meant(found)  # they have no wording
    assert as_meant(found) == pytest.approx({"win_rate": 20, "loss_rate": 20, "win_rate_adjusted": 50})
    with pytest.raises(UserError, match="verdicts"):
        mt_bench_pairwise([outcome(recorded={"verdicts": [["A", "D"]]})], None)


def test_pairwise_judging_swaps_the_answers():
    def likes_ours(text: str) -> str:
        last_ours, last_theirs = text.rfind("ours"), text.rfind("theirs")
        return "[[B]]" if last_ours > last_theirs else "[[A]]"

    asked = [outcome("a", "ours 1", ("ours 2",), baseline=("theirs 1", "theirs 2"))]
    judge = Scripted(likes_ours)
    (one,) = mt_bench_pairwise(asked, judge)
    assert one.judgement["turns"] == [1.0, 1.0]
    assert len(judge.asked) == 4
    (one,) = mt_bench_pairwise(asked, Scripted(lambda _: "[[A]]"))
    assert one.judgement["turns"] == [0.5, 0.5]
    assert one.scores["judge_consistency"] == 0.0


@pytest.fixture
def rows(tmp_path):
    def write(name: str, *given) -> str:
        path = tmp_path / name
        path.write_text("\n".join(json.dumps(row) for row in given), encoding="utf-8")
        return str(path)

    return write


def test_rows_of_the_judged_sets_are_read_in_their_upstream_forms(rows):
    data = rows("a.jsonl", {"instruction": "Do it.", "dataset": "koala", "output": "Done.", "generator": "g"})
    (one,) = load_instances(get_scenario("alpaca_eval"), data=data)
    assert (one.input, one.data["baseline"], dict(one.groups)) == ("Do it.", ("Done.",), {"dataset": "koala"})

    data = rows("m.jsonl", {"question_id": 81, "category": "writing", "turns": ["One?", "Two?"]})
    (one,) = load_instances(get_scenario("mt_bench"), data=data)
    assert (one.id, one.input, one.turns) == ("81", "One?", ("Two?",))
    hub = {"prompt_id": 7, "category": "math", "prompt": ["1?", "2?"], "reference": ["r", "s"]}
    (one,) = load_instances(get_scenario("mt_bench"), data=rows("h.jsonl", hub))
    assert (one.id, one.turns, dict(one.data)) == ("7", ("2?",), {})

    for name in ("arena_hard_v01", "arena_hard_v2"):
        (one,) = load_instances(get_scenario(name), data=rows("q.jsonl", {"uid": "u", "category": "c", "prompt": "P"}))
        assert (one.id, one.input, dict(one.groups)) == ("u", "P", {"category": "c"})
    old = {"question_id": "q", "category": "c", "turns": [{"content": "P"}]}
    assert load_instances(get_scenario("arena_hard_v01"), data=rows("o.jsonl", old))[0].input == "P"

    for wrong in ({"question_id": 1, "category": "x", "turns": []}, {"category": "x", "turns": ["a"]}):
        with pytest.raises(UserError, match=r"w\.jsonl, line 1"):
            load_instances(get_scenario("mt_bench"), data=rows("w.jsonl", wrong))


def test_answers_from_other_files_are_joined_by_id(rows):
    data = rows("q.jsonl", *({"question_id": i, "category": "math", "turns": ["a", "b"]} for i in (1, 2, 3)))
    references = rows("r.jsonl", {"question_id": 2, "choices": [{"index": 0, "turns": ["x", "y"]}]})
    baseline = rows(
        "b.jsonl",
        {"question_id": 3, "choices": [{"turns": [{"content": "u"}, {"content": "v"}]}]},
        {"id": "1", "outputs": ["s", "t"]},
    )
    built = replace(get_scenario("mt_bench_pairwise"), reference_answers=references, baseline_outputs=baseline)
    first, second, third = load_instances(built, data=data)
    assert first.data == {"baseline": ("s", "t")}
    assert second.data == {"reference_answers": ("x", "y")}
    assert third.data == {"baseline": ("u", "v")}
    v2 = rows("v2.jsonl", {"uid": "u", "messages": [{"role": "user", "content": "p"},
                                                    {"role": "assistant", "content": {"answer": "z"}}]})  # fmt: skip
    arena = replace(get_scenario("arena_hard_v2"), baseline_outputs=v2)
    (one,) = load_instances(arena, data=rows("a.jsonl", {"uid": "u", "category": "c", "prompt": "P"}))
    assert one.data["baseline"] == ("z",)
    with pytest.raises(UserError, match="no answer matches an instance"):
        load_instances(arena, data=rows("c.jsonl", {"uid": "other", "category": "c", "prompt": "P"}))
    broken = replace(built, baseline_outputs=rows("x.jsonl", {"question_id": 1, "text": "?"}))
    with pytest.raises(UserError, match=r"x\.jsonl, line 1"):
        load_instances(broken, data=data)


@pytest.mark.real_data
def test_mt_bench_of_the_repository_is_asked_with_its_own_prompts(datasets_folder):
    folder = datasets_folder / "mt_bench"
    built = replace(get_scenario("mt_bench"), reference_answers=str(folder / "reference_answer" / "gpt-4.jsonl"))
    instances = load_instances(built, data=str(folder / "question.jsonl"))
    assert len(instances) == 80
    assert all(len(one.turns) == 1 for one in instances)
    referenced = [one for one in instances if "reference_answers" in one.data]
    assert {one.groups["category"] for one in referenced} == {"math", "reasoning", "coding"}
    assert len(referenced) == 30
    assert set(dict(built.adapter.temperatures)) == {one.groups["category"] for one in instances}
    judge = Scripted(lambda text: "Rating: [[7]]")
    answers = [Outcome(one, (GeneratedOutput("FIRST", turns=("SECOND",)),)) for one in instances]
    prompts = str(folder / "judge_prompts.jsonl")
    assert mt_bench_score(mt_bench(answers, judge, prompts=prompts))["mt_bench"].mean == 7.0
    texts = ["\n".join(message.content for message in one) for one in judge.asked]
    assert len(texts) == 160
    assert sum("SECOND" in text for text in texts) == 80
    assert not any("{answer" in text or "{ref_answer" in text or "{question" in text for text in texts)
    paired = [
        replace(one, instance=replace(one.instance, data={**one.instance.data, "baseline": ("B1", "B2")}))
        for one in answers
    ]
    judge = Scripted(lambda text: "[[A]]")
    assert mt_bench_win_rate(mt_bench_pairwise(paired, judge, prompts=prompts))["win_rate_adjusted"].mean == 50.0
    assert len(judge.asked) == 320


@pytest.mark.real_data
def test_own_and_official_prompts_request_the_same_format(datasets_folder):
    official = read_fastchat_prompts(str(datasets_folder / "mt_bench" / "judge_prompts.jsonl"))
    assert set(official) == set(MT_BENCH)
    for name, prompt in official.items():
        names = {part.split("}")[0] for part in prompt.user.split("{")[1:]}
        own = {part.split("}")[0] for part in MT_BENCH[name].user.split("{")[1:]}
        assert names == own, name
