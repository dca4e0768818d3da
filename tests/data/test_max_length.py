"""What is too long is an error, or is cut or left out by choice and counted; profiles add up."""

import pytest
from data.rows import DEMONSTRATION, PROMPT, RANKING, RATING
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_tokenizer

from zhenlong.data import ChatTemplate, enforce_max_length, fingerprint, require_prompt_fits, token_stats
from zhenlong.errors import UserError
from zhenlong.records import Document, Task

TEMPLATE = ChatTemplate.from_tokenizer(tiny_tokenizer())
SAMPLE = st.integers(1, 9).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 5), min_size=n, max_size=n), st.lists(st.booleans(), min_size=n, max_size=n)
    )
)


@given(st.lists(SAMPLE, max_size=8), st.integers(1, 9), st.sampled_from(["truncate", "drop"]))
def test_every_sample_is_kept_whole_cut_or_counted(samples, max_length, overlong):
    fitted = enforce_max_length(samples, max_length, overlong)
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


def test_too_long_is_an_error_that_names_the_sample_unless_chosen_otherwise():
    with pytest.raises(UserError, match="conversation 2: 3 tokens, more than the maximum of 2"):
        enforce_max_length([([1], [True]), ([1, 2, 3], [True] * 3)], 2, name="conversation")


def test_a_prompt_must_leave_room_in_the_context():
    require_prompt_fits([1, 2, 3], 4, "a.jsonl, line 1")
    with pytest.raises(UserError, match=r"a.jsonl, line 1: the prompt has 3 tokens, which leaves no room for 2 more"):
        require_prompt_fits([1, 2, 3], 4, "a.jsonl, line 1", min_response_tokens=2)


def test_a_profile_counts_what_training_sees():
    prompt, red, blue = len(TEMPLATE.encode_prompt(PROMPT)), len("Red.") + 1, len("Blue.") + 1
    for records, length, scored in (
        ([Document("abcd"), Document("é")], 6, 6),
        ([DEMONSTRATION], prompt + red, red),
        ([RANKING], prompt + red + blue, red + blue),
        ([RATING], prompt + red, red),
        ([Task(PROMPT)], prompt, 0),
    ):
        result = token_stats(records, TEMPLATE)
        assert (result.records, result.total_tokens) == (len(records), length)
        assert result.trained_fraction == pytest.approx(scored / length)
        assert result.kind == type(records[0]).__name__.lower()
        assert sorted(result.length_quantiles.values()) == list(result.length_quantiles.values())
    assert token_stats([Document("a" * n) for n in range(1, 101)], TEMPLATE).length_quantiles == {
        0.0: 1,
        0.5: 50,
        0.9: 90,
        0.99: 99,
        1.0: 100,
    }


def test_a_fingerprint_changes_with_the_records_and_their_order():
    a, b = Document("a"), Document("b")
    prints = {fingerprint(x) for x in ([a, b], [b, a], [a], [a, a])}
    assert len(prints) == 4
    assert fingerprint([a, b]) == fingerprint([Document("a"), Document("b")])
