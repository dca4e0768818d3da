"""One answer to each conversation, by a model in this process or behind an endpoint, named in one way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.data import Template
from zhenlong.models import load_model
from zhenlong.records import Messages
from zhenlong.sampling.endpoint import EndpointSampler, parse_endpoint
from zhenlong.sampling.endpoint_replies import Failure
from zhenlong.sampling.request import Sampling
from zhenlong.sampling.sampler import TorchSampler

Asked = Callable[[Sequence[Messages]], list[str]]


def asked_model(
    name: str,
    *,
    max_tokens: int = 512,
    temperature: float = 0.0,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
    chat_template: str = "auto",
) -> Asked:
    """A function from conversations to answers: of `pocket`, a folder, a hub id, or `openai:name@url`.

    A conversation that leaves no room in the context, or that the endpoint failed to answer, has the answer "". Raises
    UserError for a model that is not there.
    """
    if name.startswith("openai:"):
        endpoint = parse_endpoint(name)
        sampler = EndpointSampler(endpoint.name, endpoint.url, **endpoint.options)
        return endpoint_asked(sampler, max_tokens=max_tokens, temperature=temperature, seed=seed)
    model, tokenizer = load_model(name, device=device, dtype=dtype)
    template = Template.of(tokenizer, chat_template)
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens, stop_ids=template.stop_ids, seed=seed)
    return local_asked(model, tokenizer, template, sampling)


def endpoint_asked(sampler: EndpointSampler, *, max_tokens: int, temperature: float, seed: int) -> Asked:
    """`asked_model` of an endpoint's sampler."""

    def ask(conversations: Sequence[Messages]) -> list[str]:
        found = sampler.chat(conversations, max_tokens=max_tokens, temperature=temperature, seed=seed)
        return ["" if isinstance(replies, Failure) else replies[0].text for replies in found]

    return ask


def local_asked(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, template: Template, sampling: Sampling
) -> Asked:
    """`asked_model` of a model in this process."""
    sampler = TorchSampler(model, tokenizer)

    def ask(conversations: Sequence[Messages]) -> list[str]:
        prompts = [template.prompt(messages) for messages in conversations]
        fitting = [place for place, ids in enumerate(prompts) if len(ids) + sampling.max_tokens <= sampler.context]
        answers = [""] * len(prompts)
        for place, found in zip(fitting, sampler.sample([prompts[one] for one in fitting], sampling), strict=True):
            answers[place] = found[0].text
        return answers

    return ask
