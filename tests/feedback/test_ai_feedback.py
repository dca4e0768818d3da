"""The AI labeller: both orders, strengths, what cannot be read, and its agreement with people."""

import json
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sklearn.metrics import cohen_kappa_score
from speakers import Rule, Speaker, answers_shown, by
from tiny import tiny_model, tiny_tokenizer

from zhenlong.data import read
from zhenlong.errors import UserError
from zhenlong.feedback.ai_feedback import ai_feedback, label_preferences
from zhenlong.feedback.judge_agreement import human_agreement, judge_report, pairwise_cohen_kappa
from zhenlong.feedback.pairwise_judge import PairwiseVerdict, comparison_messages, read_verdict
from zhenlong.feedback.pairwise_labelling import JudgedPair, ResponseSet, judge_pairs, ranking_from_pairs
from zhenlong.models import save_model
from zhenlong.records import Message, Ranking

PROMPT = (Message("system", "Be brief."), Message("user", "Why is the sky blue?"))


def ranking(*answers, ranks=(1, 2), strength=None):
    return Ranking(PROMPT, answers, ranks, strength)


def questions(rankings):
    return [ResponseSet(one.prompt, one.responses) for one in rankings]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[[A1]]", PairwiseVerdict(True, 1)),
        ("Both are fine, A a little more. Verdict: [[b 4]].", PairwiseVerdict(False, 4)),
        ("First I thought [[A2]], but no: [[B-3]]", PairwiseVerdict(False, 3)),
        ("<think>[[A4]]</think> [[B1]]", PairwiseVerdict(False, 1)),
        ("<think>[[A4]]</think> neither", None),
        ("[[A]]", None),
        ("[[A5]]", None),
        ("[[C1]]", None),
        ("A", None),
        ("", None),
    ],
)
def test_what_a_reply_says(text, found):
    assert read_verdict(text).value == found


def test_the_question_shows_the_conversation_and_both_answers_as_they_are():
    (message,) = comparison_messages(PROMPT, "{b} first", "second {conversation}")
    assert "Be brief." in message.content
    assert "Why is the sky blue?" in message.content
    assert answers_shown(message.content) == ("{b} first", "second {conversation}")
    (by_principle,) = comparison_messages(PROMPT, "x", "y", criterion="Which is kinder?", reasoning=False)
    assert "Which is kinder?" in by_principle.content
    assert "sentences first" not in by_principle.content


def test_both_orders_are_asked_and_the_better_answer_is_found_in_either():
    judge = Rule(by(len, 4))
    ((pair,),) = judge_pairs(judge, questions([ranking("no", "a long answer")]))
    assert [answers_shown(one[-1].content) for one in judge.asked] == [("no", "a long answer"), ("a long answer", "no")]
    assert (pair.winner, pair.strength) == (1, 4)
    assert ranking_from_pairs(questions([ranking("no", "a long answer")])[0], [pair], "rule").ranks == (2, 1)


def test_a_judge_that_looks_at_the_place_alone_makes_ties_only():
    for letter in "AB":
        found = label_preferences(Rule(lambda _, letter=letter: f"[[{letter}3]]"), questions([ranking("x", "yy")] * 5))
        assert found.rankings == []
        assert found.report["ties"] == 5
        assert found.report["order_consistency"]["mean"] == 0
        assert found.report["prefers_first"]["mean"] == (letter == "A")
        assert found.report["prefers_longer"]["mean"] == 0.5


def test_the_strength_is_the_mean_of_both_orders_rounded_down():
    replies = iter(["[[A4]]", "[[B1]]"])
    found = label_preferences(Rule(lambda _: next(replies)), questions([ranking("x", "y")]))
    assert found.rankings[0].strength == 2
    assert found.rankings[0].annotator == "rule"
    assert found.report["strengths"] == {"2": 1}


def test_several_answers_are_ranked_by_the_comparisons_they_win():
    worth = {"a": 3, "b": 1, "c": 2}
    found = label_preferences(Rule(by(worth.__getitem__, 2)), questions([ranking("b", "a", "c", ranks=(1, 2, 3))]))
    assert found.report["pairs"] == 3
    assert found.rankings[0].responses == ("b", "a", "c")
    assert found.rankings[0].ranks == (3, 1, 2)
    assert found.rankings[0].strength == 2


def test_a_verdict_that_cannot_be_read_leaves_its_pair_out_and_is_counted():
    def say(text):
        return "I cannot say." if "mute" in answers_shown(text)[0] else by(len)(text)

    judge = Rule(say)
    found = label_preferences(judge, questions([ranking("mute", "x"), ranking("long", "x"), ranking("y", "longer")]))
    assert len(found.rankings) == 2
    assert (found.report["unparsed"], found.report["verdicts"], found.report["unparsed_pairs"]) == (1, 6, 1)
    assert found.report["unparsed_rate"] == pytest.approx(1 / 6)
    assert found.report["ties"] == 0
    with pytest.raises(UserError, match=r"1 of 6 verdicts cannot be read .*more than max_unparsed 0\.1.*\[\[A1\]\]"):
        label_preferences(judge, questions([ranking("mute", "x"), ranking("long", "x"), ranking("y", "longer")]),
                        max_unparsed=0.1)  # fmt: skip


def test_agreement_with_people_overall_and_by_strength():
    people = [
        ranking("longest", "short", strength=4),
        ranking("longer one", "x", strength=4),
        ranking("x", "too long by far", strength=1),
        ranking("tie", "tie?", ranks=(2, 1), strength=2),
    ]
    found = label_preferences(Rule(by(len)), questions(people), people)
    told = found.report["agreement"]
    assert told["accuracy"]["mean"] == 0.75
    assert told["accuracy"]["n"] == 4
    assert {level: value["mean"] for level, value in told["by_human_strength"].items()} == {"1": 0, "2": 1, "4": 1}
    assert told["by_judge_strength"]["3"]["n"] == 4
    assert told["human_prefers_longer"]["mean"] == 0.75
    assert found.report["prefers_longer"]["mean"] == 1


def test_pairs_that_people_tie_and_pairs_without_verdict_are_in_no_agreement():
    people = [ranking("a", "b", "c", ranks=(1, 1, 2))]
    unread = JudgedPair(0, 2, (None, PairwiseVerdict(True, 1)), (1, 1))
    decided = JudgedPair(1, 2, (PairwiseVerdict(True, 1), PairwiseVerdict(False, 1)), (1, 1))
    tied = JudgedPair(0, 1, (PairwiseVerdict(True, 1), PairwiseVerdict(False, 1)), (1, 1))
    assert human_agreement(people, [[unread, decided, tied]])["accuracy"]["n"] == 1
    assert human_agreement(people, [[unread, tied]]) is None
    assert human_agreement([], []) is None
    assert judge_report([])["unparsed_rate"] == 0


def test_kappa_is_that_of_labels_in_random_order_and_0_for_a_coin():
    """People's answer is first in most files; drawn order gives the same kappa in the long run."""
    labels = [(1, 1)] * 60 + [(1, -1)] * 25 + [(1, 0)] * 15
    turned = [(people * sign, judge * sign) for people, judge in labels for sign in (1, -1)]
    assert pairwise_cohen_kappa(labels) == pytest.approx(cohen_kappa_score(*zip(*turned, strict=True)))
    assert pairwise_cohen_kappa([(1, 1)] * 50 + [(1, -1)] * 50) == pytest.approx(0)
    assert pairwise_cohen_kappa([(1, 1)] * 9 + [(-1, -1)]) == 1
    assert pairwise_cohen_kappa([(1, 1)] * 90 + [(1, -1)] * 10) == pytest.approx(2 * 0.9 - 1)


def write_rows(path: Path, rankings) -> str:
    rows = [{"kind": "ranking", "prompt": [{"role": m.role, "content": m.content} for m in one.prompt],
             "responses": list(one.responses), "ranks": list(one.ranks)} for one in rankings]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_command_writes_rankings_and_a_report_and_asks_nothing_twice(stand_in, tmp_path, capsys):
    judge = stand_in(Speaker(lambda messages, k: by(len)(messages[-1].content)))
    data = write_rows(tmp_path / "data.jsonl", [ranking("longest", "x"), ranking("y", "short")])
    path = ai_feedback(judge="judge", data=data, output=str(tmp_path / "out" / "labels.jsonl"))
    found = read(str(path), Ranking)
    assert [one.ranks for one in found] == [(1, 2), (2, 1)]
    assert {one.annotator for one in found} == {"speaker"}
    report = json.loads((tmp_path / "out" / "labels.report.json").read_text())
    assert report["agreement"]["accuracy"]["mean"] == 0.5
    assert "agreement with people 0.500 [" in capsys.readouterr().out
    assert len(judge.asked) == 4
    ai_feedback(judge="judge", data=data, output=str(tmp_path / "out" / "labels.jsonl"))
    assert len(judge.asked) == 4


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "pairs"), [("hh_rlhf/harmless-base.test.lines1-1500.jsonl.gz", 1495), ("llmbar/Natural/dataset.json", 100)]
)
def test_agreement_with_the_people_of_published_data(stand_in, datasets_folder, tmp_path, name, pairs):
    """A judge that takes the longer answer agrees exactly as often as people took it."""
    stand_in(Speaker(lambda messages, k: by(len)(messages[-1].content)))
    path = ai_feedback(
        judge="j", data=str(datasets_folder / name), output=str(tmp_path), skip_bad_rows=True, reasoning=False
    )
    told = json.loads(path.with_suffix(".report.json").read_text())
    assert told["pairs"] == pairs
    assert told["agreement"]["accuracy"] == told["agreement"]["human_prefers_longer"]
    assert told["agreement"]["accuracy"]["n"] == pairs - told["ties"]


def test_answers_of_a_policy_are_sampled_and_those_that_can_be_compared_are_judged(stand_in, tmp_path):
    def say(messages, k):
        text = messages[-1].content
        if "[Answer A]" in text:
            return by(len)(text)
        return "same" if "dull" in text else ["short", "cut off", "a longer one", "short"][k]

    stand_in(Speaker(say, cut=lambda text: text == "cut off"))
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"question": "Tell me.", "answer": "x"}\n{"question": "A dull one?", "answer": "x"}\n')
    path = ai_feedback(judge="m", policy="m", data=str(prompts), output=str(tmp_path / "out"), samples_per_prompt=4)
    (one,) = read(str(path), Ranking)
    assert path.name == "rankings.jsonl"
    assert one.responses == ("short", "a longer one")
    assert one.ranks == (2, 1)


def test_a_constitution_puts_its_question_in_place_of_the_general_one(stand_in, tmp_path):
    judge = stand_in(Speaker(lambda messages, k: by(len)(messages[-1].content)))
    file = tmp_path / "own.yaml"
    file.write_text("principles: [{name: n, critique: c, revision: r, preference: 'Which one rhymes?'}]\n")
    data = write_rows(tmp_path / "data.jsonl", [ranking("longest", "x")])
    ai_feedback(judge="judge", data=data, output=str(tmp_path / "a.jsonl"), constitution=str(file), reasoning=False)
    assert all("Which one rhymes?" in one.prompt[-1].content for one in judge.asked)


def test_a_model_that_never_answers_in_the_form_is_refused_in_one_line(tmp_path):
    save_model(tiny_model(max_position_embeddings=2048), tiny_tokenizer(), tmp_path / "model")
    data = write_rows(tmp_path / "data.jsonl", [ranking("yes", "no")])
    with pytest.raises(UserError, match="2 of 2 verdicts cannot be read") as problem:
        ai_feedback(judge=str(tmp_path / "model"), data=data, output=str(tmp_path / "out.jsonl"), judge_max_tokens=8)
    assert "\n" not in str(problem.value)
    assert not (tmp_path / "out.jsonl").exists()


def test_mistakes_are_found_before_anything_is_written(tmp_path):
    data = write_rows(tmp_path / "data.jsonl", [ranking("yes", "no")])
    for wrong, said in [
        ({"judge": "runs/none"}, "no such folder"),
        ({"judge": "pocket", "max_unparsed": 1.5}, "max_unparsed"),
        ({"judge": "pocket", "policy": "pocket", "samples_per_prompt": 1}, "samples_per_prompt: expected 2 or more"),
        ({"judge": "pocket", "constitution": str(tmp_path / "none.yaml")}, "cannot be read as YAML"),
    ]:
        with pytest.raises(UserError, match=said):
            ai_feedback(**{"data": data, "output": str(tmp_path / "out" / "x.jsonl"), **wrong})
    assert not (tmp_path / "out").exists()


class Endpoint(BaseHTTPRequestHandler):
    """An OpenAI-compatible server whose model prefers the longer answer."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = by(len)(asked["messages"][-1]["content"])
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        body = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_an_endpoint_is_a_judge_like_any_other(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    data = write_rows(tmp_path / "data.jsonl", [ranking("longest", "x"), ranking("y", "short")])
    try:
        judge = f"openai:m@http://127.0.0.1:{server.server_address[1]}/v1"
        path = ai_feedback(judge=judge, data=data, output=str(tmp_path / "labels.jsonl"))
    finally:
        server.shutdown()
        server.server_close()
    assert [one.ranks for one in read(str(path), Ranking)] == [(1, 2), (2, 1)]
    assert json.loads((tmp_path / "labels.report.json").read_text())["judge"] == judge


def fair_coin(text: str) -> str:
    """A deterministic stand-in for a judge: prefers by a checksum of the answers, cannot decide about one in eight."""
    a, b = answers_shown(text)
    there, back = zlib.crc32(a.encode()), zlib.crc32(b.encode())
    if (there ^ back) % 8 == 0:
        return "[[A2]]"  # whatever is first: a tie over both orders
    return f"[[{'A' if there > back else 'B'}{1 + (there ^ back) % 4}]]"


@pytest.mark.real_data
def test_agreement_on_hh_rlhf_is_computed(datasets_folder):
    (file,) = (datasets_folder / "hh_rlhf").glob("*.gz")
    people = read(str(file), Ranking, limit=300, skip_bad_rows=True, skipped=[])
    found = label_preferences(Rule(fair_coin), questions(people), people)
    told = found.report["agreement"]
    assert found.report["pairs"] == len(people)
    assert found.report["ties"] + told["accuracy"]["n"] == len(people)
    assert len(found.rankings) == told["accuracy"]["n"]
    low, high = told["accuracy"]["ci95"]
    assert 0 <= low <= told["accuracy"]["mean"] <= high <= 1
    assert low < 0.5 < high  # a judge that knows nothing agrees by chance
    assert abs(told["kappa"]) < 0.2


@pytest.mark.real_data
def test_agreement_on_llmbar_is_computed(datasets_folder):
    (file,) = (datasets_folder / "llmbar").rglob("dataset.json")
    rows = json.loads(file.read_text())
    people = [
        Ranking((Message("user", row["input"]),), (row["output_1"], row["output_2"]),
                (1, 2) if row["label"] == 1 else (2, 1))
        for row in rows
    ]  # fmt: skip
    always = {one.responses[one.ranks.index(1)] for one in people}
    right = label_preferences(Rule(by(lambda text: float(text in always))), questions(people), people)
    assert right.report["agreement"]["accuracy"]["mean"] == 1
    assert right.report["agreement"]["kappa"] == 1
    longer = label_preferences(Rule(by(len)), questions(people), people)
    told = longer.report["agreement"]
    assert told["accuracy"]["mean"] == pytest.approx(told["human_prefers_longer"]["mean"], abs=0.05)
    assert longer.report["prefers_longer"]["mean"] == 1
