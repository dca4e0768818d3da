"""Data set statistics on texts with known values."""

import pytest

from zhenlong.data.dataset_stats import dataset_stats, format_stats, length_stats, preference_stats, record_text
from zhenlong.records import Demonstration, Document, Message, Ranking, Rating, Task

ASK, ANSWER = Message("user", "one two three"), Message("assistant", "four")
CALL = {"type": "function", "function": {"name": "find", "arguments": {}}}


def placed(*records):
    return [(f"line {i + 1}", record) for i, record in enumerate(records)]


def test_length_statistics_have_quantiles_and_a_complete_histogram():
    found = length_stats(list(range(101)))
    assert (found.count, found.mean, found.p10, found.median, found.p90, found.maximum) == (101, 50, 10, 50, 90, 100)
    assert sum(count for _, _, count in found.histogram) == 101
    assert found.histogram[0][0] == 0


def test_small_counts_have_one_bin_each():
    assert length_stats([2, 2, 4]).histogram == ((0, 1, 0), (1, 2, 0), (2, 3, 2), (3, 4, 0), (4, 5, 1))


def test_record_text_has_the_prompt_before_the_last_response_and_the_responses():
    system = Message("system", "Be brief.")
    turns = (system, ASK, Message("assistant", "", (CALL,)), Message("tool", "2"), ANSWER)
    said = record_text(Demonstration(turns))
    assert said.turns == 4
    assert said.responses[1] == "four"
    assert "find" in said.responses[0]
    assert said.prompt.startswith("Be brief.\n\none two three\n\n<tool_call>")
    assert record_text(Ranking((ASK,), ("a", "b"), (1, 2))).turns == 2
    assert record_text(Rating((ASK,), "a", True)).responses == ("a",)
    assert record_text(Task((ASK,), "ref")).responses == ()
    assert record_text(Document("text")).prompt == ""


def test_lists_headings_and_code_blocks_are_recognised():
    texts = ["- a\n- b", "1. a\n 2) b", "- a", "a - b\nc - d", "# Title\ntext", "#hashtag", "```\ncode\n```", "`code`"]
    found = format_stats(texts)
    assert (found.list_fraction, found.heading_fraction, found.code_fraction) == (2 / 8, 1 / 8, 1 / 8)


def test_preference_statistics_measure_length_and_how_often_the_longer_wins():
    rankings = [
        Ranking((ASK,), ("aa bb", "c"), (1, 2)),  # 4 characters and a word longer
        Ranking((ASK,), ("c", "aa bb"), (1, 2)),
        Ranking((ASK,), ("cc", "dd"), (1, 2)),  # equal length: half
        Ranking((ASK,), ("aa bb cc", "d", "e"), (1, 2, 2)),  # two pairs
    ]
    found = preference_stats(rankings, lambda texts: [len(text) for text in texts])
    assert found.pairs == 5
    assert found.longer_win_rate == pytest.approx((1 + 0 + 0.5 + 1 + 1) / 5)
    assert found.length_gap_characters == found.length_gap_tokens == pytest.approx((4 - 4 + 0 + 7 + 7) / 5)
    assert found.length_gap_words == pytest.approx((1 - 1 + 0 + 2 + 2) / 5)
    assert preference_stats([]) is None


def test_vocabulary_duplicates_and_desirable_fraction():
    story = " ".join(f"word{i}" for i in range(40))
    records = [
        Rating((ASK,), story, True),
        Rating((ASK,), story.upper(), True),
        Rating((ASK,), f"{story} end", False),
        Rating((Message("user", "other"),), "Four four", True),
    ]
    found = dataset_stats(placed(*records))
    assert (found.duplicates.exact, found.duplicates.near, found.duplicates.repeated_prompts) == (1, 2, 2)
    ((first, later, similarity, a, b),) = found.duplicates.examples
    assert (first, later) == ("line 1", "line 3")
    assert 0.9 < similarity < 1
    assert b.endswith(" end")
    assert not a.endswith(" end")
    assert found.desirable_fraction == 0.75
    assert found.word_count == 3 * 3 + 40 * 3 + 1 + 1 + 2
    assert found.vocab_size == 3 + 40 + 1 + 1 + 1
    assert found.prompt_tokens is None
    assert found.preference is None


def test_a_kind_without_responses_has_no_response_statistics():
    found = dataset_stats(placed(Task((ASK,), "ref")))
    assert found.response_characters is None
    assert found.format is None
    assert found.prompt_characters.count == 1
    assert dataset_stats(placed(Document("a b"))).turns is None
