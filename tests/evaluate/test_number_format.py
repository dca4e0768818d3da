"""Numbers are shown without exponents."""

import pytest

from zhenlong.evaluate.results.number_format import format_short


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345.678, "12,346"),
        (1.234e8, "123,400,000"),
        (0.12345, "0.123"),
        (-0.5, "-0.5"),
        (99.96, "100"),
        (0.00004321, "0.0000432"),
        (0.0, "0"),
        (1e-15, "0"),
        (None, "-"),
        (float("nan"), "-"),
    ],
)
def test_a_number_has_about_three_significant_digits_and_no_exponent(value, text):
    assert format_short(value) == text
