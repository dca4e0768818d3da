"""A user's function gets the whole row, may abstain, and may have TRL's signature."""

import math

import pytest

from zhenlong.data import read
from zhenlong.errors import UserError
from zhenlong.records import Message, Task
from zhenlong.rewards import TaskResponse, build_reward_fn, function_reward
from zhenlong.rewards.abstention import is_abstention, neutral_abstentions
from zhenlong.rewards.combine import gated_reward, mean_minus_std, minimum, product, weighted_sum, whitened_reward
from zhenlong.stages.rollout import Group, rollout_metrics

TASK = Task((Message("user", "2+2?"),), "4", meta={"prompt": "2+2?", "level": 3, "tests": ["a", "b"]})
OTHER = Task((Message("user", "Hi."),), meta={"prompt": "Hi.", "topic": "greeting"})
RESPONSES = [TaskResponse(TASK, "four", token_ids=(7, 8)), TaskResponse(OTHER, "hello", truncated=True)]


def seen_by(function_source):
    """What a function with these parameters is given."""
    seen = {}
    scope = {"seen": seen}
    exec(f"def score({function_source}):\n    seen.update(locals())\n    return [0.0, 1.0]", scope)
    assert function_reward(scope["score"])(RESPONSES) == [0.0, 1.0]
    return seen


def test_a_function_gets_every_column_that_it_names():
    seen = seen_by("prompts, responses, references, level, messages, *, truncated, absent=5")
    assert seen["prompts"][0] == [{"role": "user", "content": "2+2?"}]
    assert seen["responses"] == ["four", "hello"]
    assert seen["references"] == ["4", ""]
    assert seen["level"] == [3, None]  # of another source, whose rows have no such column
    assert seen["truncated"] == [False, True]
    assert seen["messages"][1] == [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "hello"}]
    assert seen["absent"] == 5
    assert seen_by("questions, answers, topic")["answers"] == ["four", "hello"]  # the first two by place
    everything = seen_by("prompts, responses, **columns")["columns"]
    assert everything.keys() >= {"level", "tests", "topic", "references", "messages"}
    assert not everything.keys() & {"prompts", "responses"}
    with pytest.raises(UserError, match=r"score: it asks for 'grade'; the data have .*level.*topic"):
        seen_by("prompts, responses, grade")


def test_trls_signature_works_as_it_is():
    seen = seen_by("prompts, completions, completion_ids, level, **kwargs")
    assert seen["prompts"] == ["2+2?", "Hi."]  # the data's prompts are texts: so are completions
    assert seen["completions"] == ["four", "hello"]
    assert seen["completion_ids"] == [[7, 8], []]
    assert seen["kwargs"]["tests"] == [["a", "b"], None]
    assert seen_by("completions, **kwargs")["kwargs"]["prompts"] == ["2+2?", "Hi."]
    chat = [TaskResponse(Task((Message("user", "Hi."),)), "yes")]

    def conversational(prompts, completions, **kwargs):
        assert prompts == [[{"role": "user", "content": "Hi."}]]
        return [float(completion[0]["content"] == "yes") for completion in completions]

    assert function_reward(conversational)(chat) == [1.0]


def test_columns_of_files_reach_the_function(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        '{"prompt": "Add.", "tests": ["a"], "level": 2}\n{"prompt": [{"role": "user", "content": "B"}], "level": 1}\n'
    )
    tasks = read(str(rows), Task)
    assert [dict(task.meta) for task in tasks] == [{"prompt": "Add.", "tests": ["a"], "level": 2}, {"level": 1}]
    rows.write_text('{"question": "2+2?", "answer": "It is 4 #### 4", "source": "mine"}\n')
    (task,) = read(str(rows), Task)
    assert task.reference == "4"
    assert task.meta == {"question": "2+2?", "answer": "It is 4 #### 4", "source": "mine"}
    rows.write_text(
        '{"messages": [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}], "level": 4}\n'
    )
    assert read(str(rows), Task)[0].meta == {"level": 4}


def constant(*values):
    """A reward of fixed values; NaN is an abstention between parts."""
    return lambda responses: list(values)


NAN = math.nan


def test_combinations_leave_abstentions_out():
    a, b = constant(1.0, NAN, NAN), constant(2.0, 4.0, NAN)
    assert weighted_sum([(1.0, a), (0.5, b)])(RESPONSES + RESPONSES[:1])[:2] == [2.0, 2.0]
    assert is_abstention(weighted_sum([(1.0, a), (0.5, b)])(RESPONSES + RESPONSES[:1])[2])
    assert product([a, b])(RESPONSES + RESPONSES[:1])[:2] == [2.0, 4.0]
    assert minimum([a, b])(RESPONSES + RESPONSES[:1])[:2] == [1.0, 4.0]
    assert mean_minus_std([a, b])(RESPONSES + RESPONSES[:1])[:2] == [1.0, 4.0]
    assert whitened_reward(constant(1.0, 3.0, NAN))(RESPONSES + RESPONSES[:1])[:2] == [-1.0, 1.0]
    assert gated_reward(constant(NAN, 0.0), constant(), -5)(RESPONSES) == [-5, -5]  # closed
    assert is_abstention(gated_reward(constant(1.0, 0.0), constant(NAN), -5)(RESPONSES)[0])


def test_an_abstention_leaves_the_prompts_mean_as_it_is():
    responses = [TaskResponse(TASK, text) for text in "abc"] + [TaskResponse(OTHER, "d")]
    reward = build_reward_fn(function_reward(lambda prompts, responses: [1.0, None, 5.0, None], "mine"))
    found = reward.breakdown(responses)
    assert found.rewards == [1.0, 3.0, 5.0, 3.0]  # of its prompt; of the call where the prompt has no other
    assert found.components["reward"] == [1.0, None, 5.0, None]
    assert found.components["reward: abstained"] == [0.0, 1.0, 0.0, 1.0]
    assert found.component_means() == {"reward": 3.0, "reward: abstained": 0.5}
    with pytest.warns(UserWarning, match="all parts abstain for all of 2"):
        assert neutral_abstentions(constant(NAN, NAN))(RESPONSES) == [0.0, 0.0]


def test_abstentions_are_in_the_metrics_of_a_step():
    reward = build_reward_fn(function_reward(lambda prompts, responses: [None, 2.0], "mine"))
    found = reward.breakdown([TaskResponse(TASK, "a"), TaskResponse(TASK, "b")])
    group = Group(0, [1], [[2], [3]], ["a", "b"], [False, False], found.rewards)
    group.reward_components = {name: list(column) for name, column in found.components.items()}
    metrics = rollout_metrics([group])
    assert (metrics["reward/reward"], metrics["reward/reward: abstained"], metrics["reward"]) == (2.0, 0.5, 2.0)


def test_failures_are_no_abstentions():
    reward = build_reward_fn(function_reward(lambda prompts, responses: [None, NAN, 4.0], "mine"))
    with pytest.warns(UserWarning, match="failed for 1 of 3"):
        found = reward.breakdown([TaskResponse(TASK, text) for text in "abc"])
    assert found.rewards == [4.0, 4.0, 4.0]
    assert found.components["reward: failed"] == [0.0, 1.0, 0.0]
