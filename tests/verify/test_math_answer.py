"""The final answer of a worked solution, and comparisons that depend on its notation."""

import pytest

from zhenlong.guarded_call import time_limit
from zhenlong.verify.math_answer import read_math
from zhenlong.verify.math_notation import as_intervals, clean_math
from zhenlong.verify.math_verify_check import check_math

ROWS = (
    ("42", "\\boxed{\\boxed{42}}", 1.0),
    ("42", "\\fbox{42}", 1.0),
    ("42", "\\boxed{\\text{42}}", 1.0),
    ("42", "\\boxed{42 \\text{ cm}}", 1.0),
    ("1250", "\\boxed{1,250}", 1.0),
    ("1250", "The answer is 1,250.", 1.0),
    ("1250", "The answer is $1{,}250$.", 1.0),
    ("\\frac{7}{2}", "\\boxed{3\\frac{1}{2}}", 1.0),
    ("3.5", "\\boxed{\\frac{7}{2}}", 1.0),
    ("\\{1,2\\}", "\\boxed{\\{2,1\\}}", 1.0),
    ("(1,2)", "\\boxed{(2,1)}", 0.0),
    ("(3,\\infty)", "\\boxed{x>3}", 1.0),
    ("[3,\\infty)", "\\boxed{x>3}", 0.0),
    ("(1,2]", "\\boxed{1<x\\le 2}", 1.0),
    ("x>3", "\\boxed{(3,\\infty)}", 1.0),
    ("(1,2)", "\\boxed{(1,2)}", 1.0),
    ("[1,2]", "\\boxed{(1,2)}", 0.0),
    ("5", "x=5", 1.0),
    ("5", "\\boxed{x=5}", 1.0),
    ("x=5", "\\boxed{5}", 1.0),
    ("90", "\\boxed{90^\\circ}", 1.0),
    ("90^\\circ", "\\boxed{90}", 1.0),
    ("10", "\\boxed{\\$10}", 1.0),
    ("10", "\\boxed{10\\text{ dollars}}", 1.0),
    ("3000000", "\\boxed{3\\times 10^6}", 1.0),
    ("1.5e3", "\\boxed{1500}", 1.0),
    ("42", "#### Final answer\n$$\\boxed{42}$$", 1.0),
    ("42", "#### Final answer\n\\boxed{42}\nSome trailing text 7.", 1.0),
    ("18", "She makes 18.\n#### 18 dollars", 1.0),
    ("18", "#### $18", 1.0),
    ("18", "#### 1. Setup\n\\boxed{18}\n#### 2. Check\nok", 1.0),
    ("2516_9", "\\boxed{2516_8}", 0.0),
    ("101_2", "\\boxed{101_{2}}", 1.0),
    ("B", "\\boxed{B}", 1.0),
    ("B", "\\boxed{b}", 0.0),
    ("\\text{B}", "\\boxed{B}", 1.0),
    ("42", "I got 40 and then 42", 0.0),
    ("42", "42", 1.0),
    ("42", "$42$", 1.0),
    ("42", "**Answer:** 42", 1.0),
    ("42", "The final answer is **42**.", 1.0),
    ("42", "### Final Answer\n\n42", 1.0),
    ("42", "答案是42。", 1.0),
    ("42", "\\boxed{41} or \\boxed{42}", 0.0),
    ("42", "First \\boxed{41}. Wait, no. \\boxed{42}", 1.0),
    ("1,2", "\\boxed{1} and \\boxed{2}", 1.0),
    ("42", "\\boxed{42", 0.0),
    ("\\frac12", "\\boxed{0.5}", 1.0),
    ("\\frac{1}{2}", "\\boxed{1/2}", 1.0),
    ("50\\%", "\\boxed{50\\%}", 1.0),
    ("50\\%", "\\boxed{\\frac12}", 1.0),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\boxed{\\begin{pmatrix}1\\\\2\\end{pmatrix}}", 1.0),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\boxed{\\begin{pmatrix}2\\\\1\\end{pmatrix}}", 0.0),
    ("x^2+1", "\\boxed{1+x^2}", 1.0),
    ("X", "\\boxed{x}", 0.0),
    ("2\\sqrt{3}", "\\boxed{\\sqrt{12}}", 1.0),
    ("(-\\infty,-1)\\cup(1,\\infty)", "\\boxed{(-\\infty,-1)\\cup(1,\\infty)}", 1.0),
    ("(-\\infty,-1)\\cup(1,\\infty)", "\\boxed{x<-1 \\text{ or } x>1}", 1.0),
    ("\\pm 2", "\\boxed{\\pm 2}", 1.0),
    ("2,-2", "\\boxed{\\pm 2}", 1.0),
    ("-3", "\\boxed{-3}", 1.0),
    ("-3", "\\boxed{−3}", 1.0),
    ("7", "The answer is 7 apples.", 1.0),
    ("7", "So there are 7.", 0.0),
    ("0.333", "\\boxed{\\frac13}", 0.0),
    ("1000000", "\\boxed{10^6}", 1.0),
    ("|x-3|", "\\boxed{|3-x|}", 1.0),
    ("|x|", "\\boxed{|x|}", 1.0),
    ("2", "\\boxed{|{-2}|}", 1.0),
    ("\\text{Tuesday}", "\\boxed{Tuesday}", 1.0),
    ("y=2x+1", "\\boxed{y=2x+1}", 1.0),
    ("2x+1", "\\boxed{y=2x+1}", 1.0),
    ("11\\sqrt2", "\\boxed{11\\sqrt{2}}", 1.0),
    ("x \\in [2,5)", "\\boxed{2 \\le x < 5}", 1.0),
    ("12", "The answer is 3 \\cdot 4 = 12.", 1.0),
    ("12", "Answer: 12 (see above)", 1.0),
    ("5", "\\boxed{5} meters.", 1.0),
)


@pytest.mark.parametrize(("gold", "output", "right"), ROWS)
def test_an_answer_is_read_and_compared(gold, output, right):
    assert check_math(output, f"\\boxed{{{gold}}}") == right


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("6 * 7 = 42\n#### 42", "42"),
        ("#### Final answer\n\\boxed{42}", "42"),
        ("#### 4. Check\nIt holds.", None),
        ("So \\boxed{1}, then \\boxed{2}.", "2"),
        ("\\boxed{\\frac{1}{2}} by halving", "\\frac{1}{2}"),
        ("\\boxed{42", None),
        ("First 6 * 7 = 42, now subtract", None),
        ("", None),
    ],
)
def test_what_is_read(text, answer):
    assert read_math(text) == answer


@pytest.mark.parametrize(
    "unit", ["\\boxed{", "\\boxed{1} ", "#### 1 ", "answer is ", "{", "x<", "$", "\\text{", "\\boxed "]
)
def test_hostile_texts_are_read_in_time(unit):
    with time_limit(10):
        read_math(unit * ((1 << 20) // len(unit)))
        assert as_intervals(clean_math(unit * 2000)) == []
