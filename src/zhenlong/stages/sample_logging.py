"""What the model says at intervals: a few fixed prompts, answered without disturbing training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.data import ChatTemplate
from zhenlong.loop import Run
from zhenlong.records import Messages
from zhenlong.sampling import SamplingParams, TorchSampler
from zhenlong.stages.stage_steps import resolve_max_length

NUM_LOGGED_SAMPLES: Final = 4
LOGGED_SAMPLE_TOKENS: Final = 64


def log_samples(
    run: Run,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    template: ChatTemplate,
    conversations: Sequence[Messages],
) -> None:
    """Answer the last user turn of the first few conversations that fit greedily, into samples.jsonl."""
    max_prompt_tokens = resolve_max_length(model) - LOGGED_SAMPLE_TOKENS
    questions = (_without_last_answer(messages) for messages in conversations)
    prompts = list(
        islice(
            (prompt for prompt in questions if len(template.encode_prompt(prompt)) <= max_prompt_tokens),
            NUM_LOGGED_SAMPLES,
        )
    )
    with run.eval_mode():
        sampling = SamplingParams(temperature=0.0, max_tokens=LOGGED_SAMPLE_TOKENS, stop_token_ids=template.stop_ids)
        answers = TorchSampler(model, tokenizer).sample(
            [template.encode_prompt(prompt) for prompt in prompts], sampling
        )
    run.write_samples(
        [
            {"prompt": [{"role": m.role, "content": m.content} for m in prompt], "response": found[0].text}
            for prompt, found in zip(prompts, answers, strict=True)
        ]
    )


def _without_last_answer(messages: Messages) -> Messages:
    while messages[-1].role == "assistant":
        messages = messages[:-1]
    return messages
