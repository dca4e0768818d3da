"""A model in this process: the sampler writes its answers, the token forest scores given ones."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from zhenlong.forest import forward, log_probs, make_tree, pack_trees
from zhenlong.forest.lm_head import lm_head_of
from zhenlong.forest.scoring import model_context_length
from zhenlong.inference.cache import folder_hash, hash_values, weights_hash
from zhenlong.inference.options import BackendSettings
from zhenlong.inference.prefixes import PrefixBatch, prefix_batches
from zhenlong.inference.requests import (
    GeneratedOutput,
    GenerateRequest,
    IndexedResults,
    RequestCost,
    RequestPrompt,
    RequestResult,
    ScoreRequest,
    ScoreTextRequest,
)
from zhenlong.inference.tokens import RequestTokenizer, ScoredSequence
from zhenlong.loop.ledger import FlopEstimator, peak_memory
from zhenlong.models import load_model
from zhenlong.models.load import load_tokenizer
from zhenlong.models.model_argument import ModelLike
from zhenlong.models.pretrained import load_config
from zhenlong.randomness import eval_mode
from zhenlong.sampling import Completion, SamplingParams, TorchSampler

SCORE_CHUNK = 1024  # requests whose tokens are held at a time when scoring


class LocalBackend:
    """A model by name, loaded when it is first needed, or a loaded pair of model and tokenizer.

    A generated answer's log-probability is known where the draw was from the model's own distribution: greedily, or at
    temperature 1 without truncation. One stored batch holds up to `2 * max_num_seqs` answers.
    """

    def __init__(
        self,
        model: ModelLike,
        *,
        name: str = "",
        file_hash: Callable[[Path], str],
        settings: BackendSettings = BackendSettings(),  # noqa: B008 (frozen)
    ) -> None:
        self.name = name or (str(model) if isinstance(model, str | Path) else "model")
        self.as_chat = False
        self._model, self._settings = model, settings
        if isinstance(model, tuple):
            self.request_tokenizer = RequestTokenizer(model[1], settings.chat_template)
            self.context_length = model_context_length(model[0])
            weights = weights_hash(model[0], model[1])
        else:
            self.request_tokenizer = RequestTokenizer(load_tokenizer(str(model)), settings.chat_template)
            config = load_config(str(model))
            self.context_length = getattr(config.get_text_config(), "max_position_embeddings", None)
            weights = folder_hash(str(model), file_hash)
        self.fingerprint = hash_values("local", weights, settings.dtype, settings.chat_template)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Context, dtype, whether texts begin with special tokens, and the chat template."""
        return {
            "context": self.context_length,
            "dtype": self._settings.dtype,
            "special_tokens_before_text": self.request_tokenizer.adds_special_tokens,
            "chat_template": self.request_tokenizer.chat_template,
        }

    @cached_property
    def network(self) -> PreTrainedModel:
        """The model itself."""
        if isinstance(self._model, tuple):
            return self._model[0]
        with eval_mode():
            return load_model(str(self._model), dtype=self._settings.dtype, device=self._settings.device)[0]

    def count_tokens(self, prompt: RequestPrompt) -> int:
        """The tokens of a prompt."""
        return self.request_tokenizer.count_tokens(prompt)

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[IndexedResults]:
        """Answers by the sampler, those with the same decoding together, long prompts first."""
        by_decoding: dict[tuple[tuple[Any, ...], bool], list[tuple[list[int], int]]] = defaultdict(list)
        for place, request in enumerate(requests):
            decoding = (request.max_tokens, request.temperature, request.top_p, request.stop, request.n)
            conversation = not isinstance(request.prompt, str)
            by_decoding[decoding, conversation].append((self.request_tokenizer.prompt_ids(request.prompt), place))
        max_num_seqs = self._settings.max_num_seqs
        sampler = (
            TorchSampler(self.network, self.request_tokenizer.tokenizer, max_num_seqs=max_num_seqs)
            if by_decoding
            else None
        )
        for (decoding, conversation), group in by_decoding.items():
            group.sort(key=lambda one: -len(one[0]))
            size = max(1, 2 * max_num_seqs // decoding[-1])
            for start in range(0, len(group), size):
                assert sampler is not None
                part = group[start : start + size]
                results = self._generate_batch(sampler, [(ids, requests[place]) for ids, place in part], conversation)
                yield [(place, answer) for (_, place), answer in zip(part, results, strict=True)]

    def score(self, requests: Sequence[ScoreRequest | ScoreTextRequest]) -> Iterator[IndexedResults]:
        """Log-probabilities by the token forest, what the requests share computed once."""
        for start in range(0, len(requests), SCORE_CHUNK):
            for batch in self._score_chunk(requests[start : start + SCORE_CHUNK]):
                yield [(start + place, answer) for place, answer in batch]

    def _score_chunk(self, requests: Sequence[ScoreRequest | ScoreTextRequest]) -> Iterator[IndexedResults]:
        """A request is answered with the batch that holds the last of its queries (a long text has several)."""
        sequences: list[ScoredSequence] = []
        request_of_sequence: list[int] = []  # the request of each query
        spans: list[range] = []  # the queries of each request
        for place, request in enumerate(requests):
            own = self._sequences(request)
            spans.append(range(len(sequences), len(sequences) + len(own)))
            sequences += own
            request_of_sequence += [place] * len(own)
        num_pending = [len(span) for span in spans]
        yield [
            (place, RequestResult(log_probs=(0.0,), num_tokens=(0,)))
            for place, count in enumerate(num_pending)
            if not count
        ]
        found = np.zeros((3, len(sequences)))  # of each query: log-probability, seconds, FLOPs
        batch_sizes = np.ones(len(sequences), dtype=int)  # requests in each query's batch
        device = next(self.network.parameters()).device
        for batch in prefix_batches(sequences, self._settings.tokens_per_microbatch, device):
            found[:, batch.sequence_indices] = self._forward_batch(
                batch, [len(sequences[number].ids) for number in batch.sequence_indices]
            )
            batch_sizes[batch.sequence_indices] = len({request_of_sequence[one] for one in batch.sequence_indices})
            done: IndexedResults = []
            for number in batch.sequence_indices:
                place = request_of_sequence[number]
                num_pending[place] -= 1
                if not num_pending[place]:
                    own = [sequences[one] for one in spans[place]]
                    result = self._score_result(requests[place], own, found[:, list(spans[place])])
                    size = int(batch_sizes[list(spans[place])].max())
                    done.append((place, replace(result, cost=replace(result.cost, batch_size=size))))
            yield done

    def _forward_batch(self, batch: PrefixBatch, lengths: Sequence[int]) -> np.ndarray:
        """One forward pass: of each query its log-probability, and its share of seconds and FLOPs by its tokens."""
        begun = time.perf_counter()
        forest = batch.forest
        with eval_mode(self.network):
            scored = log_probs(self.network, forward(self.network, forest), forest).double()  # [M]
        sums = torch.zeros(len(batch.sequence_indices), dtype=torch.float64, device=scored.device)
        values = sums.index_add(0, batch.sequence_of_token, scored).cpu().numpy()
        share = np.asarray(lengths) / sum(lengths)
        counts = len(forest.tokens), len(forest.target), forest.attention_pairs, forest.last_layer_tokens
        flops = FlopEstimator.for_model(self.network).forward(*counts)
        return np.stack([values, share * (time.perf_counter() - begun), share * flops])

    def _sequences(self, request: ScoreRequest | ScoreTextRequest) -> list[ScoredSequence]:
        if isinstance(request, ScoreTextRequest):
            return self.request_tokenizer.rolling_windows(request.text, self.context_length or 2048)
        return self.request_tokenizer.continuation_sequences(request.context, request.continuations)

    def _score_result(
        self, request: ScoreRequest | ScoreTextRequest, sequences: Sequence[ScoredSequence], found: np.ndarray
    ) -> RequestResult:
        sums, seconds, flops = found
        counts = [len(query.ids) - query.start for query in sequences]
        read = sum(counts) + (sequences[0].start if isinstance(request, ScoreRequest) else 0)
        memory = peak_memory(next(self.network.parameters()).device)
        cost = RequestCost(float(seconds.sum()), prompt_tokens=read, flops=float(flops.sum()), peak_memory=memory)
        if isinstance(request, ScoreTextRequest):
            return RequestResult(log_probs=(float(sums.sum()),), num_tokens=(sum(counts),), cost=cost)
        prompt = "" if isinstance(request.context, str) else self._decode(sequences[0].ids[: sequences[0].start])
        return RequestResult(log_probs=tuple(map(float, sums)), num_tokens=tuple(counts), prompt=prompt, cost=cost)

    def _generate_batch(
        self, sampler: TorchSampler, requests: Sequence[tuple[list[int], GenerateRequest]], conversation: bool
    ) -> list[RequestResult]:
        first = requests[0][1]
        sampling = SamplingParams(
            temperature=first.temperature,
            top_p=first.top_p,
            max_tokens=first.max_tokens,
            stop=first.stop,
            stop_token_ids=self.request_tokenizer.stop_ids if conversation else (),
        )
        begun = time.perf_counter()
        prompts = [ids for ids, _ in requests]
        found = sampler.sample(prompts, sampling, first.n, seeds=[request.seed for _, request in requests])
        sizes = [
            len(ids) + sum(len(one.token_ids) for one in several) for ids, several in zip(prompts, found, strict=True)
        ]
        seconds = (time.perf_counter() - begun) / max(1, sum(sizes))
        memory = peak_memory(next(self.network.parameters()).device)
        flop_estimator = FlopEstimator.for_model(self.network)
        results: list[RequestResult] = []
        for (ids, request), several, size in zip(requests, found, sizes, strict=True):
            outputs = tuple(self._output(ids, one, request) for one in several)
            written = sum(len(one.token_ids) for one in several)
            flops = _generation_flops(flop_estimator, len(ids), several)
            cost = RequestCost(
                seconds * size,
                prompt_tokens=len(ids),
                generated_tokens=written,
                flops=flops,
                peak_memory=memory,
                batch_size=len(requests),
            )
            prompt = self._decode(ids) if conversation else ""
            results.append(RequestResult(outputs=outputs, prompt=prompt, cost=cost))
        return results

    def _output(self, prompt: Sequence[int], completion: Completion, request: GenerateRequest) -> GeneratedOutput:
        """Its log-probability is that of the text: without the end, and without the tokens of a stop string."""
        count = len(completion.token_ids)
        if count and not completion.truncated and not request.stop:
            count -= 1
        while request.stop and count and len(self.request_tokenizer.tokenizer.decode(completion.token_ids[: count - 1],
              skip_special_tokens=True, clean_up_tokenization_spaces=False)) >= len(completion.text):  # fmt: skip
            count -= 1
        own = request.temperature in (0.0, 1.0) and (request.temperature == 0.0 or request.top_p == 1.0)
        likeliest = (
            self._top_log_probs(prompt, completion.token_ids[:count], request.top_log_probs)
            if request.top_log_probs
            else ()
        )
        log_prob = float(sum(completion.log_probs[:count]))
        return GeneratedOutput(
            completion.text,
            log_prob=log_prob if own else None,
            num_tokens=count,
            truncated=completion.truncated,
            top_log_probs=likeliest,
            sampled_log_prob=log_prob if request.temperature else None,
        )

    def _top_log_probs(self, prompt: Sequence[int], ids: Sequence[int], count: int) -> tuple[dict[str, float], ...]:
        """For each generated token the likeliest tokens at its place and their log-probabilities."""
        if not ids:
            return ()
        forest = pack_trees([make_tree(prompt, [ids])], next(self.network.parameters()).device)
        with eval_mode(self.network):
            states = forward(self.network, forest)
            head = lm_head_of(self.network)
            logits = torch.nn.functional.linear(states, head.weight, head.bias).float() * head.scale
            if head.softcap is not None:
                logits = head.softcap * torch.tanh(logits / head.softcap)
            values, tokens = logits.log_softmax(-1).topk(count, -1)
        found = []
        for row, own in zip(tokens.tolist(), values.tolist(), strict=True):
            texts: dict[str, float] = {}
            for token, value in zip(row, own, strict=True):
                texts.setdefault(self._decode([token]), value)
            found.append(texts)
        return tuple(found)

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.request_tokenizer.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def _generation_flops(flop_estimator: FlopEstimator, prompt: int, completions: Sequence[Completion]) -> float:
    """FLOPs of a prompt read once and of its answers, each token after all before it."""
    flops = flop_estimator.forward(prompt, 1, prompt * (prompt + 1) / 2)
    for one in completions:
        count = max(0, len(one.token_ids) - 1)  # the last token is not read
        flops += flop_estimator.forward(count, count, count * prompt + count * (count + 1) / 2)
    return flops
