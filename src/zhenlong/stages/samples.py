"""What the model says at intervals: a few fixed prompts, answered without disturbing training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.data import Template
from zhenlong.loop import Run
from zhenlong.records import Messages
from zhenlong.sampling import Sampling, TorchSampler
from zhenlong.stages.setup import context_of

SHOWN: Final = 4
LONGEST: Final = 64


def say(
    run: Run,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    conversations: Sequence[Messages],
) -> None:
    """Answer the last user turn of the first few conversations that fit greedily, into samples.jsonl."""
    room = context_of(model) - LONGEST
    asked = (_up_to_the_answer(messages) for messages in conversations)
    prompts = list(islice((prompt for prompt in asked if len(template.prompt(prompt)) <= room), SHOWN))
    with run.evaluation():
        sampling = Sampling(temperature=0.0, max_tokens=LONGEST, stop_ids=template.stop_ids)
        answers = TorchSampler(model, tokenizer).sample([template.prompt(prompt) for prompt in prompts], sampling)
    run.samples(
        [
            {"prompt": [{"role": m.role, "content": m.content} for m in prompt], "response": found[0].text}
            for prompt, found in zip(prompts, answers, strict=True)
        ]
    )


def _up_to_the_answer(messages: Messages) -> Messages:
    while messages[-1].role == "assistant":
        messages = messages[:-1]
    return messages
