"""Converters for HELM's multiple-choice scenarios with prompts or correct answers of their own.

Rules: stanford-crfm/helm:src/helm/benchmark/scenarios/<name>_scenario.py with the names mmlu, commonsense, truthful_qa,
lsat_qa, legal_support, blimp.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from zhenlong.data.field_parsing import Fields
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.scenarios.converters.helm_reading import present_groups
from zhenlong.evaluate.scenarios.converters.questions import CHOICE_LETTERS, text_field
from zhenlong.evaluate.scenarios.instances import converter

LSAT_KINDS: Final = {
    "grouping": ("in/out grouping", "distribution grouping"),
    "ordering": ("simple ordering", "relative ordering", "complex ordering"),
    "assignment": ("determined assignment", "undetermined assignment"),
}


def choice_references(texts: Sequence[Any], right: int, name: str) -> tuple[Reference, ...]:
    """References of which the one at index `right` is correct. Raises `ValueError` if the index is out of range."""
    if not 0 <= right < len(texts):
        raise ValueError(f"{name}: {right} is no index of the {len(texts)} choices, counted from 0")
    return tuple(Reference(str(one), place == right) for place, one in enumerate(texts))


@converter("mmlu_helm")
def mmlu_helm(fields: Fields, *, choices: str | Sequence[str] = "choices") -> Instance:
    """MMLU with the subject in the instructions; the subject is the field `subject`, or the name of the `file`."""
    options = fields[choices] if isinstance(choices, str) else [fields[one] for one in choices]
    given = str(fields["answer"]).strip()
    right = CHOICE_LETTERS.find(given.upper()) if given.isalpha() else int(given)
    subject = str(fields.get("subject") or _without_split(str(fields.get("file") or "")))
    about = f" about {subject.replace('_', ' ')}" if subject else ""
    return Instance(
        "",
        text_field(fields, "question"),
        choice_references(options, right, "answer"),
        groups={"subject": subject} if subject else {},
        data={"instructions": f"The following are multiple choice questions (with answers){about}.\n"},
    )


@converter("hellaswag")
def hellaswag(fields: Fields) -> Instance:
    """HellaSwag: the activity, the context, and the endings."""
    begun = str(fields["ctx_b"])
    asked = f"{text_field(fields, 'activity_label')}: {text_field(fields, 'ctx_a')} {begun[:1].upper()}{begun[1:]}"
    return Instance("", asked, choice_references(list(fields["endings"]), int(fields["label"]), "label"))


@converter("openbookqa")
def openbookqa(fields: Fields) -> Instance:
    """OpenBookQA: {question_stem, choices: {text, label}, answerKey}, or the original's {question: {stem, choices}}."""
    if "question_stem" in fields:
        asked = text_field(fields, "question_stem")
        options = list(zip(fields["choices"]["label"], fields["choices"]["text"], strict=True))
    else:
        asked = str(fields["question"]["stem"])
        options = [(one["label"], one["text"]) for one in fields["question"]["choices"]]
    labels = [label for label, _ in options]
    key = str(fields["answerKey"]).strip()
    if key not in labels:
        raise ValueError(f"answerKey: expected one of {', '.join(labels)}, got {key!r}")
    return Instance("", asked, choice_references([option for _, option in options], labels.index(key), "answerKey"))


@converter("truthful_qa_helm")
def truthful_qa_helm(fields: Fields) -> Instance:
    """TruthfulQA with the wrong answers and the best answer, rotated so that its letter varies.

    The list is rotated by the code point of the best answer's first letter, as in HELM. Accepts the hub's `generation`
    rows, the original CSV, and {question, choices, gold_index}.
    """
    if "gold_index" in fields:
        return Instance(
            "",
            text_field(fields, "question"),
            choice_references(fields["choices"], int(fields["gold_index"]), "gold_index"),
        )
    if "best_answer" in fields:
        asked, best, wrong = (
            text_field(fields, "question"),
            text_field(fields, "best_answer"),
            list(fields["incorrect_answers"]),
        )
    else:
        asked, best = text_field(fields, "Question"), text_field(fields, "Best Answer")
        wrong = [one for one in text_field(fields, "Incorrect Answers").split(";") if one.strip()]
    best = _sentence(best)
    references = [Reference(_sentence(one), False) for one in wrong if one.strip()] + [Reference(best)]
    turn = ord(best[0]) % len(references)
    group = {name: field for name, field in (("category", "category"), ("category", "Category")) if field in fields}
    return Instance("", asked.strip(), (*references[turn:], *references[:turn]), groups=present_groups(fields, group))


@converter("lsat")
def lsat(fields: Fields) -> Instance | list[Instance]:
    """LSAT analytical reasoning: {passage, question, references, gold_index}, or a passage of AR-LSAT's JSON."""
    if "questions" not in fields:
        asked = f"{text_field(fields, 'passage')}\nQuestion: {text_field(fields, 'question')}"
        right = choice_references(fields["references"], int(fields["gold_index"]), "gold_index")
        return Instance(
            "", asked, right, groups=present_groups(fields, {"kind": "subset"}), cluster=text_field(fields, "passage")
        )
    found = []
    for number, one in enumerate(fields["questions"]):
        asked = f"{text_field(fields, 'passage')}\nQuestion: {one['question']}"
        right = choice_references(one["options"], CHOICE_LETTERS.find(str(one["answer"])), "answer")
        found.append(Instance(str(number), asked, right, groups={"kind": _lsat_kind(one.get("tags", ()))}))
    return found


@converter("legal_support")
def legal_support(fields: Fields) -> Instance:
    """LegalSupport: which of two case summaries supports the passage better?"""
    label = str(fields["label"]).strip().lower()
    if label not in ("a", "b"):
        raise ValueError(f"label: expected a or b, got {fields['label']!r}")
    cases = [str(fields[f"citation_{one}"]["parenthetical"]) for one in "ab"]
    return Instance("", text_field(fields, "context"), choice_references(cases, "ab".index(label), "label"))


@converter("minimal_pair")
def minimal_pair(fields: Fields, *, good: str, bad: str, groups: Mapping[str, str] | None = None) -> Instance:
    """A minimal pair without a question: the acceptable sentence should have the higher log-probability."""
    pair = (Reference(text_field(fields, good)), Reference(text_field(fields, bad), False))
    return Instance("", "", pair, groups=present_groups(fields, groups))


def _without_split(name: str) -> str:
    return name.removesuffix("_test").removesuffix("_dev").removesuffix("_val")


def _sentence(answer: str) -> str:
    answer = answer.strip()
    return answer if answer.endswith(".") else answer + "."


def _lsat_kind(tags: Sequence[str]) -> str:
    own = (tags[2] if len(tags) > 2 else "").replace("grouping (distribution)", "distribution grouping")
    return next((kind for kind, owns in LSAT_KINDS.items() if own in owns), "miscellaneous")
