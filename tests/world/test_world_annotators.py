"""Annotators: they mostly agree with the gold reward, follow their biases, and report preference strength."""

import math
from random import Random

import pytest

from zhenlong.records import Message
from zhenlong.world import Annotator, World, annotate, gold_reward
from zhenlong.world.annotators import INDIFFERENCE_THRESHOLD, PanelOptions, make_panel

WORLD = World(0)
SUM = (Message("user", "What is 3 + 4?"),)
RIGHT, CHATTY, WRONG = "7", "The answer is 7. I hope that helps.", "8"


def agreement(rankings) -> float:
    agreed = 0
    for row in rankings:
        ((better, worse),) = row.pairs()
        agreed += gold_reward(row.prompt, row.responses[better]) > gold_reward(row.prompt, row.responses[worse])
    return agreed / len(rankings)


def test_nine_labels_in_ten_agree_with_the_gold_reward():
    assert 0.87 <= agreement(WORLD.rankings(1500)) <= 0.94


def test_without_noise_and_tastes_all_labels_agree_with_the_gold_reward():
    rng = Random(0)
    sure = Annotator(noise=0)
    rows = [annotate(row.prompt, row.responses, sure, rng) for row in WORLD.rankings(300)]
    assert agreement([row for row in rows if row is not None]) == 1.0


def test_more_noise_lowers_agreement():
    assert (
        agreement(WORLD.rankings(600, panel=PanelOptions(noise=0.02)))
        > agreement(WORLD.rankings(600, panel=PanelOptions(noise=0.5))) + 0.1
    )


def test_preference_probabilities_follow_bradley_terry():
    rng, noise = Random(0), 0.2
    gap = gold_reward(SUM, RIGHT) - gold_reward(SUM, CHATTY)
    rows = [annotate(SUM, (RIGHT, CHATTY), Annotator(noise=noise), rng) for _ in range(4000)]
    share = sum(row.ranks == (1, 2) for row in rows) / len(rows)
    assert share == pytest.approx(1 / (1 + math.exp(-gap / noise)), abs=0.03)


def test_ties_are_not_ranked():
    assert annotate(SUM, ("7", "3 + 4 = 7."), Annotator(), Random(0)) is None


def test_biases_shift_preferences_in_their_direction():
    rng = Random(0)
    assert annotate(SUM, (RIGHT, CHATTY), Annotator(noise=0), rng).ranks == (1, 2)
    assert annotate(SUM, (RIGHT, CHATTY), Annotator(noise=0, length_bias=1), rng).ranks == (2, 1)
    prompt = (Message("user", "Name 3 animals."),)
    plain, listed = "Dog and cat and pig are animals here now.", "1. dog\n2. cat\n3. pig"
    assert annotate(prompt, (plain, listed), Annotator(noise=0, list_bias=0.5), rng).ranks == (2, 1)
    assert annotate(prompt, (plain, listed), Annotator(noise=0, list_bias=-0.5), rng).ranks == (1, 2)


def test_a_length_bias_of_the_panel_makes_chosen_responses_longer():
    def longer(bias: float) -> float:
        rows = WORLD.rankings(600, panel=PanelOptions(length_bias=bias))
        extra = 0.0
        for row in rows:
            ((better, worse),) = row.pairs()
            extra += len(row.responses[better].split()) - len(row.responses[worse].split())
        return extra / len(rows)

    assert longer(1.0) > longer(0.0) + 1 > longer(-1.0) + 1


def test_tastes_can_decide_a_preference():
    prompt = (Message("user", "Hello, I am Mira."),)
    calm, loud = "Hello Mira, good day to you here, how are you?", "Hello Mira!"
    likes, hates = Annotator(noise=0, tastes=(0, 0.5, 0)), Annotator(noise=0, tastes=(0, -0.5, 0))
    assert annotate(prompt, (calm, loud), likes, Random(0)).ranks == (2, 1)
    assert annotate(prompt, (calm, loud), hates, Random(0)).ranks == (1, 2)


def test_strength_grows_with_the_gap():
    rng, sure = Random(0), Annotator(noise=0)
    by_strength = {}
    for row in WORLD.rankings(800):
        row = annotate(row.prompt, row.responses, sure, rng)
        if row is not None:
            ((better, worse),) = row.pairs()
            gap = gold_reward(row.prompt, row.responses[better]) - gold_reward(row.prompt, row.responses[worse])
            by_strength.setdefault(row.strength, []).append(gap)
    assert set(by_strength) == {1, 2, 3, 4}
    for low, high in ((1, 2), (2, 3), (3, 4)):
        assert max(by_strength[low]) <= min(by_strength[high])


def test_pairs_are_different_texts_and_often_both_good():
    rows = WORLD.rankings(1000)
    assert all(len(set(row.responses)) == 2 for row in rows)
    both = sum(min(gold_reward(row.prompt, text) for text in row.responses) >= 0.6 for row in rows)
    assert both / len(rows) >= 0.3
    gaps = [abs(gold_reward(row.prompt, row.responses[0]) - gold_reward(row.prompt, row.responses[1])) for row in rows]
    assert min(gaps) >= INDIFFERENCE_THRESHOLD - 1e-9


def test_rankings_of_four_have_four_texts_and_ranks():
    for row in WORLD.rankings(200, num_responses=4):
        assert len(set(row.responses)) == len(row.ranks) == 4
        assert min(row.ranks) == 1
        assert row.pairs()


def test_rankings_come_from_several_annotators_who_sometimes_disagree():
    assert len({row.annotator for row in WORLD.rankings(200, panel=PanelOptions(num_annotators=5))}) == 5
    first, second = make_panel(PanelOptions(2))
    assert first.tastes != second.tastes
    rng = Random(0)
    votes = [
        [annotate(row.prompt, row.responses, judge, rng) for judge in (first, second)] for row in WORLD.rankings(400)
    ]
    votes = [(one.ranks, other.ranks) for one, other in votes if one and other]
    differ = sum(a != b for a, b in votes) / len(votes)
    assert 0.02 < differ < 0.35


def test_ratings_follow_the_gold_reward_and_have_both_labels():
    rows = WORLD.ratings(1500)
    up = [gold_reward(row.prompt, row.response) for row in rows if row.desirable]
    down = [gold_reward(row.prompt, row.response) for row in rows if not row.desirable]
    assert min(len(up), len(down)) / len(rows) > 0.15
    assert sum(up) / len(up) > sum(down) / len(down) + 0.4
