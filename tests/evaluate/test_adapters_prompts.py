"""Prompts: HELM's examples and format, fitting the context, and each method's requests and outcomes."""

import math
import random
from collections import Counter, defaultdict

import pytest
from scripted_backend import ScriptedBackend

from zhenlong.evaluate.adapters.examples import examples_by_group, sample_balanced_examples
from zhenlong.evaluate.adapters.methods import AdapterContext, plan_requests
from zhenlong.evaluate.adapters.spec import Adapter
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.run.run_plans import run_plans
from zhenlong.inference.cache import RequestCache
from zhenlong.inference.model_client import ModelClient
from zhenlong.inference.requests import GeneratedOutput, GenerateRequest, RequestResult, ScoreRequest, ScoreTextRequest


def labelled(*labels):
    return [Instance(str(n), f"text {n}", (Reference(label),) if label else ()) for n, label in enumerate(labels)]


def question(text="Which?", right=1, choices=("red", "blue", "green"), **fields):
    return Instance("q", text, tuple(Reference(c, n == right) for n, c in enumerate(choices)), **fields)


def outcome_of(adapter, instance, model=None, tmp_path=None, **setting):
    model = model or ScriptedBackend()
    with RequestCache(tmp_path / "cache.sqlite") as cache:
        return run_plans(
            [plan_requests(AdapterContext(adapter, model, **setting), instance)], ModelClient(model, cache)
        )[0], model


def helms_choice(pool, count, seed):
    """HELM's own selection steps, with the global random generator."""
    random.seed(seed)
    by_label = defaultdict(list)
    for one in pool:
        by_label[one.correct_texts[0]].append(one)
    by_count = defaultdict(list)
    for label, members in sorted(by_label.items()):
        by_count[len(members)].append(label)
    labels = []
    for size in sorted(by_count, reverse=True):
        random.shuffle(by_count[size])
        labels += by_count[size]
    chosen, turn = [], 0
    while len(chosen) < count:
        members = by_label[labels[turn % len(labels)]]
        turn += 1
        if members:
            chosen.append(members.pop(random.randrange(len(members))))
    return chosen


@pytest.mark.parametrize("seed", range(4))
def test_sampled_examples_equal_helms(seed):
    pool = labelled(*"aaaabbccccd")
    assert sample_balanced_examples(pool, 6, seed) == helms_choice(pool, 6, seed)


def test_examples_are_balanced_over_labels_the_most_frequent_first():
    chosen = sample_balanced_examples(labelled(*"aaaaaabb", "c"), 4, 0)
    assert [one.correct_texts[0] for one in chosen] == ["a", "b", "c", "a"]
    assert len({one.id for one in chosen}) == 4


def test_examples_without_a_label_come_last_and_none_is_sampled_twice():
    chosen = sample_balanced_examples(labelled("a", "a", None, None, None), 4, 1)
    assert [bool(one.correct_texts) for one in chosen] == [True, True, False, False]
    assert max(Counter(one.id for one in chosen).values()) == 1
    assert len(sample_balanced_examples(labelled("a"), 5, 0)) == 1


def test_the_trial_seeds_the_examples_and_a_group_has_its_own():
    pool = [
        Instance(f"{s}{n}", "t", (Reference("x"),), groups={"subject": s}) for s in ("art", "law") for n in range(9)
    ]
    adapter = Adapter(shots=3, examples_by="subject")
    first, second = (examples_by_group(adapter, pool, trial) for trial in (0, 1))
    assert first != second
    assert all(one.groups["subject"] == "law" for one in first["law"])
    in_order = examples_by_group(Adapter(shots=3, sample_examples=False), pool, 0)[""]
    assert [one.id for one in in_order] == ["art0", "art1", "art2"]


def test_a_joint_prompt_equals_helms(tmp_path):
    adapter = Adapter("multiple_choice_joint", instructions="Choose.", input_prefix="Question: ",
                      output_prefix="Answer: ", shots=1, max_tokens=1)  # fmt: skip
    asked = outcome_of(
        adapter,
        question(),
        ScriptedBackend(lambda request: " B"),
        tmp_path,
        examples={"": [question("Sky?", 2)]},
    )[0]
    assert asked.prompt == (
        "Choose.\nQuestion: Sky?\nA. red\nB. blue\nC. green\nAnswer: C\n\n"
        "Question: Which?\nA. red\nB. blue\nC. green\nAnswer:"
    )
    assert asked.predicted == 1


def test_scored_letters_and_separate_choices_start_with_the_space_before_the_answer(tmp_path):
    def worth(context, continuation):
        return {" A": -3.0, " B": -1.0, " C": -2.0}.get(continuation, -len(continuation))

    adapter = Adapter("multiple_choice_joint", answer="scored", output_prefix="Answer: ")
    joint, model = outcome_of(adapter, question(), ScriptedBackend(score_continuation=worth), tmp_path)
    assert model.requests[0].continuations == (" A", " B", " C")
    assert joint.choices.log_probs == (-3.0, -1.0, -2.0)
    assert joint.predicted == 1
    separate, model = outcome_of(Adapter("multiple_choice_separate"), question(), ScriptedBackend(), tmp_path)
    assert model.requests[0] == ScoreRequest("Input: Which?\nOutput:", (" red", " blue", " green"))
    assert separate.predicted == 0


def test_separate_choices_compare_per_token_and_calibrated_ones_subtract_the_calibration_prompt(tmp_path):
    instance = question(choices=("a b c d", "e", "f"))

    def worth(context, continuation):
        if context == "Answer:":
            return {" a b c d": -9.0, " e": -1.0, " f": -8.0}[continuation]
        return {" a b c d": -4.0, " e": -2.0, " f": -6.0}[continuation]

    per_token, _ = outcome_of(
        Adapter("multiple_choice_separate"), instance, ScriptedBackend(score_continuation=worth), tmp_path
    )
    in_all, _ = outcome_of(
        Adapter("multiple_choice_separate", normalise_by="none"),
        instance,
        ScriptedBackend(score_continuation=worth),
        tmp_path,
    )
    calibrated, _ = outcome_of(
        Adapter("multiple_choice_calibrated"), instance, ScriptedBackend(score_continuation=worth), tmp_path
    )
    assert (per_token.predicted, in_all.predicted, calibrated.predicted) == (0, 1, 0)
    per_character, _ = outcome_of(  # of 2, 1 and 4 characters: -2, -3 and -1.75 each
        Adapter("multiple_choice_separate", normalise_by="characters"),
        question(choices=("ab", "c", "defg")),
        ScriptedBackend(score_continuation=lambda _, text: {" ab": -4.0, " c": -3.0, " defg": -7.0}[text]),
        tmp_path,
    )
    assert per_character.predicted == 2
    assert calibrated.choices.calibration_log_probs == (-9.0, -1.0, -8.0)


def test_a_passage_is_scored_by_the_odds_of_yes(tmp_path):
    def worth(context, continuation):
        yes = 0.6 if "blue" in context else 0.2
        return math.log(yes if continuation == " Yes" else 0.2)

    adapter = Adapter("ranking", choice_prefix="Passage: ", input_prefix="Query: ", output_prefix="Answer: ")
    found, model = outcome_of(adapter, question(), ScriptedBackend(score_continuation=worth), tmp_path)
    assert model.requests[1].context == "Passage: blue\nQuery: Which?\nAnswer:"
    assert found.predicted == 1
    assert [math.exp(value) for value in found.choices.log_probs] == pytest.approx([0.5, 0.75, 0.5])


def test_language_modelling_scores_the_text_itself(tmp_path):
    found, model = outcome_of(Adapter("language_modelling"), Instance("t", "one two"), ScriptedBackend(), tmp_path)
    assert model.requests == [ScoreTextRequest("one two")]
    assert (found.text_log_prob, found.text_tokens) == (-7.0, 2)


def test_later_turns_continue_each_samples_own_conversation(tmp_path):
    seen = []

    def say(request):
        seen.append([message.content for message in request.prompt])
        return f"answer {len(request.prompt)}"

    instance = Instance("c", "first", turns=("second", "third"))
    adapter = Adapter("chat", system="Be brief.", n=2, temperature=1.0)
    found, _ = outcome_of(adapter, instance, ScriptedBackend(say), tmp_path)
    assert seen[0] == ["Be brief.", "first"]
    assert seen[-1] == ["Be brief.", "first", "answer 2", "second", "answer 4", "third"]
    assert found.outputs == (GeneratedOutput("answer 2", -1.0, 3, turns=("answer 4", "answer 6")),) * 2


def test_examples_of_a_chat_are_turns_and_history_comes_before_the_input(tmp_path):
    instance = Instance(
        "c", "ask", data={"history": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    )
    found, model = outcome_of(
        Adapter("chat", shots=1), instance, ScriptedBackend(), tmp_path, examples={"": labelled("right")}
    )
    said = [(one.role, one.content) for one in model.requests[0].prompt]
    assert said == [("user", "text 0"), ("assistant", "right"), ("user", "a"), ("assistant", "b"), ("user", "ask")]
    assert not found.failed


def test_the_temperature_follows_the_category_and_greedy_requests_have_no_seed(tmp_path):
    adapter = Adapter("chat", temperatures={"writing": 0.7})
    _, warm = outcome_of(
        adapter, Instance("w", "x", groups={"category": "writing"}), ScriptedBackend(), tmp_path, seed=3
    )
    _, cold = outcome_of(adapter, Instance("w", "x", groups={"category": "maths"}), ScriptedBackend(), tmp_path, seed=3)
    assert (warm.requests[0].temperature, warm.requests[0].seed != 0) == (0.7, True)
    assert (cold.requests[0].temperature, cold.requests[0].seed) == (0.0, 0)


def test_as_chat_sends_a_text_prompt_as_a_user_turn(tmp_path):
    _, model = outcome_of(Adapter(), Instance("i", "x"), ScriptedBackend(), tmp_path, as_chat=True)
    (message,) = model.requests[0].prompt
    assert (message.role, message.content) == ("user", "Input: x\nOutput:")
    _, model = outcome_of(Adapter("multiple_choice_separate"), question(), ScriptedBackend(), tmp_path, as_chat=True)
    assert model.requests[0].continuations == ("red", "blue", "green")


@pytest.mark.parametrize(("context", "kept", "cut"), [(200, 3, False), (26, 1, False), (15, 0, True)])
def test_examples_are_dropped_first_then_the_input_is_truncated_inside_its_format(tmp_path, context, kept, cut):
    adapter = Adapter(shots=3, max_tokens=5, input_prefix="In ", output_prefix="Out ", instance_separator="\n")
    instance = Instance("i", " ".join(f"w{n}" for n in range(12)))
    found, model = outcome_of(
        adapter, instance, ScriptedBackend(context=context), tmp_path, examples={"": labelled("a", "b", "c")}
    )
    prompt = model.requests[0].prompt
    assert prompt.count("In text") == kept
    assert prompt.endswith("\nOut")
    assert ("w11" not in prompt) == cut
    assert len(prompt.split()) + 5 <= context
    assert found.metadata.get("examples_dropped", 0) == 3 - kept
    assert found.metadata.get("input_cut", False) == cut
    if kept < 3 and not cut:  # one more would not have fitted
        assert len(prompt.split()) + 5 + 5 > context


def test_a_prompt_that_cannot_fit_fails_with_a_reason_and_sends_no_request(tmp_path):
    adapter = Adapter(max_tokens=4, instructions="so many words that nothing else fits at all", shots=0)
    found, model = outcome_of(adapter, Instance("i", "x"), ScriptedBackend(context=8), tmp_path)
    assert "context of 8 tokens" in found.failed
    assert not model.requests
    found, _ = outcome_of(Adapter(), Instance("i", "x"), ScriptedBackend(lambda request: "FAIL timed out"), tmp_path)
    assert (found.failed, found.outputs) == ("timed out", ())


def test_a_chat_has_no_prefixes_unless_they_are_set():
    assert (Adapter("chat").input_prefix, Adapter("chat", input_prefix="Q: ").input_prefix) == ("", "Q: ")
    assert Adapter().input_prefix == "Input: "


def test_requests_compare_by_value():
    assert GenerateRequest("a", stop=("x",)) == GenerateRequest("a", stop=("x",))
    assert RequestResult().cost == RequestResult().cost
