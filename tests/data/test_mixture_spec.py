"""The grammar of data specifications, and the resulting order: weights, phases, limits, exact resumption."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhenlong.data import Mixture, parse_mixture_spec, read, read_mixture
from zhenlong.data.mixture_spec import SourceSpec
from zhenlong.errors import UserError
from zhenlong.records import Document

SIZES = [40, 10, 90]


def order(specs, sizes=SIZES, seed=0):
    return Mixture(sizes, None, seed, parse_mixture_spec(specs))


def per_source(mixture, drawn):
    starts = [sum(mixture.sizes[:i]) for i in range(len(mixture.sizes))]
    ends = [start + size for start, size in zip(starts, mixture.sizes, strict=True)]
    return [sum(start <= one < end for one in drawn) for start, end in zip(starts, ends, strict=True)]


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("a.jsonl", SourceSpec("a.jsonl")),
        ("a.jsonl*0.7", SourceSpec("a.jsonl", 0.7)),
        ("a.jsonl*0.7/0", SourceSpec("a.jsonl", 0.7, 0.0)),
        ("a.jsonl*1e+1/2e-1+cap=30+max_epochs=1.5", SourceSpec("a.jsonl", 10.0, 0.2, None, 1.5, 30)),
        ("world:tasks?n=5&seed=1+epochs=0.5", SourceSpec("world:tasks?n=5&seed=1", epochs=0.5)),
        ("c++/notes+extra.txt?by=line", SourceSpec("c++/notes+extra.txt?by=line")),
    ],
)
def test_weights_and_limits_of_a_source_are_parsed(text, source):
    late = ",b.jsonl*1/1" if source.decay_weight is not None else ",b.jsonl*1" if source.weight else ""
    assert parse_mixture_spec(text + late).sources[0] == source


def test_the_name_of_an_existing_file_is_not_parsed(tmp_path):
    path = tmp_path / "a*2+cap=3"
    path.touch()
    assert parse_mixture_spec([f"{path}+cap=4"]).sources == (SourceSpec(str(path), cap=4),)
    assert parse_mixture_spec(str(path)).sources == (SourceSpec(str(path)),)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=4), st.floats(0.5, 8))
def test_temperature_flattens_weights_by_size(sizes, temperature):
    names = ",".join(f"s{i}" for i in range(len(sizes)))
    found = order(f"{names},temperature={temperature}", sizes).weights
    wanted = [size ** (1 / temperature) for size in sizes]
    assert found == pytest.approx([one / sum(wanted) for one in wanted])


def test_temperature_1_is_by_size_and_a_large_one_is_uniform():
    assert order("a,b,c,temperature=1").weights == pytest.approx([size / 140 for size in SIZES])
    assert order("a,b,c,temperature=1e6").weights == pytest.approx([1 / 3] * 3, abs=1e-4)


def test_a_cap_of_the_mixture_bounds_the_size_of_a_source():
    assert order("a,b,c,cap=40").weights == pytest.approx([40 / 90, 10 / 90, 40 / 90])
    assert order("a,b,c,cap=40,temperature=2").weights[0] == order("a,b,c,cap=40,temperature=2").weights[2]


def test_epochs_are_passes_over_a_source_per_epoch_of_the_mixture():
    mixture = order("a+epochs=2,b+epochs=3,c+epochs=0.5")
    assert mixture.epoch_size == 80 + 30 + 45
    assert per_source(mixture, mixture.draw(mixture.epoch_size)) == [80, 30, 45]


def test_after_max_epochs_a_source_is_dropped_and_the_others_keep_their_proportions():
    mixture = order("a*1,b*1+max_epochs=2,c*2")
    first = mixture.draw(80)
    assert per_source(mixture, first) == [20, 20, 40]
    later = mixture.draw(300)
    assert per_source(mixture, later) == [100, 0, 200]


def test_an_error_says_when_all_sources_have_reached_max_epochs():
    mixture = order("a+max_epochs=1,b+max_epochs=1", [4, 3])
    assert sorted(mixture.draw(7)) == list(range(7))
    with pytest.raises(UserError, match="every source has reached its max_epochs"):
        mixture.draw(1)


def test_the_decay_phase_has_its_own_weights_counted_from_its_start():
    mixture = order("a*0.9/0.1,b*0/0.4,c*0.1/0.5")
    assert mixture.has_decay_weights
    assert per_source(mixture, mixture.draw(100)) == [90, 0, 10]
    assert per_source(mixture, mixture.draw(100, decay=True)) == [10, 40, 50]


def test_without_decay_weights_the_decay_phase_changes_nothing():
    one, other = order("a*1,b*2,c*3"), order("a*1,b*2,c*3")
    assert not one.has_decay_weights
    assert one.draw(50) + one.draw(50, decay=True) == other.draw(100)


SPECS = [
    "a,b,c",
    "a*3,b*1,c*2",
    "a*1/0,b*1/5,c*0/1",
    "a+max_epochs=1,b+max_epochs=2,c",
    "a,b,c,temperature=3",
]


@given(st.sampled_from(SPECS), st.integers(0, 50), st.integers(0, 30), st.integers(0, 30))
@settings(deadline=None)
def test_resuming_in_either_phase_continues_exactly(specs, early, late, after):
    mixture = order(specs)
    mixture.draw(early)
    mixture.draw(late, decay=True)
    resumed = order(specs)
    resumed.load_state_dict(json.loads(json.dumps(mixture.state_dict())))
    phase = bool(late)
    assert resumed.draw(after, decay=phase) == mixture.draw(after, decay=phase)
    assert resumed.state_dict() == mixture.state_dict()


@given(st.sampled_from(SPECS), st.integers(1, 70), st.integers(1, 70))
@settings(deadline=None)
def test_in_neither_phase_is_a_source_a_full_draw_ahead_of_its_weight(specs, early, late):
    mixture = order(specs, [400, 400, 400])
    for draws, shares, phase in ((early, mixture.weights, False), (late, mixture.decay_weights, True)):
        drawn = per_source(mixture, mixture.draw(draws, decay=phase))
        if mixture.has_decay_weights or not phase:
            assert all(count < share * draws + 1 + 1e-9 for count, share in zip(drawn, shares, strict=True))


def test_a_state_without_phases_and_limits_is_accepted():
    old = {"sizes": [3, 5], "weights": [0.5, 0.5], "seed": 0, "drawn": [2, 1]}
    mixture, same = Mixture([3, 5], [1, 1]), Mixture([3, 5], [1, 1])
    mixture.load_state_dict(old)
    same.draw(3)
    assert mixture.draw(10) == same.draw(10)


def test_a_state_with_other_limits_is_refused():
    with pytest.raises(UserError, match=r"the saved max_draws \[8, None\] are not those of this data, \[4, None\]"):
        order("a*1+max_epochs=1,b*1", [4, 3]).load_state_dict(order("a*1+max_epochs=2,b*1", [4, 3]).state_dict())


def test_weights_by_size_follow_changed_sizes_and_given_weights_do_not():
    assert order("a,b", [10, 30]).with_sizes([20, 20]).weights == (0.5, 0.5)
    assert order("a*1,b*3", [10, 30]).with_sizes([20, 20]).weights == (0.25, 0.75)
    assert Mixture([10, 30]).with_sizes([5, 5]).weights == (0.5, 0.5)
    assert Mixture([10, 30], [1, 3], seed=7).with_sizes([5, 5]).state_dict()["seed"] == 7


def test_a_capped_source_is_subsampled_by_the_seed(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(f"line {i}" for i in range(50)))
    some = [read_mixture(f"{path}?by=line+cap=7", Document, seed=seed)[0] for seed in (0, 0, 1)]
    every = read(f"{path}?by=line", Document)
    assert some[0] == some[1] != some[2]
    assert len(some[0]) == 7
    assert [one for one in every if one in some[0]] == some[0]
    assert read_mixture(f"{path}?by=line+cap=70", Document)[0] == every


@pytest.mark.parametrize(
    ("specs", "problem"),
    [
        ("a*0.5/0.5,b*0.5", "some sources have a weight for the decay phase"),
        ("a*0,b*1", "the weight 0 is not a number above 0"),
        ("a*0/1,b*0/1", "no source has a weight above 0 in the stable phase"),
        ("a*1/0,b*1/0", "no source has a weight above 0 in the decay phase"),
        ("a*1,b*1,temperature=2", "weights already set the proportions"),
        ("a*1+epochs=2", "weights already set the proportions"),
        ("a+epochs=2,b,cap=3", "epochs already set the proportions"),
        ("a,b,temperature=0", "temperature=0 is not a number above 0"),
        ("a,b,temperature=hot", "temperature=hot is not a number above 0"),
        ("a+cap=2.5", "a.cap=2.5: cap=2.5 is not a whole number above 0"),
        ("a+cap=2+cap=3", "cap is given twice"),
        ("a+max_epochs=-1", "max_epochs=-1 is not a number above 0"),
        ("temperature=2", "has no source"),
    ],
)
def test_contradictory_specifications_are_refused(specs, problem):
    with pytest.raises(UserError, match=problem):
        parse_mixture_spec(specs)


@pytest.mark.parametrize("specs", ["a.txt*2", "a.txt+cap=3", "a.txt,b.txt,temperature=2", ["a.txt+epochs=2"]])
def test_data_that_is_read_once_takes_no_weights(specs):
    with pytest.raises(UserError, match="order training data, but here each record is read once; remove them"):
        read(specs, Document)
