"""Log-probabilities equal the plain forward pass and lm-evaluation-harness, with any prefix sharing."""

import random

import numpy as np
import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

from zhenlong.inference.local import LocalBackend
from zhenlong.inference.options import BackendSettings
from zhenlong.inference.prefixes import prefix_batches
from zhenlong.inference.requests import GenerateRequest, ScoreRequest, ScoreTextRequest
from zhenlong.inference.tokens import RequestTokenizer, ScoredSequence
from zhenlong.records import Message


@pytest.fixture(scope="module")
def pair():
    return tiny_model("llama"), tiny_tokenizer()


def backend(pair, **options):
    return LocalBackend(pair, file_hash=lambda path: "", settings=BackendSettings(**options))


def scores(own, requests):
    found = {}
    for batch in own.score(requests):
        found |= dict(batch)
    return [found[place] for place in range(len(requests))]


def plain(model, query):
    with torch.no_grad():
        rows = model(torch.tensor([query.ids[:-1]])).logits[0].double().log_softmax(-1)
    return sum(float(rows[place - 1, query.ids[place]]) for place in range(query.start, len(query.ids)))


def few_shot_requests(rng, count=12):
    shared = "Q: is it?\nA: no\n" * 5
    contexts = [f"{shared}Q: {''.join(rng.choices('abc ', k=rng.randint(1, 30)))}?\nA:" for _ in range(count)]
    return [ScoreRequest(context, (" yes", " no", " nowhere else", " N")) for context in contexts]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("budget", [100, 900, 10_000])
def test_separate_joint_and_calibrated_scores_are_those_of_the_plain_forward_pass(family, budget):
    model = tiny_model(family)
    own = backend((model, tiny_tokenizer()), tokens_per_microbatch=budget)
    requests = [
        *few_shot_requests(random.Random(0)),
        ScoreRequest("Answer:", (" yes", " no")),
        ScoreRequest("ends in space  ", ("A", "B")),
        ScoreRequest("", ("hello", "h")),
        ScoreRequest((Message("user", "hi"),), ("A", "B")),
        ScoreTextRequest("some words, " * 60),
        ScoreTextRequest("é"),
    ]
    for request, answer in zip(requests, scores(own, requests), strict=True):
        truth = [plain(model, query) for query in own._sequences(request)]
        expected = truth if isinstance(request, ScoreRequest) else [sum(truth)]
        assert answer.log_probs == pytest.approx(expected, abs=2e-4)


def test_shared_prefixes_change_no_score_and_are_computed_once(pair):
    requests = few_shot_requests(random.Random(1))
    together = scores(backend(pair), requests)
    alone = [scores(backend(pair), [request])[0] for request in requests]
    for one, other in zip(together, alone, strict=True):
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-4)
    queries = [query for request in requests for query in backend(pair)._sequences(request)]
    (forest,) = [batch.forest for batch in prefix_batches(queries, 10_000)]
    read_apart = sum(len(query.ids) - 1 for query in queries)
    assert len(forest.tokens) < read_apart / 8
    assert sum(one.cost.flops for one in together) < sum(one.cost.flops for one in alone) / 2


@pytest.mark.parametrize("seed", range(6))
def test_every_token_of_every_sequence_lies_on_its_path(seed):
    rng = np.random.default_rng(seed)
    queries = []
    for _ in range(40):  # few tokens, so that sequences begin alike, contain one another, and are equal
        length = int(rng.integers(2, 60))
        stem = [1] * int(rng.integers(0, length))
        ids = (stem + rng.integers(1, 3, length).tolist())[:length]
        queries.append(ScoredSequence(tuple(ids), int(rng.integers(1, length))))
    seen = []
    for batch in prefix_batches(queries, int(rng.integers(50, 500))):
        forest, owner = batch.forest, batch.sequence_of_token
        paths = {number: _path(forest, number) for number in range(len(forest.segments))}
        ends = {segment.start + place: (number, place) for number, segment in enumerate(forest.segments)
                for place in range(segment.length)}  # fmt: skip
        for place, member in enumerate(batch.sequence_indices):
            query, rows = queries[member], (owner == place).nonzero().flatten()
            assert forest.target[rows].tolist() == list(query.ids[query.start :])
            for row, start in zip(rows.tolist(), range(query.start, len(query.ids)), strict=True):
                number, within = ends[int(forest.source[row])]
                before = paths[number][: len(paths[number]) - forest.segments[number].length + within + 1]
                assert before == list(query.ids[:start])
        seen += batch.sequence_indices
    assert sorted(seen) == list(range(len(queries)))


def _path(forest, number):
    tokens = []
    while number >= 0:
        segment = forest.segments[number]
        tokens = forest.tokens[segment.start : segment.start + segment.length].tolist() + tokens
        number = segment.parent
    return tokens


def test_the_last_token_is_predicted_and_never_read(pair):
    queries = backend(pair)._sequences(ScoreRequest("What?", ("A", "B", "C", "D")))
    (batch,) = prefix_batches(queries, 1000)
    assert len(batch.forest.tokens) == len("What?")
    assert len(batch.forest.target) == 4


@pytest.mark.peers("lm_eval")
@pytest.mark.parametrize(
    ("context", "continuations"),
    [
        ("The cat", (" sat", " ran far")),
        ("Trailing space ", ("sat", "ran")),
        ("Two lines \n\n", ("sat",)),
        ("", ("alone", "two words")),
        ("<|endoftext|>began", (" on",)),
    ],
)
def test_log_likelihoods_and_truncation_equal_lm_evaluation_harness(pair, context, continuations):
    own = backend(pair)
    theirs = harness(pair)
    found = theirs.loglikelihood([asked(context, one) for one in continuations], disable_tqdm=True)
    mine = scores(own, [ScoreRequest(context, continuations)])[0]
    assert mine.log_probs == pytest.approx([value for value, _ in found], abs=1e-4)
    if context:
        cuts = [theirs._encode_pair(context, one) for one in continuations]
        queries = own._sequences(ScoreRequest(context, continuations))
        assert [(list(q.ids[: q.start]), list(q.ids[q.start :])) for q in queries] == [(a, b) for a, b in cuts]


@pytest.mark.peers("lm_eval")
@pytest.mark.parametrize("words", [1, 90, 300])
def test_a_long_text_is_scored_in_the_harness_windows(pair, words):
    text = " ".join(f"w{n}" for n in range(words))
    (theirs,) = harness(pair).loglikelihood_rolling([asked(text)], disable_tqdm=True)
    assert scores(backend(pair), [ScoreTextRequest(text)])[0].log_probs[0] == pytest.approx(theirs, rel=1e-6)


def test_windows_score_each_token_once_with_the_longest_context_that_fits():
    tokens = RequestTokenizer(tiny_tokenizer())
    windows = tokens.rolling_windows("abcdefghij", 4)
    assert [len(one.ids) - one.start for one in windows] == [4, 4, 2]
    assert [len(one.ids) for one in windows] == [5, 5, 5]
    assert "".join(chr(_byte(tokens, token)) for one in windows for token in one.ids[one.start :]) == "abcdefghij"
    assert windows[0].ids[0] == tokens.start_token_id


def _byte(tokens, token):
    return ord(tokens.tokenizer.decode([token]))


def test_generated_answers_carry_the_log_probability_of_their_text(pair):
    own = backend(pair)
    requests = [
        GenerateRequest("hello there", max_tokens=6),
        GenerateRequest("hello", max_tokens=6, temperature=1.0, n=2, seed=3),
        GenerateRequest("hello", max_tokens=6, temperature=0.5, seed=3),
    ]
    found = {}
    for batch in own.generate(requests):
        found |= dict(batch)
    greedy = found[0].outputs[0]
    (again,) = scores(own, [ScoreRequest("hello there", (greedy.text,))]) if greedy.text.isascii() else (None,)
    if again is not None:
        assert greedy.log_prob == pytest.approx(again.log_probs[0], abs=1e-4)
    assert len(found[1].outputs) == 2
    assert all(one.log_prob is not None for one in found[1].outputs)
    assert found[2].outputs[0].log_prob is None  # sampled from another distribution than the model's own
    assert found[0].cost.generated_tokens == 6
    assert found[0].cost.flops > 0


def test_samples_carry_the_log_probability_of_the_distribution_they_are_from(pair):
    model, tokenizer = pair
    requests = [GenerateRequest("hi", max_tokens=1, temperature=0.7, n=8, seed=5), GenerateRequest("hi", max_tokens=1)]
    found = {place: answer for batch in backend(pair).generate(requests) for place, answer in batch}
    with torch.no_grad():
        row = (model(torch.tensor([tokenizer("hi")["input_ids"]])).logits[0, -1] / 0.7).log_softmax(-1)
    texts = [tokenizer.decode([token]) for token in range(len(row))]
    whole = [one for one in found[0].outputs if one.truncated and texts.count(one.text) == 1]
    assert whole
    for one in whole:
        assert one.sampled_log_prob == pytest.approx(float(row[texts.index(one.text)]), abs=1e-4)
    assert found[1].outputs[0].sampled_log_prob is None  # nothing was sampled


def test_the_top_tokens_at_each_position_contain_the_greedy_one(pair):
    model, tokenizer = pair
    ((_, answer),) = [
        one for batch in backend(pair).generate([GenerateRequest("hi", max_tokens=3, top_log_probs=4)]) for one in batch
    ]
    ids = tokenizer("hi")["input_ids"]
    with torch.no_grad():
        row = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    first = answer.outputs[0].top_log_probs[0]
    assert max(first.values()) == pytest.approx(float(row.max()), abs=1e-4)
    assert next(iter(first)) == tokenizer.decode([int(row.argmax())])


def harness(pair):
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=pair[0], tokenizer=pair[1], batch_size=4, max_length=512)


def asked(*arguments):
    from lm_eval.api.instance import Instance

    return Instance(request_type="loglikelihood", doc={}, arguments=arguments, idx=0)
