"""Overlong examples are an error, or truncated or dropped on request, and counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_tokenizer

from zhenlong.data import ChatTemplate, LengthLimit, enforce_max_length, require_prompt_fits
from zhenlong.errors import UserError

TEMPLATE = ChatTemplate.from_tokenizer(tiny_tokenizer())
SAMPLE = st.integers(1, 9).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 5), min_size=n, max_size=n), st.lists(st.booleans(), min_size=n, max_size=n)
    )
)


@given(st.lists(SAMPLE, max_size=8), st.integers(1, 9), st.sampled_from(["truncate", "drop"]))
def test_every_example_is_kept_truncated_or_counted_as_dropped(samples, max_length, overlong):
    fitted = enforce_max_length(samples, LengthLimit(max_length, overlong))
    assert len(fitted.examples) + fitted.dropped == len(samples)
    changed = 0
    for index, (ids, scored) in zip(fitted.indices, fitted.examples, strict=True):
        assert len(ids) <= max_length
        assert (ids, scored) == (samples[index][0][:max_length], samples[index][1][:max_length])
        changed += len(ids) < len(samples[index][0])
    assert changed == fitted.truncated
    for index in set(range(len(samples))) - set(fitted.indices):
        assert len(samples[index][0]) > max_length
        assert overlong == "drop" or not any(samples[index][1][:max_length])


def test_an_overlong_example_is_by_default_an_error_that_names_it():
    with pytest.raises(UserError, match="conversation 2: 3 tokens, more than the maximum of 2"):
        enforce_max_length([([1], [True]), ([1, 2, 3], [True] * 3)], LengthLimit(2), name="conversation")


def test_a_prompt_must_leave_room_in_the_context():
    require_prompt_fits([1, 2, 3], 4, "a.jsonl, line 1")
    with pytest.raises(UserError, match=r"a.jsonl, line 1: the prompt has 3 tokens, which leaves no room for 2 more"):
        require_prompt_fits([1, 2, 3], 4, "a.jsonl, line 1", min_response_tokens=2)
