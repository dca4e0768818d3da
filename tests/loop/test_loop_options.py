"""Options validate themselves, and a stage takes them from keywords."""

import pytest

from zhenlong.data.options import DataOptions, LengthOptions
from zhenlong.errors import UserError
from zhenlong.loop import TrainingOptions
from zhenlong.loop.options import OPTION_NAMES, RESUMABLE_CHANGES
from zhenlong.models.options import ModelOptions
from zhenlong.options import take_options
from zhenlong.stages.options import GroupRolloutOptions


@pytest.mark.parametrize(
    ("options_class", "name", "value"),
    [(TrainingOptions, *one) for one in [
        ("lr", -1.0), ("lr", float("nan")), ("lr", "fast"), ("schedule", "step"), ("warmup_steps", 1.5),
        ("decay_fraction", 1.1), ("min_lr_ratio", -0.1), ("beta1", 1.0), ("beta2", -0.1), ("eps", -1e-8),
        ("max_grad_norm", float("inf")), ("batch_size", 0), ("batch_size", 2.5), ("tokens_per_microbatch", 0),
        ("epochs", 0.0), ("steps", -1), ("seed", True), ("resume", 1), ("keep_checkpoints", 0), ("log_every", 0),
        ("save_every", -1), ("wandb", None)]]
    + [(ModelOptions, *one) for one in [
        ("dtype", "float16"), ("lora_dropout", 1.0), ("lora_alpha", float("inf")), ("lora_rank", -1), ("compile", 1)]]
    + [(GroupRolloutOptions, *one) for one in [
        ("max_tokens", 0), ("temperature", 0.0), ("overlong", "truncate"), ("rollout_prompts", 0),
        ("update_epochs", 0), ("samples_per_prompt", 0)]]
    + [(LengthOptions, "max_length", -1), (DataOptions, "skip_bad_rows", "no"), (DataOptions, "max_length", -1)],
)  # fmt: skip
def test_an_error_names_the_option_with_the_invalid_value(options_class, name, value):
    with pytest.raises(UserError, match=f"^{name}: expected .*, got {value!r}".replace("(", r"\(")):
        options_class(**{name: value})


def test_integers_are_accepted_as_floats():
    assert TrainingOptions(warmup_steps=3, epochs=2) == TrainingOptions(warmup_steps=3.0, epochs=2.0)
    assert type(TrainingOptions(lr=1).lr) is float


def test_resumable_changes_are_names_of_options():
    assert set(OPTION_NAMES) >= RESUMABLE_CHANGES


def test_each_class_takes_its_own_options_and_the_others_keep_the_stages_defaults():
    given = {"lr": 0.5, "chat_template": "chatml"}
    data, model, training = take_options(given, DataOptions(), ModelOptions(), TrainingOptions(lr=1e-6, steps=3))
    assert (data, model) == (DataOptions(chat_template="chatml"), ModelOptions())
    assert training == TrainingOptions(lr=0.5, steps=3)


def test_an_unknown_option_is_refused_with_the_names_nearest_to_it():
    with pytest.raises(UserError, match=r"^lrr: no such option; .*\blr\b") as refused:
        take_options({"lrr": 1}, DataOptions(), TrainingOptions())
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"^qqqqq: no such option$"):
        take_options({"qqqqq": 1}, TrainingOptions())
    with pytest.raises(UserError, match=r"^batch_size: expected a whole number"):
        take_options({"batch_size": 0}, TrainingOptions())
