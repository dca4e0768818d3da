"""Mathematical answers in their usual forms, and robustness of the check against hostile responses."""

import json
import threading

import pytest

from zhenlong.errors import UserError
from zhenlong.verify import check_math


@pytest.mark.parametrize(
    ("reference", "response"),
    [
        ("She sold 48/2 = 24 clips.\n#### 72", "48 + 24 = 72 clips, so\n#### 72"),
        ("#### 1,000", "The answer is 1000."),
        ("72", "The answer is 72 apples, and it took 3 days."),
        ("72", "First I thought 3, but it is \\boxed{72}, not 5."),
        ("$\\{3, 72\\}$", "\\boxed{72} and \\boxed{3}"),
        ("x^2 + 1", "\\boxed{1 + x^2}"),
        ("$\\frac{1}{2}$", "\\boxed{0.5}"),
        ("\\frac{1}{2}", "It is 1/2."),
        ("50", "50%"),
        ("-3", "#### -3.0"),
    ],
)
def test_right_answers_in_all_forms(reference: str, response: str) -> None:
    assert check_math(response, reference) == 1.0


@pytest.mark.parametrize(
    ("reference", "response"),
    [
        ("#### 72", "#### 73"),
        ("#### 72", "72 was my first guess\n#### 7"),
        ("#### 72", "I do not know."),
        ("(1, 2)", "so we get $(1, 2)$"),
        ("#### 18", "She makes 9 * 2 = $18 every day."),
        ("#### 72", ""),
        ("72", "either \\boxed{3} or \\boxed{72}"),
        ("72", "-72"),
        ("x^2 + 1", "\\boxed{x^2 - 1}"),
        ("72", "\\boxed{(((((((}"),
        ("72", "1" * 5000),
        ("72", "$" * 3000),
    ],
)
def test_wrong_and_unparsable_answers_are_wrong(reference: str, response: str) -> None:
    assert check_math(response, reference) == 0.0


def test_an_endless_expression_is_stopped_and_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zhenlong.verify.math_verify_check.TIMEOUT_SECONDS", 1)
    assert check_math("\\boxed{9^{9^{9^{9}}}}", "72") == 0.0


def test_other_threads_get_the_same_verdicts() -> None:
    pairs = [("72", "#### 72"), ("73", "#### 72"), ("1/2", "\\boxed{0.5}"), ("a\n#### 5\n", "five\n\n#### 5")]
    verdicts: dict[int, float] = {}

    def ask(i: int) -> None:
        verdicts[i] = check_math(pairs[i][1], pairs[i][0])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(pairs))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert verdicts == {i: check_math(response, reference) for i, (reference, response) in enumerate(pairs)}


@pytest.mark.parametrize("reference", ["", "####", "?"])
def test_a_reference_without_an_answer_is_a_user_error(reference: str) -> None:
    with pytest.raises(UserError, match="verifier exact"):
        check_math("1", reference)


@pytest.mark.real_data
def test_gsm8k_solutions_are_right_and_each_others_wrong(datasets_folder) -> None:
    with open(datasets_folder / "gsm8k" / "test.jsonl", encoding="utf-8") as file:
        answers = [json.loads(line)["answer"] for line in file][:150]
    assert all(check_math(answer, answer) == 1.0 for answer in answers)
    numbers = [answer.rsplit("####", 1)[1].strip() for answer in answers]
    for mine, other, response in zip(numbers, numbers[1:], answers[1:], strict=False):
        assert check_math(response, mine) == float(mine == other)
