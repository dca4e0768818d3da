"""Rewards written in one line: their meaning, and errors that point at the place."""

import pytest
from answers import CUT, RIGHT, WRONG, answer

from zhenlong.errors import UserError
from zhenlong.rewards import reward_from
from zhenlong.rewards.grammar import Gate, Name, Sum, parse

ANSWERS = [RIGHT, WRONG, CUT]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("verifier", [1, 0, 0]),
        ("0.25 * verifier", [0.25, 0, 0]),
        ("verifier + -0.5*truncated", [1, 0, -0.5]),
        ("2*verifier+3*verifier", [5, 0, 0]),
        ("2*(verifier + truncated)", [2, 0, 2]),
        ("gate(verifier, 3*verifier)", [3, 0, 0]),
        ("gate(verifier, 3*verifier, -1)", [3, -1, -1]),
        ("2*gate(verifier + truncated, verifier, -1.5)", [2, -3, 0]),
        ("regex:[45]", [1, 1, 0]),
        ('regex:"(4|5)" + regex:It', [1, 1, 1]),
        (["verifier", "-1*truncated"], [1, 0, -1]),
        (["verifier", lambda answers: [10.0] * len(answers)], [11, 10, 10]),
        (lambda answers: [7.0] * len(answers), [7, 7, 7]),
    ],
)
def test_meaning(spec, expected) -> None:
    assert reward_from(spec)(ANSWERS) == [float(x) for x in expected]


def test_structure() -> None:
    rm = Name("model:runs/rm-2")
    assert parse("0.7*model:runs/rm-2 + 0.3*verifier") == Sum(((0.7, rm), (0.3, Name("verifier"))))
    assert parse("gate(verifier, model:runs/rm-2)") == Gate(Name("verifier"), rm, 0.0)
    assert parse('model:"my runs/rm (2)"') == Name("model:my runs/rm (2)")
    assert parse("model:C:\\rm") == Name("model:C:\\rm")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", "expected one of verifier, .*got the end at character 1"),
        ("verifer", "got 'verifer' at character 1"),
        ("verifier + ", "got the end at character 12"),
        ("verifier truncated", "expected . or the end, got 'truncated' at character 10"),
        ("0.5 verifier", r"expected '\*', got 'verifier'"),
        ("gate(verifier)", r"expected ',', got '\)'"),
        ("gate(verifier, truncated, x)", "expected a number, got 'x'"),
        ("(verifier", r"expected '\)', got the end"),
        ('regex:"a', "quote is never closed"),
        ("model:", "got 'model:'"),
        ("regex:(", "got"),
        ('regex:"("', "not a regular expression"),
        ([], "expected at least one of"),
        ("model:runs/none", "runs/none: no such folder"),
        ("none.py:score", "no file none.py"),
        ("python:nowhere.score", "cannot import nowhere"),
        ("python:math.nothing", "has no function 'nothing'"),
    ],
)
def test_nonsense_is_a_user_error_that_says_where(spec, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        reward_from(spec)


def test_functions_are_found_in_files_and_modules(tmp_path, monkeypatch) -> None:
    (tmp_path / "mine.py").write_text("def length(prompts, responses):\n    return [len(r) for r in responses]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for spec in (f'"{tmp_path}/mine.py":length', "python:mine.length"):
        assert reward_from(f"0.5*{spec}")([RIGHT, answer("four")]) == [0.5, 2.0]
    (tmp_path / "bad.py").write_text("import nowhere\n")
    with pytest.raises(UserError, match=r"bad\.py cannot be run .ModuleNotFoundError"):
        reward_from(f'"{tmp_path}/bad.py":length')


def test_what_a_named_reward_returns_is_tested(tmp_path) -> None:
    (tmp_path / "few.py").write_text("def score(prompts, responses):\n    return [float('nan')] * len(prompts)\n")
    with pytest.raises(UserError, match=r"few\.py:score: expected a finite number for answer 0"):
        reward_from(f'verifier + "{tmp_path}/few.py":score')(ANSWERS)
