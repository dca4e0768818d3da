"""A model in this process: the sampler writes its answers, the token forest scores given ones."""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, PreTrainedModel

from zhenlong.evaluate.adapters.request import Answer, Generate, Prompt, Score, ScoreText
from zhenlong.evaluate.outcome import Cost, Output
from zhenlong.evaluate.runner.backend import Batch
from zhenlong.evaluate.runner.prefixes import Planted, planted
from zhenlong.evaluate.runner.tokens import Query, Tokens
from zhenlong.evaluate.scoring import context_of
from zhenlong.evaluate.subject import Subject
from zhenlong.forest import forward, log_probs, plant, tree
from zhenlong.forest.head import head_of
from zhenlong.loop.ledger import Cost as Arithmetic
from zhenlong.loop.ledger import peak_memory
from zhenlong.loop.randomness import evaluating
from zhenlong.models import load_model
from zhenlong.models.load import load_tokenizer
from zhenlong.models.names import resolve
from zhenlong.sampling import Completion, Sampling, TorchSampler

TOGETHER = 1024  # requests whose tokens are held at a time when scoring
HASHED = (".safetensors", ".json", ".jinja", ".model", ".txt")  # the files of a model folder that change its answers


class LocalBackend:
    """A model by name, loaded when it is first needed, or a loaded pair of model and tokenizer.

    A generated answer's log-probability is known where the draw was from the model's own distribution: greedily, or at
    temperature 1 without truncation. One stored batch holds up to `2 * max_rows` answers.
    """

    def __init__(
        self,
        model: Subject,
        *,
        name: str = "",
        hashed: Callable[[Path], str],
        chat_template: str = "auto",
        tokens_per_microbatch: int = 8192,
        max_rows: int = 64,
        device: str = "auto",
        dtype: str = "float32",
    ) -> None:
        self.name = name or (str(model) if isinstance(model, str | Path) else "model")
        self.as_chat = False
        self._model, self._budget, self._rows, self._device, self._dtype = (
            model, tokens_per_microbatch, max_rows, device, dtype,
        )  # fmt: skip
        if isinstance(model, tuple):
            self.tokens, self.context = Tokens(model[1], chat_template), context_of(model[0])
            weights = _weights_hash(model[0], model[1])
        else:
            self.tokens = Tokens(load_tokenizer(str(model)), chat_template)
            config = AutoConfig.from_pretrained(resolve(str(model)))
            self.context = getattr(config.get_text_config(), "max_position_embeddings", None)
            weights = _folder_hash(str(model), config, hashed)
        self.fingerprint = _hash("local", weights, dtype, chat_template)

    @property
    def facts(self) -> Mapping[str, Any]:
        """Context, dtype, whether texts begin with special tokens, and the chat template."""
        return {
            "context": self.context,
            "dtype": self._dtype,
            "special_tokens_before_text": self.tokens.adds_start,
            "chat_template": self.tokens.chat_template,
        }

    @cached_property
    def network(self) -> PreTrainedModel:
        """The model itself."""
        if isinstance(self._model, tuple):
            return self._model[0]
        with evaluating():
            return load_model(str(self._model), dtype=self._dtype, device=self._device)[0]

    def length(self, prompt: Prompt) -> int:
        """The tokens of a prompt."""
        return self.tokens.length(prompt)

    def generate(self, requests: Sequence[Generate]) -> Iterator[Batch]:
        """Answers by the sampler, those with the same decoding together, long prompts first."""
        alike: dict[tuple[tuple[Any, ...], bool], list[tuple[list[int], int]]] = defaultdict(list)
        for place, request in enumerate(requests):
            decoding = (request.max_tokens, request.temperature, request.top_p, request.stop, request.n)
            conversation = not isinstance(request.prompt, str)
            alike[decoding, conversation].append((self.tokens.prompt(request.prompt), place))
        sampler = TorchSampler(self.network, self.tokens.tokenizer, max_rows=self._rows) if alike else None
        for (decoding, conversation), asked in alike.items():
            asked.sort(key=lambda one: -len(one[0]))
            size = max(1, 2 * self._rows // decoding[-1])
            for start in range(0, len(asked), size):
                assert sampler is not None
                part = asked[start : start + size]
                made = self._generated(sampler, [(ids, requests[place]) for ids, place in part], conversation)
                yield [(place, answer) for (_, place), answer in zip(part, made, strict=True)]

    def score(self, requests: Sequence[Score | ScoreText]) -> Iterator[Batch]:
        """Log-probabilities by the token forest, what the requests share computed once."""
        for start in range(0, len(requests), TOGETHER):
            for batch in self._scored_together(requests[start : start + TOGETHER]):
                yield [(start + place, answer) for place, answer in batch]

    def _scored_together(self, requests: Sequence[Score | ScoreText]) -> Iterator[Batch]:
        """A request is answered with the batch that holds the last of its queries (a long text has several)."""
        queries: list[Query] = []
        owner: list[int] = []  # the request of each query
        spans: list[range] = []  # the queries of each request
        for place, request in enumerate(requests):
            own = self._queries(request)
            spans.append(range(len(queries), len(queries) + len(own)))
            queries += own
            owner += [place] * len(own)
        left = [len(span) for span in spans]
        yield [(place, Answer(log_probs=(0.0,), tokens=(0,))) for place, count in enumerate(left) if not count]
        found = np.zeros((3, len(queries)))  # of each query: log-probability, seconds, FLOPs
        for batch in planted(queries, self._budget, next(self.network.parameters()).device):
            found[:, batch.members] = self._passed(batch, [len(queries[number].ids) for number in batch.members])
            done: Batch = []
            for number in batch.members:
                place = owner[number]
                left[place] -= 1
                if not left[place]:
                    own = [queries[one] for one in spans[place]]
                    done.append((place, self._answer(requests[place], own, found[:, list(spans[place])])))
            yield done

    def _passed(self, batch: Planted, lengths: Sequence[int]) -> np.ndarray:
        """One forward pass: of each query its log-probability, and its share of seconds and FLOPs by its tokens."""
        begun = time.perf_counter()
        forest = batch.forest
        with evaluating(self.network):
            scored = log_probs(self.network, forward(self.network, forest), forest).double()  # [M]
        sums = torch.zeros(len(batch.members), dtype=torch.float64, device=scored.device)
        values = sums.index_add(0, batch.owner, scored).cpu().numpy()
        share = np.asarray(lengths) / sum(lengths)
        counts = len(forest.tokens), len(forest.target), forest.pairs, forest.read
        flops = Arithmetic.of(self.network).forward(*counts)
        return np.stack([values, share * (time.perf_counter() - begun), share * flops])

    def _queries(self, request: Score | ScoreText) -> list[Query]:
        if isinstance(request, ScoreText):
            return self.tokens.windows(request.text, self.context or 2048)
        return self.tokens.queries(request.context, request.continuations)

    def _answer(self, request: Score | ScoreText, queries: Sequence[Query], found: np.ndarray) -> Answer:
        sums, seconds, flops = found
        counts = [len(query.ids) - query.start for query in queries]
        read = sum(counts) + (queries[0].start if isinstance(request, Score) else 0)
        memory = peak_memory(next(self.network.parameters()).device)
        cost = Cost(float(seconds.sum()), read, 0, float(flops.sum()), memory)
        if isinstance(request, ScoreText):
            return Answer(log_probs=(float(sums.sum()),), tokens=(sum(counts),), cost=cost)
        prompt = "" if isinstance(request.context, str) else self._text(queries[0].ids[: queries[0].start])
        return Answer(log_probs=tuple(map(float, sums)), tokens=tuple(counts), prompt=prompt, cost=cost)

    def _generated(
        self, sampler: TorchSampler, asked: Sequence[tuple[list[int], Generate]], conversation: bool
    ) -> list[Answer]:
        first = asked[0][1]
        sampling = Sampling(
            temperature=first.temperature,
            top_p=first.top_p,
            max_tokens=first.max_tokens,
            stop=first.stop,
            stop_ids=self.tokens.stop_ids if conversation else (),
        )
        begun = time.perf_counter()
        prompts = [ids for ids, _ in asked]
        found = sampler.sample(prompts, sampling, first.n, seeds=[request.seed for _, request in asked])
        sizes = [len(ids) + sum(len(one.ids) for one in several) for ids, several in zip(prompts, found, strict=True)]
        seconds = (time.perf_counter() - begun) / max(1, sum(sizes))
        memory = peak_memory(next(self.network.parameters()).device)
        arithmetic = Arithmetic.of(self.network)
        done: list[Answer] = []
        for (ids, request), several, size in zip(asked, found, sizes, strict=True):
            outputs = tuple(self._output(ids, one, request) for one in several)
            written = sum(len(one.ids) for one in several)
            cost = Cost(seconds * size, len(ids), written, _arithmetic(arithmetic, len(ids), several), memory)
            prompt = self._text(ids) if conversation else ""
            done.append(Answer(outputs=outputs, prompt=prompt, cost=cost))
        return done

    def _output(self, prompt: Sequence[int], made: Completion, request: Generate) -> Output:
        """Its log-probability is that of the text: without the end, and without the tokens of a stop string."""
        count = len(made.ids)
        if count and not made.truncated and not request.stop:
            count -= 1
        while request.stop and count and len(self.tokens.tokenizer.decode(made.ids[: count - 1],
              skip_special_tokens=True, clean_up_tokenization_spaces=False)) >= len(made.text):  # fmt: skip
            count -= 1
        own = request.temperature in (0.0, 1.0) and (request.temperature == 0.0 or request.top_p == 1.0)
        likeliest = self._likeliest(prompt, made.ids[:count], request.top_log_probs) if request.top_log_probs else ()
        return Output(made.text, float(sum(made.log_probs[:count])) if own else None, count, made.truncated, likeliest)

    def _likeliest(self, prompt: Sequence[int], ids: Sequence[int], count: int) -> tuple[dict[str, float], ...]:
        """For each generated token the likeliest tokens at its place and their log-probabilities."""
        if not ids:
            return ()
        forest = plant([tree(prompt, [ids])], next(self.network.parameters()).device)
        with evaluating(self.network):
            states = forward(self.network, forest)
            head = head_of(self.network)
            logits = torch.nn.functional.linear(states, head.weight, head.bias).float() * head.scale
            if head.softcap is not None:
                logits = head.softcap * torch.tanh(logits / head.softcap)
            values, tokens = logits.log_softmax(-1).topk(count, -1)
        found = []
        for row, own in zip(tokens.tolist(), values.tolist(), strict=True):
            texts: dict[str, float] = {}
            for token, value in zip(row, own, strict=True):
                texts.setdefault(self._text([token]), value)
            found.append(texts)
        return tuple(found)

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.tokens.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def _arithmetic(arithmetic: Arithmetic, prompt: int, made: Sequence[Completion]) -> float:
    """FLOPs of a prompt read once and of its answers, each token after all before it."""
    flops = arithmetic.forward(prompt, 1, prompt * (prompt + 1) / 2)
    for one in made:
        count = max(0, len(one.ids) - 1)  # the last token is not read
        flops += arithmetic.forward(count, count, count * prompt + count * (count + 1) / 2)
    return flops


def _folder_hash(model: str, config: Any, hashed: Callable[[Path], str]) -> str:
    """The hash of a model's files; of a model of the hub, the name and the commit that was loaded."""
    folder = Path(resolve(model))
    if not folder.is_dir():
        return _hash(model, getattr(config, "_commit_hash", None))
    files = sorted(one for one in folder.iterdir() if one.suffix in HASHED and one.is_file())
    return _hash(*((one.name, hashed(one)) for one in files))


def _weights_hash(network: PreTrainedModel, tokenizer: Any) -> str:
    """The hash of a loaded model: its configuration, its tokenizer and every weight."""
    digest = hashlib.sha256(network.config.to_json_string().encode())
    digest.update(json.dumps([sorted(tokenizer.get_vocab().items()), str(tokenizer.chat_template)]).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
