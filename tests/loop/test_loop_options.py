"""Options validate themselves, and appear on a stage's command line with default and help."""

import dataclasses
from typing import Any

import jsonargparse
import pytest

from zhenlong.errors import UserError
from zhenlong.loop import TrainingOptions
from zhenlong.loop.options import OPTION_NAMES, RESUMABLE_CHANGES


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", -1.0), ("lr", float("nan")), ("lr", "fast"), ("schedule", "step"), ("warmup_steps", 1.5),
        ("decay_fraction", 1.1), ("min_lr_ratio", -0.1), ("beta1", 1.0), ("beta2", -0.1), ("eps", -1e-8),
        ("max_grad_norm", float("inf")), ("batch_size", 0), ("batch_size", 2.5), ("tokens_per_microbatch", 0),
        ("epochs", 0.0), ("steps", -1), ("seed", True), ("dtype", "float16"), ("lora_dropout", 1.0), ("resume", 1),
        ("keep_checkpoints", 0), ("log_every", 0), ("save_every", -1), ("wandb", None),
    ],
)  # fmt: skip
def test_an_error_names_the_option_with_the_invalid_value(name, value):
    with pytest.raises(UserError, match=f"^{name}: expected .*, got {value!r}".replace("(", r"\(")):
        TrainingOptions(**{name: value})


def test_integers_are_accepted_as_floats():
    assert TrainingOptions(warmup_steps=3, epochs=2) == TrainingOptions(warmup_steps=3.0, epochs=2.0)
    assert type(TrainingOptions(lr=1).lr) is float


def test_resumable_changes_are_names_of_options():
    assert set(OPTION_NAMES) >= RESUMABLE_CHANGES


def stage(*, data: str, lr: float = 5e-7, **training: Any) -> TrainingOptions:
    """A stage with a learning rate of its own."""
    return TrainingOptions(lr=lr, **training)


def test_a_stage_s_command_line_has_every_option_once_with_its_default_and_help():
    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_function_arguments(stage)
    defaults = vars(parser.get_defaults())
    expected = {field.name: field.default for field in dataclasses.fields(TrainingOptions)} | {"lr": 5e-7, "data": None}
    assert {name: defaults[name] for name in expected} == expected
    text = " ".join(parser.format_help().split())
    assert "fewer tokens save memory and do not change the gradient." in text
    assert "{constant,linear,cosine,wsd}" in text
    parsed = parser.parse_args(["--data=x", "--schedule=wsd", "--steps=7"])
    assert stage(**vars(parsed)) == TrainingOptions(lr=5e-7, schedule="wsd", steps=7)
