"""Schedules start above zero, peak after the warm-up, end at their minimum, and are continuous."""

import math
from itertools import pairwise

import pytest

from zhenlong.loop import TrainingOptions, learning_rate, schedule_phase

SCHEDULES = ("constant", "linear", "cosine", "wsd")


def rates(total: int, **options) -> list[float]:
    return [learning_rate(step, TrainingOptions(lr=2.0, **options), total) for step in range(total + 1)]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 1, 10, 0.1])
def test_end_points(schedule, warmup):
    steps = round(warmup * 100) if warmup < 1 else warmup
    rate = rates(100, schedule=schedule, warmup_steps=warmup, min_lr_ratio=0.25)
    assert rate[0] == pytest.approx(2.0 / max(steps, 1))
    assert rate[steps] == max(rate) == 2.0
    assert rate[100] == pytest.approx(2.0 if schedule == "constant" else 0.5)
    assert all(value > 0 for value in rate)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_continuous_and_monotone_after_the_warmup(schedule):
    """On an n times finer grid no jump remains: the largest change shrinks at least as 1/sqrt(n), as for 1-sqrt."""
    coarse, fine = (rates(n, schedule=schedule, warmup_steps=0.1) for n in (100, 10_000))
    largest = [max(abs(a - b) for a, b in pairwise(rate)) for rate in (coarse, fine)]
    assert largest[1] <= largest[0] / math.sqrt(100) + 1e-12
    assert all(a >= b for a, b in pairwise(fine[1000:]))


def test_shapes_at_the_middle_of_the_decay():
    assert rates(100, schedule="linear")[50] == pytest.approx(1.0)
    assert rates(100, schedule="cosine")[25] == pytest.approx(1 + math.sqrt(0.5))
    assert rates(100, schedule="wsd", decay_fraction=0.4)[70] == pytest.approx(2 * (1 - math.sqrt(0.25)))


def test_wsd_is_stable_until_the_decay_fraction():
    options = TrainingOptions(schedule="wsd", warmup_steps=5, decay_fraction=0.3)
    phases = [schedule_phase(step, options, 100) for step in range(100)]
    assert phases == ["warmup"] * 5 + ["stable"] * 65 + ["decay"] * 30
    assert {learning_rate(step, options, 100) for step in range(5, 71)} == {options.lr}
    assert learning_rate(71, options, 100) < options.lr


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_warmup_longer_than_the_run_and_a_run_of_one_step_are_fine(schedule):
    assert rates(3, schedule=schedule, warmup_steps=10)[:3] == pytest.approx([2 / 3, 4 / 3, 2.0])
    assert rates(1, schedule=schedule, decay_fraction=0.0)[0] == 2.0
    assert rates(10, schedule=schedule, decay_fraction=1.0, warmup_steps=4)[4] == 2.0
