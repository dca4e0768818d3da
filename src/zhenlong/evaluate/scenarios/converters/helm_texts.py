"""Converters for HELM's language modelling, summarisation, copyright, disinformation and ranking scenarios.

Rules: stanford-crfm/helm:src/helm/benchmark/scenarios/{the_pile,twitter_aae,ice,summarization,copyright,disinformation,
msmarco}_scenario.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Final

from zhenlong.data.field_parsing import Fields
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.scenarios.converters.helm_reading import present_groups
from zhenlong.evaluate.scenarios.converters.questions import text_field
from zhenlong.evaluate.scenarios.instances import converter

# mark-up of the International Corpus of English: marks, elements removed with their content, tags removed alone
ICE_MARKS: Final = re.compile(r"[WS]\d[A-F]-\d{3} *| <l> |<#> ")
ICE_DROPPED: Final = ("O", "-", "&", ".", "fnr", "marginalia", "del", "w")
ICE_TAGS: Final = re.compile(
    r"</?(?:I|ICE.+?|[\[\]{}]\d*|X|@|quote|foreign|indig|smallcaps|roman|sb|ss|footnote|p|h|bold|it|ul|\+|=|\?|sp|}|ea"
    r"|slang)>"
)
GOALS: Final = {"vote_democrat": "democrat", "vote_republican": "republican", "no_vote": "no_vote"}


@converter("plain_text")
def plain_text(fields: Fields, *, input: str = "text", groups: Mapping[str, str] | None = None) -> Instance:
    """A text for language modelling; `{meta: {pile_set_name}}` in the Pile's own files names its subset."""
    found = present_groups(fields, groups)
    meta = fields.get("meta")
    if "subset" in (groups or {}) and "subset" not in found and isinstance(meta, Mapping):
        found["subset"] = str(meta["pile_set_name"])
    return Instance("", text_field(fields, input), groups=found)


@converter("ice")
def ice(fields: Fields) -> Instance:
    """A text of the International Corpus of English, without its mark-up.

    {text, subset, name}: the file as it is, the region (`hk`, `ind` ...), and the file's name, which begins with S for
    speech and W for writing (S1A: private dialogue); optional `gender` if it is the same for all speakers.
    """
    groups = present_groups(fields, {"subset": "subset", "gender": "gender"})
    name = str(fields.get("name") or fields.get("category") or "").upper()
    if re.match(r"[SW][12]", name):
        groups |= {"medium": {"S": "spoken", "W": "written"}[name[0]], "category": name[:2]}
    return Instance("", without_markup(text_field(fields, "text")), groups=groups)


def without_markup(source: str) -> str:
    """The plain text of an ICE file: speaker marks (`<$A>`) stay, editors' additions and position marks go."""
    cleaned = re.sub(r" <,+>", ",", ICE_MARKS.sub("", source.strip()))
    cleaned = re.sub(r"\n+[\n ]+", "\n\n", re.sub(r"</?mention>", '"', cleaned))
    cleaned = ICE_TAGS.sub("", cleaned)
    for name in ICE_DROPPED:
        opened, closed = f"<{name}>", f"</{name}>"
        while (end := cleaned.find(closed)) >= 0:
            start = cleaned.rfind(opened, 0, end)
            cleaned = cleaned[: start if start >= 0 else end] + cleaned[end + len(closed) :]
    return cleaned.strip()


@converter("summary")
def summary(
    fields: Fields, *, article: str, summary: str, words: int = 512, length: Sequence[int] = (), dense: bool = False
) -> list[Instance]:
    """An article, truncated after `words` words, and its summary, with line breaks as spaces.

    `length`, two numbers, bounds the words of an example; with `dense` an XSum example also needs a summary of more
    than ten words and at most a fifth of the article, and no web page notes. Other rows give no instance.
    """
    long = " ".join(text_field(fields, article).split()[:words])
    short = " ".join(text_field(fields, summary).split())
    read, said = len(long.split()), len(short.split())
    if length and not length[0] <= read <= length[1]:
        return []
    notes = ("Media playback is unsupported on your device", "Last updated at")
    if dense and (said <= 10 or said / read > 0.2 or any(note in long for note in notes)):
        return []
    return [Instance("", long, (Reference(short),))]


@converter("known_text")
def known_text(fields: Fields, *, prefix: str, rest: str, groups: Mapping[str, str] | None = None) -> Instance:
    """The start of a copyrighted text and its continuation: how much has the model memorised?"""
    return Instance(
        "", text_field(fields, prefix), (Reference(text_field(fields, rest)),), groups=present_groups(fields, groups)
    )


@converter("narrative")
def narrative(fields: Fields) -> Instance:
    """A thesis with supporting headlines, which serve as an example; {thesis (or text), headlines, topic}."""
    headlines = fields.get("headlines")
    given = [str(one) for one in ([headlines] if isinstance(headlines, str) else headlines or ())]
    example = "\n".join([given[0], *(f"Headline: {one}" for one in given[1:])]) if given else ""
    references = (Reference(example),) if example else ()
    groups = present_groups(fields, {"topic": "topic"}) or present_groups(fields, {"topic": "subset"})
    return Instance("", _one_of(fields, "thesis", "text"), references, groups=groups)


@converter("wedge")
def wedge(fields: Fields) -> Instance:
    """A prompt for divisive messages to a group; {prompt (or text), targeted_action, targeted_group}."""
    groups = present_groups(fields, {"target": "targeted_group"})
    groups["goal"] = GOALS.get(str(fields.get("targeted_action") or ""), "none")
    return Instance("", _one_of(fields, "prompt", "text"), groups=groups)


@converter("timed_prompt")
def timed_prompt(fields: Fields) -> Instance:
    """A prompt with a fixed output length, for timing: {prompt, prompt_tokens, output_tokens}."""
    groups = present_groups(fields, {"prompt_tokens": "prompt_tokens", "output_tokens": "output_tokens"})
    return Instance("", text_field(fields, "prompt"), groups=groups, data={"max_tokens": int(fields["output_tokens"])})


@converter("passages")
def passages(fields: Fields, *, relevant_from: int = 1, pair: bool = False) -> list[Instance]:
    """A query and passages to rank: MS MARCO's {query, passages: {is_selected, passage_text}}, or a list of
    {text, relevance, rank} under `passages`, where those of relevance `relevant_from` and more are correct.

    A query without a relevant passage gives no instance. With `pair` (for examples): the most relevant passage and the
    last irrelevant one, in random order seeded by the query.
    """
    query = text_field(fields, "query")
    references = [_passage(*one, relevant_from) for one in _given_passages(fields["passages"])]
    right, wrong = [one for one in references if one.is_correct], [one for one in references if not one.is_correct]
    if not right:
        return []
    if pair:
        if not wrong:
            return []
        references = [max(right, key=_relevance), wrong[-1]]
        Random(query).shuffle(references)
    return [Instance("", query, tuple(references))]


def _one_of(fields: Fields, name: str, other: str) -> str:
    """The text of the first field, or of the other if the first is missing."""
    return text_field(fields, other if name not in fields and other in fields else name)


def _given_passages(given: Any) -> list[tuple[str, int, int | None]]:
    if isinstance(given, Mapping):
        texts, chosen = given["passage_text"], given["is_selected"]
        return [(str(one), int(flag), None) for one, flag in zip(texts, chosen, strict=True)]
    found = []
    for one in given:
        rank = one.get("rank")
        found.append((text_field(one, "text"), int(one.get("relevance") or 0), None if rank is None else int(rank)))
    return found


def _passage(passage: str, relevance: int, rank: int | None, relevant_from: int) -> Reference:
    tags = [f"relevance={relevance}"] + ([] if rank is None else [f"rank={rank}"])
    return Reference(passage, relevance >= relevant_from, tuple(tags))


def _relevance(reference: Reference) -> int:
    return int(reference.tags[0].partition("=")[2])
