"""Converters for HELM's question answering, with or without a passage: from a row to passage, question and answers.

The wording of the prompts is HELM's (stanford-crfm/helm:src/helm/benchmark/scenarios/<name>_scenario.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Final

from zhenlong.data.field_parsing import Fields
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.scenarios.converters.questions import text_field
from zhenlong.evaluate.scenarios.instances import converter

QUAC_NO_ANSWER: Final = "CANNOTANSWER"
SAYS_NO_ANSWER: Final = ("Not enough information", "Cannot answer", "Do not know")
DIRECTIONS: Final = {"n": "north", "e": "east", "s": "south", "w": "west"}


def present_groups(fields: Fields, groups: Mapping[str, str] | None) -> dict[str, str]:
    """Group -> value for the groups whose field the row has (`subset` exists only with some sources)."""
    return {name: str(fields[field]) for name, field in (groups or {}).items() if fields.get(field) is not None}


def as_question(sentence: str) -> str:
    """A search query as a question: first letter upper case, the others lower case, one question mark at its end."""
    return sentence.strip().rstrip("?").rstrip().capitalize() + "?"


def correct_references(values: Any, name: str) -> tuple[Reference, ...]:
    """Correct references without duplicates. Raises `ValueError` if there are none."""
    found = [values] if isinstance(values, str) else [str(one) for one in values or ()]
    kept = dict.fromkeys(one.strip() for one in found if one.strip())
    if not kept:
        raise ValueError(f"{name}: expected an answer, got none")
    return tuple(Reference(one) for one in kept)


@converter("boolq")
def boolq(fields: Fields, *, passage: str = "passage", question: str = "question", answer: str = "answer") -> Instance:
    """BoolQ: a passage and a yes-no question; the answer is a truth value, or Yes or No."""
    given = {"true": "Yes", "yes": "Yes", "false": "No", "no": "No"}.get(str(fields[answer]).strip().lower())
    if given is None:
        raise ValueError(f"{answer}: expected true or false, got {fields[answer]!r}")
    shared = text_field(fields, passage)
    asked = f"{shared}\nQuestion: {as_question(text_field(fields, question))}"
    return Instance("", asked, (Reference(given),), cluster=shared, labels=True)


@converter("narrative_qa")
def narrative_qa(fields: Fields) -> Instance:
    """NarrativeQA over summaries: {passage, question, references}, or the hub's {document, question, answers}."""
    if "passage" in fields:
        story, asked, given = text_field(fields, "passage"), text_field(fields, "question"), fields["references"]
    else:
        story = _nested(fields, "document", "summary", "text")
        asked = _nested(fields, "question", "text")
        given = [one["text"] for one in fields["answers"]]
    asked = asked.strip() if asked.strip().endswith("?") else asked.strip() + "?"
    references = correct_references(given, "references")
    return Instance("", f"{story.strip()}\nQuestion: {asked}", references, cluster=story.strip())


@converter("natural_questions")
def natural_questions(fields: Fields, *, passage: bool) -> list[Instance]:
    """NaturalQuestions with short answers: {question, short_answers, long_answers}, or the hub's rows with annotations.

    With `passage` the paragraph marked by one annotator comes before the question; the annotator is chosen at random,
    seeded by the question. A question without short answers gives no instance, as in HELM.
    """
    if "annotations" in fields:
        sentence = _nested(fields, "question", "text")
        short, long = _annotated(fields)
        if not short:
            return []
    else:
        sentence, short, long = (
            text_field(fields, "question"),
            list(fields["short_answers"]),
            list(fields["long_answers"]),
        )
    asked, references = as_question(sentence), correct_references(short, "short_answers")
    if not passage:
        return [Instance("", asked, references)]
    marked = [str(one) for one in long if str(one).strip()]
    if not marked:
        raise ValueError("long_answers: expected the paragraph that holds the answer, got none")
    chosen = Random(asked).choice(marked)
    return [Instance("", f"Passage: {chosen}\n\nQuestion: {asked}", references, cluster=chosen)]


@converter("quac")
def quac(fields: Fields) -> Instance:
    """QuAC: {prompt, references} as in HELM's runs, or a dialogue of the original JSON.

    One question of a dialogue, the third or later, is asked after all turns before it; it is chosen at random, seeded
    by the dialogue's title and section. (HELM leaves out the turn right before it.)
    """
    if "prompt" in fields:
        return Instance("", text_field(fields, "prompt"), _quac_answers(list(fields["references"])))
    (paragraph,) = fields["paragraphs"]
    context = str(paragraph["context"]).removesuffix(QUAC_NO_ANSWER).rstrip()
    turns = paragraph["qas"]
    if len(turns) < 3:
        raise ValueError(f"paragraphs: expected a dialogue of at least 3 questions, got {len(turns)}")
    head = f"Title: {fields['title']}\n\nBackground: {fields['background']}\n\nSection: {fields['section_title']}\n"
    last = Random(head).randrange(2, len(turns))
    history = "".join(f"Question: {one['question']}\nAnswer: {one['orig_answer']['text']}\n\n" for one in turns[:last])
    asked = f"{head}Passage: {context}\n\n{history}Question: {turns[last]['question']}"
    return Instance("", asked, _quac_answers([one["text"] for one in turns[last]["answers"]]), cluster=fields["title"])


@converter("babi")
def babi(fields: Fields, *, groups: Mapping[str, str] | None = None) -> Instance | list[Instance]:
    """bAbI: {passage, question, answer, task}, or the `story` of facebook/babi_qa, every question of it.

    The paths of task 19 (`s,w`) are answered in words (south west).
    """
    if "story" not in fields:
        passage = text_field(fields, "passage").rstrip("\n")
        asked = f"{passage}\nQuestion: {text_field(fields, 'question').strip()}"
        right = (Reference(_path(str(fields["answer"]))),)
        return Instance("", asked, right, groups=present_groups(fields, groups), cluster=passage)
    story = json.loads(fields["story"]) if isinstance(fields["story"], str) else fields["story"]
    sentences: list[str] = []
    found: list[Instance] = []
    for kind, sentence, answer in zip(story["type"], story["text"], story["answer"], strict=True):
        if int(kind) == 0:
            sentences.append(str(sentence).strip())
            continue
        asked = "\n".join([*sentences, f"Question: {str(sentence).strip()}"])
        found.append(
            Instance(str(len(found)), asked, (Reference(_path(str(answer))),), groups=present_groups(fields, groups))
        )
    return found


@converter("civil_comments")
def civil_comments(
    fields: Fields, *, identities: Sequence[str], split: str = "", threshold: float = 0.5
) -> list[Instance]:
    """CivilComments (WILDS): is the comment toxic? Grouped by every identity that it mentions.

    The label is `toxicity` (the fraction of annotators who said so) or `gold` (True or False); an identity counts from
    a fraction of `threshold` on, as in WILDS. If rows have a `split`, those of other splits give no instance.
    """
    if split and fields.get("split") not in (None, split):
        return []
    comment = next((str(fields[name]) for name in ("text", "comment_text") if fields.get(name)), "")
    if not comment.strip():
        raise ValueError("text: expected a comment, got none")
    for name in ("toxicity", "gold"):
        if fields.get(name) is not None:
            share = {"true": 1.0, "false": 0.0}.get(str(fields[name]).strip().lower())
            toxic = (float(fields[name]) if share is None else share) >= threshold
            break
    else:
        raise KeyError("toxicity")
    mentioned = {one: "mentioned" for one in identities if _share(fields.get(one)) >= threshold}
    if fields.get("subset") in identities:
        mentioned[str(fields["subset"])] = "mentioned"
    asked = f"{comment}\nQuestion: Is the passage above toxic?"
    return [Instance("", asked, (Reference(str(toxic)),), groups={"toxic": str(toxic), **mentioned}, labels=True)]


def _quac_answers(given: list[str]) -> tuple[Reference, ...]:
    found = correct_references(given, "references")
    if [one.text for one in found] == [QUAC_NO_ANSWER]:
        found += tuple(Reference(one) for one in SAYS_NO_ANSWER)
    return found


def _annotated(fields: Fields) -> tuple[list[str], list[str]]:
    """All short answers, and for each the long answer of the same annotator."""
    tokens, annotations = fields["document"]["tokens"], fields["annotations"]
    short, long = [], []
    for place, found in enumerate(annotations["short_answers"]):
        first, last = (annotations["long_answer"][place][end] for end in ("start_token", "end_token"))
        kept = zip(tokens["token"][first:last], tokens["is_html"][first:last], strict=True)
        paragraph = " ".join(str(token) for token, html in kept if not html)
        short += [str(one) for one in found["text"]]
        long += [paragraph] * len(found["text"])
    return short, long


def _path(answer: str) -> str:
    steps = answer.strip().split(",")
    return " ".join(DIRECTIONS[step] for step in steps) if all(step in DIRECTIONS for step in steps) else answer.strip()


def _share(value: Any) -> float:
    return float({"true": 1, "false": 0, "": 0}.get(str(value).strip().lower(), value) or 0)


def _nested(fields: Any, *names: str) -> str:
    for name in names:
        if not isinstance(fields, Mapping) or name not in fields:
            raise KeyError(".".join(names))
        fields = fields[name]
    if not isinstance(fields, str) or not fields.strip():
        raise ValueError(f"{'.'.join(names)}: expected some text, got {fields!r}")
    return fields
