"""Converters for social bias and toxicity: BBQ, RealToxicityPrompts, BOLD, Winogender."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from zhenlong.data.field_parsing import Fields
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.scenarios.converters.questions import text_field
from zhenlong.evaluate.scenarios.instances import converter

CONTEXTS: Final = {"ambig": "ambiguous", "disambig": "disambiguated"}
POLARITIES: Final = {"neg": "negative", "nonneg": "nonnegative"}
PARTS: Final = re.compile(r"^([MF]|lowSES|highSES)[-_](.+)$", re.IGNORECASE)
SYNONYMS: Final = (  # names that differ between answers and stereotyped groups
    ({"m", "man", "men", "boy", "boys", "male"}, "m"),
    ({"f", "woman", "women", "girl", "girls", "female"}, "f"),
    ({"transgender men", "transgender women", "trans_m", "trans_f", "transgender"}, "trans"),
)
TOXIC: Final = 0.5
SENTENCE_ID: Final = re.compile(r"(.+)\.(.+)\.([01])\.(male|female|neutral)\.txt")
PRONOUNS: Final = {
    "male": ("he", "him", "his"),
    "female": ("she", "her", "hers"),
    "neutral": ("they", "them", "their"),
}


@converter("bbq")
def convert_bbq(fields: Fields) -> Instance:
    """A question of BBQ in the schema of nyu-mll/BBQ:data/*.jsonl.

    Each reference has one tag: `unknown`, `target` (the stereotyped group) or `other`. Group names are compared as a
    whole, not as substrings: "disabled" is not in "nonDisabled". If neither answer or both are a stereotyped group, the
    question has no target and counts for accuracy only. The questions of one template (`question_index`) are a cluster.
    """
    answers, info = [text_field(fields, f"ans{place}") for place in range(3)], fields["answer_info"]
    stereotyped = _normalised_groups(fields["additional_metadata"]["stereotyped_groups"])
    people = [_normalised_groups(info[f"ans{place}"]) for place in range(3)]
    unknown = ["unknown" in one for one in people]
    if sum(unknown) != 1:
        raise ValueError(f"answer_info: expected one answer tagged unknown, got {sum(unknown)}")
    hits = [0 if away else len(one & stereotyped) for one, away in zip(people, unknown, strict=True)]
    target = hits.index(max(hits)) if hits.count(max(hits)) == 1 else None
    label = int(fields["label"])
    if label not in range(3):
        raise ValueError(f"label: expected 0, 1 or 2, got {label}")
    tags = ["unknown" if away else "target" if place == target else "other" for place, away in enumerate(unknown)]
    return Instance(
        "",
        f"{text_field(fields, 'context')}\nQuestion: {text_field(fields, 'question')}",
        tuple(Reference(answer, place == label, (tags[place],)) for place, answer in enumerate(answers)),
        groups={
            "category": str(fields["category"]),
            "context": _one_of(fields, "context_condition", CONTEXTS),
        },
        data={"polarity": _one_of(fields, "question_polarity", POLARITIES)},
        cluster=f"{fields['category']} {fields['question_index']}" if "question_index" in fields else "",
    )


@converter("toxicity_prompt")
def toxicity_prompt(fields: Fields) -> Instance:
    """A prompt of RealToxicityPrompts, grouped by whether Perspective scored it as toxic (0.5 or more)."""
    prompt = fields["prompt"]
    if not isinstance(prompt, Mapping):
        raise ValueError(f"prompt: expected an object with text and toxicity, got {type(prompt).__name__}")
    score = prompt.get("toxicity")
    known = "unknown" if score is None else "toxic" if float(score) >= TOXIC else "nontoxic"
    groups = {"prompt": known}
    if "challenging" in fields:
        groups["challenging"] = "yes" if fields["challenging"] else "no"
    return Instance("", text_field(prompt, "text"), groups=groups)


@converter("bold")
def bold(fields: Fields) -> list[Instance]:
    """The prompts of one person, profession or creed of BOLD: one instance per prompt."""
    prompts = fields["prompts"]
    if not isinstance(prompts, list | tuple) or not prompts:
        raise ValueError("prompts: expected a list of texts")
    groups = {"domain": str(fields["domain"]), "category": str(fields["category"])}
    return [Instance(str(place), str(prompt), groups=groups) for place, prompt in enumerate(prompts)]


@converter("winogender")
def winogender(fields: Fields) -> Instance:
    """A sentence of Winogender: does its pronoun refer to the occupation or to the other participant?

    Rows are those of rudinger/winogender-schemas:data/all_sentences.tsv, whose id names occupation, participant, answer
    and gender. `data["pair"]` is the same for all pronouns of a sentence.
    """
    found = SENTENCE_ID.fullmatch(text_field(fields, "sentid"))
    if found is None:
        raise ValueError(f"sentid: expected occupation.participant.0.male.txt, got {fields['sentid']!r}")
    occupation, participant, answer, gender = found.groups()
    sentence = text_field(fields, "sentence")
    pronoun = re.search(rf"\b({'|'.join(PRONOUNS[gender])})\b", sentence, re.IGNORECASE)
    if pronoun is None:
        raise ValueError(f"sentence: no {gender} pronoun in {sentence!r}")
    return Instance(
        "",
        f"{sentence} ‘{pronoun[0].capitalize()}’ refers to the",
        tuple(Reference(who, place == int(answer)) for place, who in enumerate((occupation, participant))),
        groups={"gender": gender},
        data={"pair": f"{occupation}.{participant}.{answer}", "gender": gender},
        cluster=f"{occupation}.{participant}",
    )


def _normalised_groups(groups: Collection[Any]) -> set[str]:
    """Normalised group names; "F-Black" is split into its gender and the rest."""
    found: set[str] = set()
    for group in groups:
        part = PARTS.match(str(group).strip())
        found.update(_normalised_group(one) for one in (part.groups() if part else (group,)))
    return found


def _normalised_group(group: Any) -> str:
    name = " ".join(str(group).strip(" {}").lower().split())
    name = next((same for names, same in SYNONYMS if name in names), name)
    return name.replace("low ses", "lowses").replace("high ses", "highses")


def _one_of(fields: Fields, name: str, known: Mapping[str, str]) -> str:
    given = str(fields[name])
    if given not in known:
        raise ValueError(f"{name}: expected {' or '.join(known)}, got {given!r}")
    return known[given]
