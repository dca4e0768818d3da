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

from typing_extensions import Unpack

from zhenlong.data import BadRow, read
from zhenlong.data.message_parsing import message_text
from zhenlong.data.options import PromptOptions
from zhenlong.errors import UserError
from zhenlong.evaluate.heldout.sampled_responses import sample_responses
from zhenlong.loop.atomic import write_json, write_text
from zhenlong.models import load_model
from zhenlong.options import take_options
from zhenlong.options.keywords import PromptKwargs
from zhenlong.records import Demonstration, Message, Ranking, Task, to_json
from zhenlong.sampling import Completion, SamplingParams

PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def demonstration_pairs(
    *,
    model: str,
    data: str,
    output: str,
    template_values: Sequence[str] = (),
    samples_per_prompt: int = 1,
    max_tokens: int = 128,
    temperature: float = 1.0,
    seed: int = 0,
    **options: Unpack[PromptKwargs],
) -> Path:
    """Rank what demonstrations say above what the model says to the same prompts.

    Args:
        model: Whose own answers are the worse ones: pocket, a model or run folder, or a hub id.
        data: Demonstrations; the last assistant turn of each is the better answer.
        output: Folder for rankings.jsonl and demonstration_pairs.json, which counts what was left out.
        template_values: What stands in place of `{{name}}` in the demonstrations, as name=value. Give it again for each
            slot.
        samples_per_prompt: Own answers to each prompt; all of them rank below the demonstration's, none above another.
        max_tokens: Longest own answer; one that is cut off is kept, for it is what the model says.
        temperature: Sampling temperature of the own answers; 0 takes the likeliest.
        seed: Seed of the sampling.

    Returns the file. Raises `UserError` for a slot without a value and one that no demonstration has, and when the
    model already says what the demonstrations say.
    """
    (prompt_options,) = take_options(options, PromptOptions())
    if samples_per_prompt < 1:
        raise UserError(f"samples_per_prompt: expected 1 or more, got {samples_per_prompt}")
    values = _parse_template_values(template_values)
    skipped: list[BadRow] = []
    rows = read(data, Demonstration, skip_bad_rows=prompt_options.skip_bad_rows, skipped=skipped)
    pairs = [_split_last_turn(row) for row in fill_templates(rows, values)]
    network, tokenizer = load_model(model)
    sampling = SamplingParams(temperature=temperature, max_tokens=max_tokens, seed=seed)
    tasks = [task for task, _ in pairs]
    sampled = sample_responses(
        network,
        tokenizer,
        tasks,
        sampling,
        chat_template=prompt_options.template_spec,
        samples_per_prompt=samples_per_prompt,
    )
    maybe_rankings = [
        _to_ranking(task, better, own) for (task, better), own in zip(pairs, sampled.completions, strict=True)
    ]
    rankings = [one for one in maybe_rankings if one is not None]
    if not rankings:
        raise UserError(f"{model}: it says nothing else than {data} does; there is nothing to prefer")
    counts = {"rows": len(rows), "rankings": len(rankings), "same_or_empty": len(maybe_rankings) - len(rankings)}
    write_json(Path(output) / "demonstration_pairs.json", {**counts, "skipped": len(skipped), **sampled.describe()})
    path = Path(output) / "rankings.jsonl"
    write_text(path, "".join(json.dumps(to_json(one), ensure_ascii=False) + "\n" for one in rankings))
    return path


def fill_templates(rows: Sequence[Demonstration], values: Mapping[str, str]) -> list[Demonstration]:
    """The demonstrations with every `{{name}}` replaced. Raises `UserError` for a slot or a value left over."""
    placeholders = {slot for row in rows for message in row.messages for slot in PLACEHOLDER.findall(message.content)}
    if placeholders != set(values):
        missing, extra = sorted(placeholders - set(values)), sorted(set(values) - placeholders)
        what = f"no value for {{{{{missing[0]}}}}}" if missing else f"no demonstration has {{{{{extra[0]}}}}}"
        raise UserError(
            f"template_values: {what}; expected a value for each of {', '.join(sorted(placeholders)) or 'no slots'}"
        )
    if not values:
        return list(rows)
    return [replace(row, messages=tuple(_fill_message(message, values) for message in row.messages)) for row in rows]


def _fill_message(message: Message, values: Mapping[str, str]) -> Message:
    return replace(message, content=PLACEHOLDER.sub(lambda found: values[found[1]], message.content))


def _parse_template_values(template_values: Sequence[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in template_values]
    if any(not name.strip() or not value for name, _, value in pairs):
        raise UserError(f"template_values: expected name=value, such as name=Zhen, got {', '.join(template_values)}")
    return {name.strip(): value for name, _, value in pairs}


def _split_last_turn(row: Demonstration) -> tuple[Task, str]:
    last = max(i for i, message in enumerate(row.messages) if message.role == "assistant")
    return Task(row.messages[:last]), message_text(row.messages[last])


def _to_ranking(task: Task, chosen: str, completions: Sequence[Completion]) -> Ranking | None:
    """The demonstration first, the model's different answers after it; None where it says nothing else."""
    texts = [one.text for one in completions if one.text.strip() and one.text.strip() != chosen.strip()]
    rejected = list(dict.fromkeys(texts))
    if not rejected:
        return None
    return Ranking(task.prompt, (chosen, *rejected), (1, *[2] * len(rejected)), annotator="demonstration_pairs")
