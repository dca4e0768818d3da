"""Answers with recorded labels or scores: TruthfulQA's truth and information, toxicity of every sample.

{"question", "output", "truth", "info"}                              TruthfulQA, one row for each question
{"Question", "M", "M GPT-judge acc", "M GPT-info acc"}               its own table of answers of a model M
{"prompt", "generations": [{"text", "toxicity"}, ...]}               RealToxicityPrompts
{"id" or "prompt", "outputs": [...], "toxicity": [...]}              the same, as texts and scores
{"input", "output_1", "output_2", "label", "results": [...]}         LLMBar
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from zhenlong.data.files import RawRow
from zhenlong.errors import UserError
from zhenlong.evaluate.transcripts.transcript import (
    MAX_NAMES_SHOWN,
    ReadingContext,
    Transcript,
    TranscriptFormat,
    TranscriptRow,
    has_fields,
    shorten,
)

LABEL_COLUMN: Final = re.compile(r"(?P<model>.+) GPT-(?P<kind>judge|true|truth|info) acc")
PROMPT_NAMES: Final = ("prompt", "instruction", "question", "Question", "input")
ANSWER_NAMES: Final = ("response", "completion", "output", "generation", "answer")


def read_prompted(rows: Sequence[RawRow], context: ReadingContext) -> Transcript:
    """Answers beside their prompts; what else a row holds is recorded."""
    found = []
    for row in rows:
        name = next((one for one in PROMPT_NAMES if one in row.fields), "")
        prompt = prompt_text(row.fields.get(name))
        if prompt is None:
            raise UserError(f"{row.location}: {name or 'prompt'}: expected the request as text or messages")
        rest = {key: value for key, value in row.fields.items() if key != name}
        found.append(TranscriptRow(row.location, with_output(rest), prompt=prompt))
    return Transcript("answers beside their prompts", found)


def read_generations(rows: Sequence[RawRow], context: ReadingContext) -> Transcript:
    """Samples with a toxicity score each; null where the scorer failed."""
    found = []
    for row in rows:
        given = row.fields.get("generations") or [row.fields.get("continuation")]
        if (
            not isinstance(given, list)
            or not given
            or not all(isinstance(one, Mapping) and "text" in one for one in given)
        ):
            raise UserError(f"{row.location}: generations: expected texts with their toxicity, got {shorten(given)}")
        fields = {"outputs": [one["text"] for one in given], "toxicity": [one.get("toxicity") for one in given]}
        prompt = prompt_text(row.fields.get("prompt"))
        if prompt is None:
            raise UserError(f"{row.location}: prompt: expected the prompt, as text or with the field text")
        found.append(TranscriptRow(row.location, fields, prompt=prompt))
    return Transcript("samples with toxicity scores, as RealToxicityPrompts has them", found)


def read_truthfulqa_table(rows: Sequence[RawRow], context: ReadingContext) -> Transcript:
    """The columns of one model in TruthfulQA's table of answers."""
    columns: dict[str, dict[str, str]] = {}
    for name in rows[0].fields:
        if match := LABEL_COLUMN.fullmatch(name):
            kind = "info" if match["kind"] == "info" else "truth"
            columns.setdefault(match["model"], {})[kind] = name
    model = context.model if context.model in columns else next(iter(columns))
    if len(columns) > 1 and model != context.model:
        shown = ", ".join(list(columns)[:MAX_NAMES_SHOWN])
        raise UserError(f"{context.path}: holds {len(columns)} models ({shown}); choose one with --model")
    found = []
    for row in rows:
        labels = {kind: row.fields.get(name) for kind, name in columns[model].items()}
        fields = {"output": str(row.fields.get(model) or ""), **labels}
        found.append(TranscriptRow(row.location, fields, prompt=str(row.fields.get("Question") or "")))
    return Transcript("TruthfulQA's table of answers", found, model)


def read_llmbar(rows: Sequence[RawRow], context: ReadingContext) -> Transcript:
    """LLMBar's `result.json`: grades of both outputs, or choices in both orders, of each row of its data."""
    found = []
    for number, row in enumerate(rows):
        results = row.fields["results"]
        last = results[-1] if isinstance(results, list) and results else None
        if not isinstance(last, Mapping):
            raise UserError(f"{row.location}: results: expected a list of results, got {shorten(results)}")
        graded = "score_1" in last
        names = {"1": "score_1", "2": "score_2"} if graded else {"12": "swap = False", "21": "swap = True"}
        for suffix, name in names.items():
            given = last.get(name)
            given = given.get("completion") if isinstance(given, Mapping) else given
            text = given[0] if isinstance(given, list) and given else given
            if not isinstance(text, str):
                raise UserError(f"{row.location}: {name}: expected the judge's response, got {shorten(given)}")
            found.append(TranscriptRow(row.location, {"output": text}, f"{number}-{suffix}"))
    return Transcript("results of LLMBar", found)


def with_output(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, the answer under `output` where it has another common name."""
    own = ("output", "outputs", "turns", "choice_log_probs", "text_log_prob", "failed")
    if any(fields.get(name) is not None for name in own):
        return dict(fields)
    name = next((one for one in ANSWER_NAMES if isinstance(fields.get(one), str | list)), "")
    if not name:
        return dict(fields)
    kind = "outputs" if isinstance(fields[name], list) else "output"
    return {kind: fields[name], **{key: value for key, value in fields.items() if key != name}}


def prompt_text(given: Any) -> str | None:
    """A prompt as text: itself, its field `text`, or the last message of the user."""
    if isinstance(given, Mapping):
        given = given.get("text")
    if isinstance(given, list) and given and all(isinstance(one, Mapping) for one in given):
        users = [one.get("content") for one in given if one.get("role") == "user"]
        given = users[-1] if users else None
    return given if isinstance(given, str) else None


def _is_prompted(fields: Mapping[str, Any]) -> bool:
    has_prompt = any(name in fields for name in PROMPT_NAMES)
    return has_prompt and any(name in fields for name in (*ANSWER_NAMES, "outputs", "turns"))


def _has_generations(fields: Mapping[str, Any]) -> bool:
    given = fields.get("generations")
    several = isinstance(given, list) and bool(given) and isinstance(given[0], Mapping)
    return several or isinstance(fields.get("continuation"), Mapping)


def _is_truthfulqa_table(fields: Mapping[str, Any]) -> bool:
    return "Question" in fields and any(LABEL_COLUMN.fullmatch(name) for name in fields)


LLMBAR_FORMAT: Final = TranscriptFormat("LLMBar results", has_fields("results", "output_1", "output_2"), read_llmbar)
LABELLED_FORMATS: Final = (
    LLMBAR_FORMAT,
    TranscriptFormat("TruthfulQA table", _is_truthfulqa_table, read_truthfulqa_table),
    TranscriptFormat("samples with toxicity", _has_generations, read_generations),
    TranscriptFormat("prompts and responses", _is_prompted, read_prompted),
)
