"""A reward model's score of the whole conversation, read at the answer's last token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from transformers import AutoConfig, PreTrainedModel

from zhenlong.data import Template
from zhenlong.data.pair_template import ranking_template
from zhenlong.errors import UserError
from zhenlong.forest import Node, plant_batches, response_scores, tree
from zhenlong.models import load_model, resolve
from zhenlong.models.encoders import context_length
from zhenlong.rewards.answer import Answer, Reward

RewardModel = tuple[PreTrainedModel, Template]


def model_reward(model: PreTrainedModel, template: Template, *, tokens_per_microbatch: int = 8192) -> Reward:
    """Scores by a sequence classifier with one label; `template` is that of the model's own tokenizer.

    An answer is written as in training: the prompt, the answer, and the end of the turn unless it was truncated (an
    empty answer always has one, to be scored at). Answers to one prompt share its computation, and micro-batches hold
    at most `tokens_per_microbatch` tokens; neither changes a score. The model is used in eval mode, without gradient,
    and left in the mode it was in. Raises UserError for more labels, and for what exceeds the model's context.
    """
    labels = model.config.num_labels
    if labels != 1:
        raise UserError(f"reward model: expected one output, got {labels} labels; train one with reward_model")
    context = context_length(model.config)

    def reward(answers: Sequence[Answer]) -> list[float]:
        trees, owners = _trees(answers, template, context)
        found = [0.0] * len(answers)
        training = model.training
        model.eval()
        try:
            with torch.no_grad():
                for batch in plant_batches(trees, tokens_per_microbatch, model.device):
                    values = response_scores(model, batch.forest).tolist()
                    for owner, value in zip((o for row in batch.rows for o in owners[row]), values, strict=True):
                        found[owner] = value
        finally:
            model.train(training)
        return found

    return reward


def load_reward_model(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "float32",
    chat_template: str = "auto",
    tokens_per_microbatch: int = 8192,
) -> Reward:
    """`model_reward` of a folder, run folder or hub id.

    Raises UserError when nothing loadable is there, when it has several labels, and when it is a language model: its
    scoring layer would be random numbers.
    """
    opened = open_reward_model(name, device=device, dtype=dtype, chat_template=chat_template)
    return model_reward(*opened, tokens_per_microbatch=tokens_per_microbatch)


def open_reward_model(
    name: str, *, device: str = "auto", dtype: str = "float32", chat_template: str = "auto"
) -> RewardModel:
    """The model and its template, as `load_reward_model` does."""
    model, tokenizer = load_model(name, kind="reward", dtype=dtype, device=device)
    architectures = AutoConfig.from_pretrained(resolve(name)).architectures or []
    if not any("SequenceClassification" in architecture for architecture in architectures):
        raise UserError(
            f"reward model:{name}: this is a language model ({', '.join(architectures)}), not a reward model; "
            f"train one with zhenlong reward_model --model {name}"
        )
    return model, ranking_template(tokenizer, chat_template)


def require_one_tokenizer(models: Mapping[str, RewardModel]) -> None:
    """Raise UserError unless the models of an ensemble number the same tokens alike.

    Members are trained from one model on the same data; scores of unrelated models lie on scales of their own, and
    neither their mean nor their minimum means anything.
    """
    if not models:
        return
    (first, (_, own)), *others = models.items()
    for name, (_, template) in others:
        if template.tokenizer.get_vocab() != own.tokenizer.get_vocab():
            raise UserError(
                f"reward: model:{first} and model:{name} have different tokenizers; expected an ensemble of models "
                "that were trained from one, with other seeds or data; a weighted sum takes any models"
            )


def _trees(answers: Sequence[Answer], template: Template, context: int | None) -> tuple[list[Node], list[list[int]]]:
    """One tree a prompt with its answers beneath it, and for each tree the indices of those answers."""
    prompts: dict[tuple[int, ...], list[tuple[int, list[int]]]] = {}
    for i, answer in enumerate(answers):
        messages = answer.task.prompt
        prompt = tuple(template.prompt(messages))
        response = template.response(messages, answer.text, closed=not answer.truncated)
        response = response or template.response(messages, answer.text)
        if context is not None and len(prompt) + len(response) > context:
            raise UserError(
                f"reward model: answer {i} has {len(prompt) + len(response)} tokens with its prompt, and the model's "
                f"context is {context}; use shorter prompts or a smaller max_tokens"
            )
        prompts.setdefault(prompt, []).append((i, response))
    trees = [tree(prompt, [response for _, response in found]) for prompt, found in prompts.items()]
    return trees, [[i for i, _ in found] for found in prompts.values()]
