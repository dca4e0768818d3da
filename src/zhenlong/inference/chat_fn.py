"""One answer to each conversation, by a model in this process or behind an endpoint, named in one way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.data import ChatTemplate
from zhenlong.inference.openai_endpoint import OpenAIEndpoint, parse_endpoint
from zhenlong.inference.openai_responses import RequestFailure
from zhenlong.models import load_model
from zhenlong.records import Messages
from zhenlong.sampling.sampler import TorchSampler
from zhenlong.sampling.sampling_params import SamplingParams

ChatFn = Callable[[Sequence[Messages]], list[str]]


def load_chat_fn(
    name: str,
    *,
    max_tokens: int = 512,
    temperature: float = 0.0,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
    chat_template: str = "auto",
) -> ChatFn:
    """A function from conversations to answers: of `pocket`, a folder, a hub id, or `openai:name@url`.

    A conversation that leaves no room in the context, or that the endpoint failed to answer, has the answer "". Raises
    UserError for a model that is not there.
    """
    if name.startswith("openai:"):
        address = parse_endpoint(name)
        endpoint = OpenAIEndpoint(address.name, address.url, **address.options)
        return endpoint_chat_fn(endpoint, max_tokens=max_tokens, temperature=temperature, seed=seed)
    model, tokenizer = load_model(name, device=device, dtype=dtype)
    template = ChatTemplate.from_tokenizer(tokenizer, chat_template)
    sampling = SamplingParams(
        temperature=temperature, max_tokens=max_tokens, stop_token_ids=template.stop_ids, seed=seed
    )
    return local_chat_fn(model, tokenizer, template, sampling)


def endpoint_chat_fn(endpoint: OpenAIEndpoint, *, max_tokens: int, temperature: float, seed: int) -> ChatFn:
    """`load_chat_fn` of an endpoint."""

    def chat(conversations: Sequence[Messages]) -> list[str]:
        results = endpoint.chat(conversations, max_tokens=max_tokens, temperature=temperature, seed=seed)
        return ["" if isinstance(replies, RequestFailure) else replies[0].text for replies in results]

    return chat


def local_chat_fn(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, template: ChatTemplate, sampling: SamplingParams
) -> ChatFn:
    """`load_chat_fn` of a model in this process."""
    sampler = TorchSampler(model, tokenizer)

    def chat(conversations: Sequence[Messages]) -> list[str]:
        prompts = [template.encode_prompt(messages) for messages in conversations]
        fitting = [
            place for place, ids in enumerate(prompts) if len(ids) + sampling.max_tokens <= sampler.context_length
        ]
        responses = [""] * len(prompts)
        for place, found in zip(fitting, sampler.sample([prompts[one] for one in fitting], sampling), strict=True):
            responses[place] = found[0].text
        return responses

    return chat
