"""Preferences for what a demonstration says over what the model itself says: no annotator is needed.

The demonstration is the better answer by definition, so this teaches a change that someone has decided on, such as
another name, and keeps from the model only what it would have said in its place (SPIN, Chen et al. 2024).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from zhenlong.data import BadRow, read
from zhenlong.data.chats import spoken
from zhenlong.errors import UserError
from zhenlong.evaluate.responses import respond
from zhenlong.loop.atomic import write_json, write_text
from zhenlong.models import load_model
from zhenlong.records import Demonstration, Message, Ranking, Task, to_json
from zhenlong.sampling import Completion, Sampling

SLOT = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def contrast(
    *,
    model: str,
    data: str,
    output: str,
    fill: Sequence[str] = (),
    responses: int = 1,
    max_tokens: int = 128,
    temperature: float = 1.0,
    chat_template: str = "auto",
    skip_bad_rows: bool = False,
    seed: int = 0,
) -> Path:
    """Rank what demonstrations say above what the model says to the same prompts.

    Args:
        model: Whose own answers are the worse ones: pocket, a model or run folder, or a hub id.
        data: Demonstrations; the last assistant turn of each is the better answer.
        output: Folder for rankings.jsonl and contrast.json, which counts what was left out.
        fill: What stands in place of `{{name}}` in the demonstrations, as name=value. Give it again for each slot.
        responses: Own answers to each prompt; all of them rank below the demonstration's, none above another.
        max_tokens: Longest own answer; one that is cut off is kept, for it is what the model says.
        temperature: Sampling temperature of the own answers; 0 takes the likeliest.
        chat_template: The tokenizer's own (auto), or chatml, llama2, llama3 or alpaca.
        skip_bad_rows: Leave bad rows out and count them.
        seed: Seed of the sampling.

    Returns the file. Raises `UserError` for a slot without a value and one that no demonstration has, and when the
    model already says what the demonstrations say.
    """
    if responses < 1:
        raise UserError(f"responses: expected 1 or more, got {responses}")
    values = _values(fill)
    skipped: list[BadRow] = []
    rows = read(data, Demonstration, skip_bad_rows=skip_bad_rows, skipped=skipped)
    pairs = [_prompt_and_answer(row) for row in filled(rows, values)]
    network, tokenizer = load_model(model)
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens, seed=seed)
    tasks = [task for task, _ in pairs]
    found = respond(network, tokenizer, tasks, sampling, chat_template=chat_template, n=responses)
    every = [_ranked(task, better, own) for (task, better), own in zip(pairs, found.completions, strict=True)]
    rankings = [one for one in every if one is not None]
    if not rankings:
        raise UserError(f"{model}: it says nothing else than {data} does; there is nothing to prefer")
    counts = {"rows": len(rows), "rankings": len(rankings), "same_or_empty": len(every) - len(rankings)}
    write_json(Path(output) / "contrast.json", {**counts, "skipped": len(skipped), **found.describe()})
    path = Path(output) / "rankings.jsonl"
    write_text(path, "".join(json.dumps(to_json(one), ensure_ascii=False) + "\n" for one in rankings))
    return path


def filled(rows: Sequence[Demonstration], values: Mapping[str, str]) -> list[Demonstration]:
    """The demonstrations with every `{{name}}` replaced. Raises `UserError` for a slot or a value left over."""
    seen = {slot for row in rows for message in row.messages for slot in SLOT.findall(message.content)}
    if seen != set(values):
        missing, extra = sorted(seen - set(values)), sorted(set(values) - seen)
        what = f"no value for {{{{{missing[0]}}}}}" if missing else f"no demonstration has {{{{{extra[0]}}}}}"
        raise UserError(f"fill: {what}; expected a value for each of {', '.join(sorted(seen)) or 'no slots'}")
    if not values:
        return list(rows)
    return [replace(row, messages=tuple(_filled(message, values) for message in row.messages)) for row in rows]


def _filled(message: Message, values: Mapping[str, str]) -> Message:
    return replace(message, content=SLOT.sub(lambda found: values[found[1]], message.content))


def _values(fill: Sequence[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in fill]
    if any(not name.strip() or not value for name, _, value in pairs):
        raise UserError(f"fill: expected name=value, such as name=Zhen, got {', '.join(fill)}")
    return {name.strip(): value for name, _, value in pairs}


def _prompt_and_answer(row: Demonstration) -> tuple[Task, str]:
    last = max(i for i, message in enumerate(row.messages) if message.role == "assistant")
    return Task(row.messages[:last]), spoken(row.messages[last])


def _ranked(task: Task, better: str, own: Sequence[Completion]) -> Ranking | None:
    """The demonstration first, the model's different answers after it; None where it says nothing else."""
    texts = [one.text for one in own if one.text.strip() and one.text.strip() != better.strip()]
    worse = list(dict.fromkeys(texts))
    if not worse:
        return None
    return Ranking(task.prompt, (better, *worse), (1, *[2] * len(worse)), annotator="contrast")
