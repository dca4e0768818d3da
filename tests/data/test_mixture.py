"""The data order: deterministic proportions, no repeats within an epoch, exact resumption."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhenlong.data import Mixture, parse_mixture_spec, read_mixture
from zhenlong.errors import UserError
from zhenlong.records import Document

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=4)
SEED = st.integers(0, 5)


@st.composite
def sizes_and_weights(draw):
    sizes = draw(SIZES)
    return sizes, draw(st.lists(st.floats(0.01, 100), min_size=len(sizes), max_size=len(sizes)))


@given(sizes_and_weights(), SEED, st.integers(1, 200))
@settings(deadline=None)
def test_a_source_is_never_a_full_draw_ahead_of_its_weight(mixture, seed, draws):
    sizes, weights = mixture
    order = Mixture(sizes, weights, seed)
    order.draw(draws)
    shares = [weight / sum(weights) * draws for weight in weights]
    assert sum(order.drawn) == draws
    assert all(drawn < share + 1 + 1e-9 for drawn, share in zip(order.drawn, shares, strict=True))


def test_proportions_are_exact_in_the_long_run():
    order = Mixture([3, 50, 7], [0.5, 0.3, 0.2])
    order.draw(10_000)
    assert order.drawn == (5000, 3000, 2000)


@given(sizes_and_weights(), SEED)
@settings(deadline=None)
def test_no_record_repeats_before_its_source_s_epoch_ends(mixture, seed):
    sizes, weights = mixture
    order = Mixture(sizes, weights, seed)
    drawn = order.draw(120)
    offset = 0
    for size in sizes:
        mine = [index - offset for index in drawn if offset <= index < offset + size]
        for start in range(0, len(mine) - size + 1, size):
            assert sorted(mine[start : start + size]) == list(range(size))
        offset += size


@given(SIZES, SEED, st.integers(1, 3))
@settings(deadline=None)
def test_without_weights_each_epoch_is_one_pass_over_all_records(sizes, seed, epochs):
    order = Mixture(sizes, seed=seed)
    for _ in range(epochs):
        assert sorted(order.draw(sum(sizes))) == list(range(sum(sizes)))


@given(sizes_and_weights(), SEED, st.integers(0, 60), st.integers(1, 60))
@settings(deadline=None)
def test_resuming_from_a_json_state_continues_exactly(mixture, seed, before, after):
    order = Mixture(*mixture, seed)
    order.draw(before)
    state = json.loads(json.dumps(order.state_dict()))
    resumed = Mixture(*mixture, seed)
    resumed.load_state_dict(state)
    assert resumed.draw(after) == order.draw(after)


def test_the_order_does_not_depend_on_how_many_are_drawn_at_once():
    one, many = Mixture([5, 7], [2, 1], seed=3), Mixture([5, 7], [2, 1], seed=3)
    assert [one.draw(1)[0] for _ in range(40)] == many.draw(40)


def test_epochs_and_seeds_differ():
    order = Mixture([50])
    first, second = order.draw(50), order.draw(50)
    assert first != second
    assert first != Mixture([50], seed=1).draw(50)
    assert first != list(range(50))


@pytest.mark.parametrize(("sizes", "weights"), [([], None), ([3, 0], None), ([3], [0.0]), ([3], [1, 2]), ([3], [-1])])
def test_an_empty_mixture_is_refused(sizes, weights):
    with pytest.raises(UserError, match="mixture: expected"):
        Mixture(sizes, weights)


def test_the_state_of_other_data_is_refused():
    with pytest.raises(UserError, match=r"the saved sizes \[3\] are not those of this data, \[4\]"):
        Mixture([4]).load_state_dict(Mixture([3]).state_dict())


@pytest.mark.parametrize(
    ("specs", "sources"),
    [
        ("a.jsonl", [("a.jsonl", None)]),
        ("a.jsonl*0.7, b.jsonl*0.3", [("a.jsonl", 0.7), ("b.jsonl", 0.3)]),
        (["a,b.jsonl*2", "world:tasks?n=5*1"], [("a,b.jsonl", 2.0), ("world:tasks?n=5", 1.0)]),
        ("hf:o/n:c@test*1e-2,x.txt?by=line*3", [("hf:o/n:c@test", 0.01), ("x.txt?by=line", 3.0)]),
    ],
)
def test_sources_and_weights_are_parsed(specs, sources):
    assert [(source.spec, source.weight) for source in parse_mixture_spec(specs).sources] == sources


def test_the_name_of_an_existing_file_is_not_parsed(tmp_path):
    path = tmp_path / "a,b*0.5"
    path.touch()
    assert [(source.spec, source.weight) for source in parse_mixture_spec(str(path)).sources] == [(str(path), None)]


@pytest.mark.parametrize(
    ("specs", "problem"),
    [
        ("a*0.5,b", "some sources have a weight"),
        ("a*0", "not a number above 0"),
        ("a*-1", "not a number above 0"),
        ("a*1e999", "not a number above 0"),
        ("a*1.2.3", "not a number above 0"),
        ("a,,b", "contains an empty source"),
        ([], "contains an empty source"),
    ],
)
def test_the_error_for_an_invalid_specification_says_what_is_wrong(specs, problem):
    with pytest.raises(UserError, match=problem):
        parse_mixture_spec(specs)


def test_read_mixture_concatenates_sources(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("\n".join(f"{name}{i}" for i in range(4)))
    specs = [f"{tmp_path / name}.txt?by=line*{weight}" for name, weight in (("a", 3), ("b", 1))]
    records, order = read_mixture(specs, Document, seed=1, limit=3)
    assert [r.text for r in records] == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert [records[i].text[0] for i in order.draw(8)].count("b") == 2
