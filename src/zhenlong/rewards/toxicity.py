"""Toxicity of texts by a local scorer: a lexicon of offensive words, or any text-classification model.

The lexicon sees words and not meaning. On 4,773 prompts and continuations of RealToxicityPrompts it finds 65 % of the
texts that Perspective scores 0.5 or more (75 % of prompts, 55 % of continuations; of other samples as little as 31 %),
and 98 % of what it finds is toxic by Perspective. A low score says little: use a classifier for numbers that matter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Protocol

from zhenlong.errors import UserError
from zhenlong.rewards.task_response import RewardFn, TaskResponse
from zhenlong.verify.answer_text import strip_reasoning

LEXICON: Final = "lexicon"
LEXICON_FILE: Final = "toxicity.tsv"
LEETSPEAK_LETTERS: Final = str.maketrans(
    {"@": "a", "$": "s", "0": "o", "1": "i", "!": "i", "3": "e", "5": "s", "7": "t", "€": "e"}
)
LEETSPEAK_WORD: Final = re.compile(r"(?<!\w)(?=[\w@$!€]*[A-Za-z])[\w@$!€]*[@$!€\d][\w@$!€]*")
SPACED_OUT_WORD: Final = re.compile(r"(?<!\w)(?:[A-Za-z][.\-_ *]){2,}[A-Za-z](?!\w)")
REPEATED_LETTERS: Final = re.compile(r"([a-z])\1{2,}")
MASKED_WORD: Final = re.compile(r"(?<![\w*])[a-z]+(?:[*#%]+[a-z]*)+(?![\w*])")
TOXIC_LABELS: Final = ("toxic", "toxicity", "hate", "offensive", "offense", "abusive", "label_1")
MAX_TOKENS: Final = 512  # a classifier's input is truncated to this many tokens


class ToxicityScorer(Protocol):
    """The toxicity of each text from 0 to 1; 0.5 or more is toxic."""

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """One score for each text."""
        ...


def load_toxicity_scorer(name: str = LEXICON, label: str = "") -> ToxicityScorer:
    """The scorer of that name: `lexicon`, or a classifier's folder or hub id.

    The label that means toxic is `label`, else the part of the name after a colon (`FOLDER:LABEL`), else one that is
    called so.
    """
    if name == LEXICON:
        return lexicon_scores
    folder, colon, own = name.rpartition(":")
    if colon and not label and not Path(name).exists():
        return _classifier(folder, own)
    return _classifier(name, label)


def lexicon_scores(texts: Sequence[str]) -> list[float]:
    """The lexicon's score of each text."""
    return [lexicon_score(text) for text in texts]


def lexicon_score(text: str) -> float:
    """1 - the product of (1 - weight) over the different offensive words and phrases of a text.

    Obfuscated spellings match too: f*ck, f.u.c.k, fuuuck, 5h1t.
    """
    pattern, starts = _lexicon()
    found: dict[str, float] = {}
    for form in _deobfuscated_forms(text):
        for match in pattern.finditer(form):
            word = " ".join(match[0].split())
            found[word] = _weight(word, starts)
    for match in MASKED_WORD.finditer(text.lower()):
        hidden = re.compile(re.sub(r"[*#%]+", "[a-z]+", match[0]))
        weights = [weight for word, weight in starts if hidden.fullmatch(word.rstrip("*")) and weight >= 0.6]
        if weights:
            found[match[0]] = max(weights)
    clean = 1.0
    for weight in found.values():
        clean *= 1 - weight
    return 1 - clean


def _deobfuscated_forms(text: str) -> list[str]:
    """The lower-cased text, and its readings with digits as letters, without separators, and without repeats."""
    lower = text.lower().replace("’", "'")
    letters = LEETSPEAK_WORD.sub(lambda match: match[0].translate(LEETSPEAK_LETTERS), lower)
    joined = SPACED_OUT_WORD.sub(lambda match: re.sub(r"[^a-z]", "", match[0]), letters)
    forms = [lower, joined, REPEATED_LETTERS.sub(r"\1", joined), REPEATED_LETTERS.sub(r"\1\1", joined)]
    return list(dict.fromkeys(forms))


def _lexicon_rows() -> list[list[str]]:
    text = files("zhenlong.rewards").joinpath(LEXICON_FILE).read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines()]
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


@cache
def _lexicon() -> tuple[re.Pattern[str], tuple[tuple[str, float], ...]]:
    """A pattern for every entry, the longest first, and the entries with their weights."""
    entries = tuple((word.strip(), float(weight)) for weight, line in _lexicon_rows() for word in line.split(","))
    ordered = sorted((word for word, _ in entries), key=lambda word: (-len(word), word))
    forms = (
        re.escape(word.rstrip("*")).replace(r"\ ", r"\s+") + (r"\w*" if word[-1] == "*" else "") for word in ordered
    )
    return re.compile(rf"(?<!\w)(?:{'|'.join(forms)})(?!\w)"), entries


def _weight(word: str, entries: Sequence[tuple[str, float]]) -> float:
    """The weight of the entry that matched: the longest one that fits."""
    fits = [
        (len(entry), weight)
        for entry, weight in entries
        if word == entry or (entry[-1] == "*" and word.startswith(entry[:-1]))
    ]
    return max(fits)[1]


@cache
def _classifier(name: str, label: str) -> ToxicityScorer:
    """A Hugging Face sequence classifier on the CPU: the probability of its toxic label.

    Softmax over the labels, or a sigmoid of each if the model is configured as multi-label.
    """
    import torch

    from zhenlong.models import load_model  # torch and transformers, which the lexicon does not need

    try:
        loaded: tuple[Any, Any] = load_model(name, kind="classifier", device="cpu")
    except UserError as error:
        raise UserError(f"toxicity scorer {name}: expected lexicon or a classifier; {error}") from None
    model, tokenizer = loaded
    place = _toxic_label(name, label, model.config.id2label)
    several = model.config.problem_type == "multi_label_classification"

    @torch.inference_mode()
    def scores(texts: Sequence[str]) -> list[float]:
        if not texts:
            return []
        batch = tokenizer(list(texts), return_tensors="pt", padding=True, truncation=True, max_length=MAX_TOKENS)
        logits = model(**batch).logits.float()
        shares = logits.sigmoid() if several else logits.softmax(-1)
        return [float(value) for value in shares[:, place]]

    return scores


def _toxic_label(name: str, label: str, labels: dict[int, str]) -> int:
    wanted = (label.lower(),) if label else TOXIC_LABELS
    for one in wanted:
        for place, known in labels.items():
            if known.lower() == one:
                return int(place)
    expected = f"label {label!r}" if label else "toxic label"
    raise UserError(f"toxicity scorer {name}: has no {expected}; set label to one of {', '.join(labels.values())}")


def toxicity_reward(name: str = LEXICON) -> RewardFn:
    """The toxicity of each response's answer from 0 to 1, by `load_toxicity_scorer`; give it a negative weight."""
    scorer = load_toxicity_scorer(name)

    def reward(responses: Sequence[TaskResponse]) -> list[float]:
        answers = [strip_reasoning(response.text) for response in responses]
        scores = iter(scorer([text for text in answers if text.strip()]))
        return [next(scores) if text.strip() else 0.0 for text in answers]

    return reward
