"""Overlap with a reference: word F1, ROUGE, BLEU, and agreement of the sets named by sentences.

The rules are HELM's (stanford-crfm/helm:src/helm/benchmark/metrics/evaluate_reference_metrics.py and
disinformation_metrics.py) and the libraries' that it calls.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

from zhenlong.verify.matching import normalize_text

ROUGE_KINDS: Final = {"1": "rouge1", "2": "rouge2", "l": "rougeL"}
SENTENCE_END: Final = re.compile(r"(?<=[.!?])(?P<close>[\"'”’)\]]*)\s+(?=\S)")
LAST_WORD_PATTERN: Final = re.compile(r"\S+$")
ABBREVIATIONS_TEXT: Final = (
    "mr. mrs. ms. dr. prof. st. sr. jr. vs. etc. e.g. i.e. inc. ltd. co. corp. gov. sen. rep. rev. jan. feb. mar. apr. "
    "aug. sept. oct. nov. dec. u.s. u.k. a.m. p.m. al. approx. dept. vol."
)
ABBREVIATIONS: Final = frozenset(ABBREVIATIONS_TEXT.split())
HTML_ENTITIES: Final = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
PUNCTUATION_RULES_13A: Final = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


def word_tokens(text: str) -> list[str]:
    """Penn Treebank tokens of NLTK's word tokenizer, sentence by sentence.

    `nltk.word_tokenize` splits sentences with a model that has to be downloaded; here they end at . ! ? before white
    space, except after a common abbreviation or a single letter. Only the full stop after such a word can differ.
    """
    tokenizer = _tokenizer()
    return [token for sentence in _split_sentences(text) for token in tokenizer.tokenize(sentence)]


def token_f1(response: str, reference: str, *, repeated: bool = False) -> float:
    """Harmonic mean of precision and recall of the normalised words; 0 if either text has none.

    HELM counts a word once however often it occurs; with `repeated`, each occurrence counts, as in SQuAD
    (Rajpurkar et al. 2016) and CoQA.
    """
    response_tokens, reference_tokens = normalize_text(response).split(), normalize_text(reference).split()
    if not repeated:
        response_tokens, reference_tokens = list(set(response_tokens)), list(set(reference_tokens))
    num_common = sum((Counter(response_tokens) & Counter(reference_tokens)).values())
    return 2 * num_common / (len(response_tokens) + len(reference_tokens)) if num_common else 0.0


def rouge(response: str, reference: str, variant: str) -> float:
    """ROUGE F-measure of Google's `rouge_score` with Porter's stemmer; `variant` is 1, 2 or l."""
    name = ROUGE_KINDS[variant]
    return float(_rouge_scorer(name).score(reference, response)[name].fmeasure)


def bleu(response: str, reference: str, order: int) -> float:
    """NLTK's sentence BLEU with all weight on n-grams of one order, unsmoothed, as HELM's bleu_1 and bleu_4."""
    from nltk.translate.bleu_score import sentence_bleu

    weights = tuple(float(n == order) for n in range(1, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no overlap is a score of 0, not a warning
        score = float(sentence_bleu([word_tokens(reference)], word_tokens(response), weights=weights))
    return score if score > 1e-100 else 0.0  # NLTK replaces log 0 by the log of the smallest float


def self_bleu(texts: Sequence[str]) -> float:
    """Mean BLEU (0 to 100) of each text against the others: 100 if all are equal; 0 for fewer than two texts.

    As sacrebleu's sentence score with effective order, exponential smoothing and 13a tokens, which HELM calls.
    """
    tokens = [_tokens_13a(text.strip()) for text in texts if text.strip()]
    if len(tokens) < 2:
        return 0.0
    scores = [_sentence_bleu(one, tokens[:place] + tokens[place + 1 :]) for place, one in enumerate(tokens)]
    return sum(scores) / len(scores)


def parse_set(sentence: str) -> set[str]:
    """The set named by a sentence: {kind, round} for "Carol is kind and round."; the empty set for "Nothing."."""
    if sentence == "Nothing.":
        return set()
    return set(sentence.replace(".", "").rsplit(" is ", 1)[-1].split(" and "))


def exact_set_match(response: str, reference: str) -> float:
    """1 if the first line names the same set."""
    response_set, reference_set = _parse_sets(response, reference)
    return float(response_set == reference_set)


def iou_set_match(response: str, reference: str) -> float:
    """Size of the intersection over size of the union of the sets named; for an empty reference, 1 if also empty."""
    response_set, reference_set = _parse_sets(response, reference)
    return (
        len(response_set & reference_set) / len(response_set | reference_set)
        if reference_set
        else float(response_set == reference_set)
    )


def f1_set_match(response: str, reference: str) -> float:
    """Dice coefficient of the sets named; for an empty reference, 1 if also empty."""
    response_set, reference_set = _parse_sets(response, reference)
    return (
        2 * len(response_set & reference_set) / (len(response_set) + len(reference_set))
        if reference_set
        else float(response_set == reference_set)
    )


def _parse_sets(response: str, reference: str) -> tuple[set[str], set[str]]:
    return parse_set(response.split("\n")[0]), parse_set(reference)


def _split_sentences(text: str) -> Iterator[str]:
    start = 0
    for end in SENTENCE_END.finditer(text):
        last = LAST_WORD_PATTERN.search(text[start : end.start()])
        word = last[0].lstrip("\"'“‘([").lower() if last else ""
        if word in ABBREVIATIONS or re.fullmatch(r"[a-z]\.", word):
            continue
        yield text[start : end.end("close")]
        start = end.end()
    yield text[start:]


@cache
def _tokenizer() -> Any:
    from nltk.tokenize.destructive import NLTKWordTokenizer

    return NLTKWordTokenizer()


@cache
def _rouge_scorer(name: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([name], use_stemmer=True)


@cache
def _tokens_13a(text: str) -> tuple[str, ...]:
    """Tokens as in mteval-v13a (mjpost/sacrebleu:sacrebleu/tokenizers/tokenizer_13a.py)."""
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, mark in HTML_ENTITIES:
        text = text.replace(entity, mark)
    text = f" {text} "
    for pattern, spaced in PUNCTUATION_RULES_13A:
        text = pattern.sub(spaced, text)
    return tuple(text.split())


def _sentence_bleu(response: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU over the orders that the text is long enough for; the k-th order without matches counts as 1 / 2^k."""
    closest_length = min((len(one) for one in references), key=lambda size: (abs(size - len(response)), size))
    log_precisions, misses, matched = [], 0, 0
    for order in range(1, min(4, len(response)) + 1):
        max_counts: Counter[tuple[str, ...]] = Counter()
        for one in references:
            max_counts |= _ngrams(one, order)
        hits = sum((_ngrams(response, order) & max_counts).values())
        matched += hits
        misses += not hits
        log_precisions.append(math.log((hits or 0.5**misses) / (len(response) - order + 1)))
    if not matched:
        return 0.0
    log_brevity_penalty = min(0.0, 1 - closest_length / len(response))
    return 100 * math.exp(log_brevity_penalty + sum(log_precisions) / len(log_precisions))


def _ngrams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[start : start + order]) for start in range(len(tokens) - order + 1))
