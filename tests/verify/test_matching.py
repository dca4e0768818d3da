"""String and pattern matching."""

import pytest

from zhenlong.errors import UserError
from zhenlong.verify import check_exact, check_regex, normalize_text


def test_normalised_match_ignores_case_punctuation_articles_and_spacing() -> None:
    assert check_exact("  The Eiffel  Tower! ", "eiffel tower") == 1.0
    assert check_exact("Eiffel tower, Paris", "eiffel tower") == 0.0
    assert (
        normalize_text(normalize_text("The U.S.A., a Nation")) == normalize_text("The U.S.A., a Nation") == "usa nation"
    )


def test_plain_match_ignores_only_white_space_at_the_ends() -> None:
    assert check_exact(" Paris\n", "Paris", normalize=False) == 1.0
    assert check_exact("paris", "Paris", normalize=False) == 0.0


def test_other_accepted_answers_count_too() -> None:
    assert check_exact("NYC", "New York", accept=["nyc", "New York City"]) == 1.0
    assert check_exact("Boston", "New York", accept=["nyc"]) == 0.0


def test_a_pattern_is_searched_or_has_to_match_fully() -> None:
    assert check_regex("It is 42, I think", "", pattern=r"\d+") == 1.0
    assert check_regex("It is 42", "", pattern=r"\d+", full=True) == 0.0
    assert check_regex(" 42\n", "", pattern=r"\d+", full=True) == 1.0
    assert check_regex("YES", "", pattern="yes") == 0.0
    assert check_regex("YES", "", pattern="yes", ignore_case=True) == 1.0


def test_the_last_match_s_group_has_to_be_the_reference() -> None:
    pattern = r"answer: (\w+)"
    assert check_regex("answer: B, no, answer: C", "C", pattern=pattern) == 1.0
    assert check_regex("answer: C, no, answer: B", "C", pattern=pattern) == 0.0
    assert check_regex("answer: anything", "", pattern=pattern) == 1.0
    assert check_regex("no such thing", "C", pattern=r"(x)?y") == 0.0


def test_invalid_pattern_is_a_user_error() -> None:
    with pytest.raises(UserError, match="not a regular expression"):
        check_regex("", "", pattern="(")
