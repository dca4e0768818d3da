"""Every epoch has every record once, whatever the batches; the position alone is the state."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhenlong.errors import UserError
from zhenlong.loop import DataOrder, Options


@given(st.integers(1, 30), st.integers(1, 12), st.booleans(), st.integers(0, 3))
def test_an_epoch_is_a_permutation(count, batch, full, seed):
    order = DataOrder(count, batch, seed, full=full)
    seen: list[int] = []
    while len(seen) < 3 * count:
        seen += order.next()
    for epoch in range(3):
        assert sorted(seen[epoch * count : (epoch + 1) * count]) == list(range(count))


@given(st.integers(1, 30), st.integers(1, 12), st.booleans(), st.integers(0, 12))
def test_a_saved_position_is_continued(count, batch, full, done):
    order = DataOrder(count, batch, 7, full=full)
    for _ in range(done):
        order.next()
    other = DataOrder(count, batch, 7, full=full)
    other.load_state_dict(order.state_dict())
    assert [order.next() for _ in range(5)] == [other.next() for _ in range(5)]


@given(st.integers(1, 30), st.integers(1, 12), st.sampled_from([0.3, 1.0, 1.5, 2.0]))
def test_the_steps_of_an_epoch_cover_it_and_no_more(count, batch, epochs):
    order = DataOrder(count, batch)
    steps = order.steps(Options(epochs=epochs))
    seen = sum(len(order.next()) for _ in range(steps))
    assert epochs * count <= seen < epochs * count + batch
    assert order.steps(Options(epochs=epochs, steps=5)) == 5


def test_batches_are_short_at_the_end_of_an_epoch_or_full():
    short, full = DataOrder(5, 2), DataOrder(5, 2, full=True)
    assert [len(short.next()) for _ in range(4)] == [2, 2, 1, 2]
    assert [len(full.next()) for _ in range(4)] == [2, 2, 2, 2]


def test_epochs_and_seeds_differ_and_order_can_be_kept():
    a, b, plain = DataOrder(50, 50, 0), DataOrder(50, 50, 1), DataOrder(50, 50, shuffle=False)
    first = a.next()
    assert first != a.next()
    assert first != b.next()
    assert plain.next() == plain.next() == list(range(50))


def test_no_records_are_refused():
    with pytest.raises(UserError, match="at least one record"):
        DataOrder(0, 4)
