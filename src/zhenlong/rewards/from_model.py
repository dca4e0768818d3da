"""A reward model as a reward: its score of the conversation at the response's last token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from transformers import PreTrainedModel

from zhenlong.data import ChatTemplate
from zhenlong.data.pair_template import reward_model_template
from zhenlong.errors import UserError
from zhenlong.forest import TreeNode, make_microbatches, make_tree, score_forest
from zhenlong.models import load_model
from zhenlong.models.encoders import context_length
from zhenlong.models.pretrained import load_config
from zhenlong.rewards.task_response import RewardFn, TaskResponse

LoadedRewardModel = tuple[PreTrainedModel, ChatTemplate]


def model_reward(model: PreTrainedModel, template: ChatTemplate, *, tokens_per_microbatch: int = 8192) -> RewardFn:
    """Scores by a sequence classifier with one label; `template` is that of the model's own tokenizer.

    Input is formatted as in training: the prompt, the response, and the end-of-turn token unless the response was
    truncated (an empty response always has one, to be scored at). Responses to one prompt share its computation, and
    micro-batches have at most `tokens_per_microbatch` tokens; neither changes a score. The model runs in eval mode,
    without gradient, and is left in its previous mode. Raises UserError for more labels, and for overlong input.
    """
    labels = model.config.num_labels
    if labels != 1:
        raise UserError(f"reward model: expected one output, got {labels} labels; train one with reward_model")
    max_context = context_length(model.config)

    def reward(responses: Sequence[TaskResponse]) -> list[float]:
        trees, response_indices = _trees_by_prompt(responses, template, max_context)
        scores = [0.0] * len(responses)
        training = model.training
        model.eval()
        try:
            with torch.no_grad():
                for batch in make_microbatches(trees, tokens_per_microbatch, model.device):
                    values = score_forest(model, batch.forest).tolist()
                    for response_index, value in zip(
                        (o for row in batch.tree_indices for o in response_indices[row]), values, strict=True
                    ):
                        scores[response_index] = value
        finally:
            model.train(training)
        return scores

    return reward


def load_model_reward(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "float32",
    chat_template: str = "auto",
    tokens_per_microbatch: int = 8192,
) -> RewardFn:
    """`model_reward` of a folder, run folder or hub id.

    Raises UserError if nothing loadable is there, if it has several labels, and if it is a language model, whose
    scoring head would be random.
    """
    loaded = load_reward_model(name, device=device, dtype=dtype, chat_template=chat_template)
    return model_reward(*loaded, tokens_per_microbatch=tokens_per_microbatch)


def load_reward_model(
    name: str, *, device: str = "auto", dtype: str = "float32", chat_template: str = "auto"
) -> LoadedRewardModel:
    """Load a reward model and its chat template, with the checks of `load_model_reward`."""
    model, tokenizer = load_model(name, kind="reward", dtype=dtype, device=device)
    architectures = load_config(name).architectures or []
    if not any("SequenceClassification" in architecture for architecture in architectures):
        raise UserError(
            f"reward model:{name}: this is a language model ({', '.join(architectures)}), not a reward model; "
            f"train one with zhenlong reward_model --model {name}"
        )
    return model, reward_model_template(tokenizer, chat_template)


def require_same_tokenizer(models: Mapping[str, LoadedRewardModel]) -> None:
    """Raise UserError unless the models of an ensemble have the same tokenizer.

    Members are trained from one model on the same data; unrelated models have different scales, so that neither their
    mean nor their minimum is meaningful.
    """
    if not models:
        return
    (first, (_, first_template)), *others = models.items()
    for name, (_, template) in others:
        if template.tokenizer.get_vocab() != first_template.tokenizer.get_vocab():
            raise UserError(
                f"reward: model:{first} and model:{name} have different tokenizers; expected an ensemble of models "
                "trained from one model, with other seeds or data; a weighted sum accepts any models"
            )


def _trees_by_prompt(
    responses: Sequence[TaskResponse], template: ChatTemplate, max_context: int | None
) -> tuple[list[TreeNode], list[list[int]]]:
    """One tree per prompt with its responses as leaves, and for each tree the indices of those responses."""
    by_prompt: dict[tuple[int, ...], list[tuple[int, list[int]]]] = {}
    for i, response in enumerate(responses):
        messages = response.task.prompt
        prompt_ids = tuple(template.encode_prompt(messages))
        response_ids = template.encode_response(messages, response.answer, end_turn=not response.truncated)
        response_ids = response_ids or template.encode_response(messages, response.answer)
        if max_context is not None and len(prompt_ids) + len(response_ids) > max_context:
            raise UserError(
                f"reward model: response {i} has {len(prompt_ids) + len(response_ids)} tokens with its prompt, "
                f"but the model's context is {max_context}; use shorter prompts or a smaller max_tokens"
            )
        by_prompt.setdefault(prompt_ids, []).append((i, response_ids))
    trees = [make_tree(prompt, [response for _, response in found]) for prompt, found in by_prompt.items()]
    return trees, [[i for i, _ in found] for found in by_prompt.values()]
