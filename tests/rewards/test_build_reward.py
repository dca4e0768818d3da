"""The reward grammar: meaning of expressions, and errors with their position."""

import pytest
from answers import CUT, RIGHT, WRONG, answer

from zhenlong.errors import UserError
from zhenlong.rewards import build_reward_fn
from zhenlong.rewards.grammar import FunctionCall, Product, RewardName, WeightedSum, parse_reward

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
        ("verifier*regex:4", [1, 0, 0]),
        ("verifier * 3 + 2*truncated*regex:It", [3, 0, 2]),
        ("mean(verifier, 3*verifier)", [2, 0, 0]),
        ("min(verifier + truncated, 2*verifier)", [1, 0, 0]),
        ("mean_minus_std(verifier, 3*verifier, 2)", [0, 0, 0]),
        ("mean_minus_std(verifier, 3*verifier)", [1, 0, 0]),
        ("safety_gate(10*verifier, 3*verifier)", [10, 0, 0]),
        ("safety_gate(10*verifier, 3*verifier, verifier)", [3, 0, 0]),
        ("safety_gate(10*verifier, 3*verifier + -3*truncated)", [10, 0, -3]),
        ("whiten(3*verifier)", [2**0.5, -(0.5**0.5), -(0.5**0.5)]),
        ("is_refusal", [0, 0, 0]),
        ("language:en", [1, 1, 1]),
        ("regex:[45]", [1, 1, 0]),
        ('regex:"(4|5)" + regex:It', [1, 1, 1]),
        (["verifier", "-1*truncated"], [1, 0, -1]),
        (["verifier", lambda answers: [10.0] * len(answers)], [11, 10, 10]),
        (lambda answers: [7.0] * len(answers), [7, 7, 7]),
    ],
)
def test_meaning(spec, expected) -> None:
    assert build_reward_fn(spec)(ANSWERS) == pytest.approx([float(x) for x in expected])


def test_structure() -> None:
    rm = RewardName("model:runs/rm-2")
    assert parse_reward("0.7*model:runs/rm-2 + 0.3*verifier") == WeightedSum(((0.7, rm), (0.3, RewardName("verifier"))))
    assert parse_reward("gate(verifier, model:runs/rm-2)") == FunctionCall("gate", (RewardName("verifier"), rm), (0.0,))
    assert parse_reward("min(model:runs/rm-2, 0.5*verifier)") == FunctionCall(
        "min", (rm, WeightedSum(((0.5, RewardName("verifier")),)))
    )
    assert parse_reward("mean_minus_std(model:runs/rm-2, verifier)").numbers == (1.0,)
    assert parse_reward("mean_minus_std(model:runs/rm-2, verifier, 0.25)").numbers == (0.25,)
    assert parse_reward("safety_gate(model:runs/rm-2, verifier, group:kind=harmful, 0.3)") == FunctionCall(
        "safety_gate", (rm, RewardName("verifier"), RewardName("group:kind=harmful")), (0.3,)
    )
    assert parse_reward("overlong_penalty(20480, 4096)") == FunctionCall("overlong_penalty", (), (20480.0, 4096.0))
    assert parse_reward("2*verifier*3*truncated") == WeightedSum(
        ((6.0, Product((RewardName("verifier"), RewardName("truncated")))),)
    )
    assert parse_reward('model:"my runs/rm (2)"') == RewardName("model:my runs/rm (2)")
    assert parse_reward("model:C:\\rm") == RewardName("model:C:\\rm")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", "expected one of verifier, .*got the end at character 1"),
        ("verifer", "got 'verifer' at character 1"),
        ("verifier + ", "got the end at character 12"),
        ("verifier truncated", "expected . or the end, got 'truncated' at character 10"),
        ("0.5 verifier", r"expected '\*', got 'verifier'"),
        ("gate(verifier)", r"expected gate\(condition, reward.*got '\)' at character 14"),
        ("gate(verifier, verifier, truncated)", "expected a number, as in gate"),
        ("min(verifier)", r"expected min\(reward, reward"),
        ("min(verifier, truncated, 3)", r"expected min\(reward, reward"),
        ("whiten(verifier, truncated)", "expected a number, as in whiten"),
        ("overlong_penalty(100)", r"expected overlong_penalty\(max_tokens, cache\)"),
        ("overlong_penalty(verifier, 3)", "expected a number, as in overlong_penalty"),
        ("overlong_penalty(100, 200)", "0 < cache <= max_tokens"),
        ("overlong_penalty(100, 0)", "0 < cache <= max_tokens"),
        ("safety_gate(verifier, truncated, 1.5)", "a threshold between 0 and 1"),
        ("verifier*", "expected one of verifier"),
        ("3*", "expected one of verifier"),
        ("language:xx", "expected one of af, "),
        ("group:kind", "got 'group:kind'"),
        ("classifier:runs/none:toxic", "runs/none: no such folder"),
        ("judge:runs/none", "runs/none: no such folder"),
        ("gate(verifier, truncated, x)", "expected a number, as in gate.*, got 'x'"),
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
def test_invalid_text_is_a_user_error_with_the_position(spec, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        build_reward_fn(spec)


def test_functions_are_found_in_files_and_modules(tmp_path, monkeypatch) -> None:
    (tmp_path / "mine.py").write_text("def length(prompts, responses):\n    return [len(r) for r in responses]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for spec in (f'"{tmp_path}/mine.py":length', "python:mine.length"):
        assert build_reward_fn(f"0.5*{spec}")([RIGHT, answer("four")]) == [0.5, 2.0]
    (tmp_path / "bad.py").write_text("import nowhere\n")
    with pytest.raises(UserError, match=r"bad\.py cannot be run .ModuleNotFoundError"):
        build_reward_fn(f'"{tmp_path}/bad.py":length')


def test_values_of_a_named_reward_are_validated(tmp_path) -> None:
    (tmp_path / "few.py").write_text("def score(prompts, responses):\n    return [float('nan')] * len(prompts)\n")
    with pytest.raises(UserError, match=r"few\.py:score: expected a finite number for response 0"):
        build_reward_fn(f'verifier + "{tmp_path}/few.py":score')(ANSWERS)
