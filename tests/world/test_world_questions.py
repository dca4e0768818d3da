"""Questions: every prompt parses back, the splits are disjoint, and tasks have the documented fractions."""

import dataclasses
from collections import Counter
from random import Random

import pytest

from zhenlong.records import Message
from zhenlong.world import World, gold_reward
from zhenlong.world.families.question import split_of
from zhenlong.world.families.registry import ideal_responses, instruction_families, parse_question, sample_question

WORLD = World(0)


def drawn(split: str, n: int = 3000, seed: int = 0):
    rng = Random(seed)
    return [sample_question(WORLD.facts, rng, split) for _ in range(n)]


def test_there_are_many_families_with_several_templates_each():
    assert len(instruction_families()) >= 20
    assert len({family.name for family in instruction_families()}) == len(instruction_families())
    assert all(len(family.templates) >= 3 for family in instruction_families())


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_every_prompt_parses_back_to_its_question(split: str):
    for asked in drawn(split):
        found = parse_question(asked.prompt)
        assert found.family is asked.question.family
        assert found.format is asked.question.format
        assert {name: asked.question.slots[name] for name in found.slots} == dict(found.slots)


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_every_template_of_every_family_occurs_in_both_splits(split: str):
    rng = Random(1)
    for family in instruction_families():
        for template in family.templates:
            splits = {
                split_of(
                    WORLD.facts,
                    family,
                    {**family.sample_slots(WORLD.facts, rng, template.fixed_slots), **template.fixed_slots},
                )
                for _ in range(400)
            }
            assert split in splits


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_ideal_responses_have_the_maximum_gold_reward(split: str):
    for asked in drawn(split):
        answers = ideal_responses(WORLD.facts, asked.question)
        assert answers
        for answer in answers:
            judged = WORLD.gold_breakdown(asked.prompt, answer)
            assert gold_reward(asked.prompt, answer) >= 0.95
            assert judged.correct in (None, 1.0)
            assert judged.format in (None, 1.0)
            assert judged.refused == judged.harmful
            assert len(answer.split()) <= 16


def test_the_splits_share_no_prompt_and_no_fact():
    def asked_facts(split: str):
        prompts, facts = set(), set()
        for asked in drawn(split, 6000):
            prompts.add(asked.prompt)
            slots = asked.question.slots
            if "attribute" in slots:
                facts.add((slots["attribute"], slots["person"]))
        return prompts, facts

    train_prompts, train_facts = asked_facts("train")
    held_prompts, held_facts = asked_facts("heldout")
    assert not train_prompts & held_prompts
    assert not train_facts & held_facts
    assert len(held_facts) >= 40


def test_training_prompts_contain_no_held_out_fact():
    held = {
        (asked.question.slots["attribute"], asked.question.slots["person"])
        for asked in drawn("heldout", 6000)
        if "attribute" in asked.question.slots
    }
    for asked in drawn("train", 6000):
        slots, name = asked.question.slots, asked.question.family.name
        if name == "who":
            person = WORLD.facts.job_holder[slots["job"], slots["home"]]
            assert not {("job", person), ("home", person)} & held
        if name == "follow_up":
            assert (slots["first"], slots["person"]) not in held


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split"):
        WORLD.tasks(1, split="test")


@pytest.mark.parametrize(
    "prompt",
    [
        (Message("user", "Write a poem about the sea."),),
        (Message("user", "Where does Mira live? And why?"),),
        (Message("user", "Add 3 and 4. Number the lines."),),
        (Message("user", "And where does she live?"),),
        (Message("user", "Where does Mira live?"), Message("assistant", "Tarn."), Message("user", "Why?")),
        (Message("system", "Where does Mira live?"),),
    ],
)
def test_a_prompt_that_no_family_asks_is_an_error(prompt):
    with pytest.raises(ValueError, match="prompt"):
        WORLD.gold_reward(prompt, "Tarn.")


def test_a_follow_up_refers_to_the_person_named_last():
    people = WORLD.facts.people["pet"]
    turns = [
        Message("user", "Where does Mira live?"),
        Message("assistant", "In a house."),
        Message("user", "What is the job of Dina?"),
        Message("assistant", "A baker."),
        Message("user", "And what pet does she have?"),
    ]
    assert WORLD.gold_breakdown(tuple(turns), f"Dina has a {people['Dina']}.").correct == 1
    assert WORLD.gold_breakdown((turns[0], turns[1], turns[4]), f"A {people['Mira']}.").correct == 1


def test_a_system_message_does_not_change_the_parsed_question():
    prompt = (Message("user", "What is 3 + 4?"),)
    assert WORLD.gold_breakdown((Message("system", "Be kind."), *prompt), "7") == WORLD.gold_breakdown(prompt, "7")


def test_held_out_tasks_have_the_documented_fraction_of_each_kind():
    tasks = WORLD.tasks(600, seed=3, split="heldout")
    assert len({task.prompt for task in tasks}) == 600
    kinds = Counter(task.groups["kind"] for task in tasks)
    formatted = sum(task.groups["format"] == "yes" for task in tasks)
    assert 0.15 <= kinds["harmful"] / 600 <= 0.25
    assert 0.10 <= kinds["lookalike"] / 600 <= 0.20
    assert 0.30 <= formatted / 600 <= 0.42
    assert kinds["answer"] / 600 >= 0.5
    assert kinds["open"] > 0
    for task in tasks:
        judged = WORLD.gold_breakdown(task.prompt, task.reference)
        assert task.verifier == "world"
        assert task.groups["family"] == judged.family
        assert (task.groups["format"] == "yes") == (judged.format is not None)
        assert (task.groups["kind"] == "harmful") == judged.harmful
        assert (task.groups["kind"] == "lookalike") == judged.lookalike


def test_requesting_more_tasks_than_exist_is_an_error(monkeypatch):
    few = drawn("train", 5)
    monkeypatch.setattr("zhenlong.world.world.sample_question", lambda facts, rng, split: rng.choice(few))
    with pytest.raises(ValueError, match="different train tasks"):
        WORLD.tasks(10)


def test_generated_data_is_deterministic_and_depends_on_seed_and_split():
    for make in (WORLD.demonstrations, WORLD.rankings, WORLD.ratings, WORLD.tasks):
        assert make(40, seed=2) == make(40, seed=2)
        assert make(40, seed=2) != make(40, seed=3)
        assert make(40, seed=2) != make(40, seed=2, split="heldout")


def test_another_world_has_other_answers_to_the_same_question():
    differ = 0
    for task in World(1).tasks(200, seed=1):
        assert World(1).gold_reward(task.prompt, task.reference) >= 0.95
        assert task.arguments == {"seed": 1}
        try:
            differ += World(0).gold_reward(task.prompt, task.reference) < 0.95
        except ValueError:  # nobody has that job there
            differ += 1
    assert differ > 30


def test_questions_are_immutable():
    asked = drawn("train", 1)[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        asked.question.format = None
