"""Judges as rewards: their verdicts, both orders of a pair, and verdicts that cannot be read."""

import pytest
from answers import RIGHT, WRONG, answer
from scripted_backend import ScriptedBackend
from tiny import tiny_model, tiny_tokenizer

from zhenlong.errors import UserError
from zhenlong.models import save_model
from zhenlong.records import Message, Task
from zhenlong.rewards import TaskResponse, build_reward_fn, judge_reward, pairwise_judge_reward

MIDDLE = 5.5


def shown(text: str, letter: str) -> str:
    """The answer that a comparison shows as assistant A or B."""
    return text.split(f"[Answer of assistant {letter}]\n")[1].split("\n[End")[0]


def test_a_rating_is_the_reward_and_the_judge_sees_question_reference_and_answer() -> None:
    seen = []

    def judge(conversations):
        seen.extend(messages[-1].content for messages in conversations)
        return ["Good. [[9]]", "Rating: [[2.5]]"]

    assert judge_reward(judge)([RIGHT, WRONG]) == [9.0, 2.5]
    assert "User: 2 + 2?" in seen[0]
    assert "[A good answer]\n4\n" in seen[0]
    assert "[Answer]\n5\n" in seen[1]
    judge_reward(judge)([answer("x", reference=""), WRONG])
    assert "good answer" not in seen[2]


def test_unread_verdicts_are_worth_the_middle_and_are_told() -> None:
    told = []
    reward = judge_reward(
        lambda asked: ["[[3]]", "I cannot say.", "[[11]]"], "j", lambda what, _, flags: told.append((what, flags))
    )
    assert reward([RIGHT, WRONG, RIGHT]) == [3.0, MIDDLE, MIDDLE]
    assert told == [
        ("unparsed", [0.0, 1.0, 1.0]),
        ("unparsed, no verdict", [0.0, 1.0, 0.0]),
        ("unparsed, outside the scale", [0.0, 0.0, 1.0]),
    ]


def test_a_judge_that_rarely_gives_a_verdict_stops_the_run() -> None:
    mute = judge_reward(lambda asked: ["Hm."] * len(asked), "j")
    assert mute([RIGHT] * 7) == [MIDDLE] * 7  # too few to tell
    with pytest.raises(
        UserError,
        match=r"judge j: 8 of 8 verdicts cannot be read \(no verdict 8\), for example 'Hm\.'; expected \[\[rating",
    ):
        mute([RIGHT] * 8)
    pair = pairwise_judge_reward(lambda asked: ["[[A]]", "Hm.", "Hm.", "Hm."] * (len(asked) // 4), "j")
    with pytest.raises(UserError, match="6 of 8 verdicts"):
        pair([RIGHT] * 4)


def test_a_pair_is_asked_in_both_orders() -> None:
    def likes_five(conversations):
        """Prefers the answer 5 wherever it stands; two equal answers are a tie."""
        said = []
        for messages in conversations:
            a, b = (shown(messages[-1].content, letter) for letter in "AB")
            said.append("[[C]]" if a == b else "[[A]]" if a == "5" else "[[B]]")
        return said

    assert pairwise_judge_reward(likes_five)([WRONG, RIGHT, answer("3", reference="5")]) == [1.0, 0.5, 0.0]
    first_place = pairwise_judge_reward(lambda asked: ["[[A]]"] * len(asked))
    assert first_place([RIGHT, WRONG]) == [0.5, 0.5]
    told = []
    half = pairwise_judge_reward(
        lambda asked: ["[[A]]", "?"], record=lambda what, _, shares: told.append((what, shares))
    )
    assert half([WRONG]) == [0.75]
    assert told == [("unparsed", [0.5]), ("unparsed, names neither answer", [0.5])]


def test_a_pair_needs_a_reference() -> None:
    with pytest.raises(UserError, match="no reference to compare with"):
        pairwise_judge_reward(lambda asked: [])([TaskResponse(Task((Message("user", "?"),)), "x")])


def test_a_local_model_judges_and_its_unread_verdicts_are_a_part(tmp_path) -> None:
    save_model(tiny_model(max_position_embeddings=2048), tiny_tokenizer(), tmp_path / "judge")
    name = f"judge:{tmp_path}/judge"
    graded = build_reward_fn(f"2*{name}", device="cpu").breakdown([RIGHT])
    assert graded.rewards == [2 * MIDDLE]  # random weights say nothing that can be read
    unread = {f"{name}: unparsed": [1.0], f"{name}: unparsed, cut off at the token limit": [1.0]}
    assert graded.components == {name: [MIDDLE]} | unread


def test_a_judge_is_asked_the_same_question_once_and_a_resumed_run_asks_nothing(monkeypatch, tmp_path) -> None:
    backend = ScriptedBackend(lambda request: f"[[{1 + len(request.prompt[0].content) % 10}]]")
    monkeypatch.setattr("zhenlong.inference.model_client.load_backend", lambda model, cache, **options: backend)
    responses = [RIGHT, answer("four, I think"), RIGHT]
    for expected_requests in (2, 2):  # the second reward reads what the first one's cache holds
        reward = build_reward_fn("judge:j", judge_cache=tmp_path / "run" / "judge_cache.sqlite")
        first, again = reward(responses), reward(responses)
        assert first == again
        assert first[0] == first[2] != first[1]
        assert len(backend.requests) == expected_requests
    build_reward_fn("judge:j")(responses)  # without a file it forgets with the process
    assert len(backend.requests) == 4
