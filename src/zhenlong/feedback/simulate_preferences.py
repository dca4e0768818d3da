"""Preferences on a model's own answers: sampled, shown to simulated annotators, and kept as rankings.

A reward model judges best what it has seen, and a policy is trained on what it says itself; so preferences are
collected on the answers of the model that is to be trained (Stiennon et al. 2020, §3.1; Ouyang et al. 2022, §3.2).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

from typing_extensions import Unpack

from zhenlong.data import ChatTemplate, read
from zhenlong.data.options import TemplateOptions
from zhenlong.errors import UserError
from zhenlong.evaluate.heldout.sampled_responses import sample_responses
from zhenlong.loop.atomic import write_text
from zhenlong.models import load_model
from zhenlong.options import take_options
from zhenlong.options.keywords import TemplateKwargs
from zhenlong.records import Ranking, Task, to_json
from zhenlong.sampling import Completion, SamplingParams
from zhenlong.world import annotate
from zhenlong.world.annotators import DEFAULT_NOISE, Annotator, PanelOptions, make_panel


def simulate_preferences(
    *,
    model: str,
    tasks: str,
    output: str,
    samples_per_prompt: int = 4,
    annotators: int = 5,
    noise: float = DEFAULT_NOISE,
    length_bias: float = 0.0,
    list_bias: float = 0.0,
    max_tokens: int = 128,
    temperature: float = 1.0,
    seed: int = 0,
    **options: Unpack[TemplateKwargs],
) -> Path:
    """Let the world's annotators rank a model's answers.

    Args:
        model: Whose answers: pocket, a model or run folder, or a hub id.
        tasks: Prompts of the built-in world, such as `world:tasks?n=1000`.
        output: Folder for rankings.jsonl.
        annotators: Size of the panel; each prompt goes to one of them.
        noise: How often they err: the temperature of their comparisons, in units of gold reward.
        length_bias: Utility they see in ten more words.
        list_bias: Utility they see in a list.
        max_tokens: Longest answer.
        temperature: Sampling temperature.
        seed: Seed of the sampling and of the annotators.

    Returns the file. Raises `UserError` when nothing could be told apart.
    """
    (template,) = take_options(options, TemplateOptions())
    if samples_per_prompt < 2:
        raise UserError(
            f"samples_per_prompt: expected 2 or more, since a ranking compares them, got {samples_per_prompt}"
        )
    task_records = read(tasks, Task)
    network, tokenizer = load_model(model)
    ChatTemplate.from_tokenizer(tokenizer, template.template_spec)
    sampling = SamplingParams(temperature=temperature, max_tokens=max_tokens, seed=seed)
    sampled = sample_responses(
        network,
        tokenizer,
        task_records,
        sampling,
        chat_template=template.template_spec,
        samples_per_prompt=samples_per_prompt,
    )
    rng = Random(f"collect:{seed}")
    annotator_panel = make_panel(PanelOptions(annotators, noise, length_bias, list_bias), seed)
    rankings = [
        _to_ranking(task, shown, rng, annotator_panel)
        for task, shown in zip(task_records, sampled.completions, strict=True)
    ]
    decided = [ranking for ranking in rankings if ranking is not None]
    if not decided:
        raise UserError(f"{model}: its answers to {tasks} could not be told apart; ask more tasks, or sample hotter")
    path = Path(output) / "rankings.jsonl"
    write_text(path, "".join(json.dumps(to_json(ranking), ensure_ascii=False) + "\n" for ranking in decided))
    return path


def _to_ranking(
    task: Task, completions: Sequence[Completion], rng: Random, annotators: Sequence[Annotator]
) -> Ranking | None:
    """One annotator's ranking of the answers that are whole and different; None if there is nothing to compare."""
    texts = list(dict.fromkeys(one.text for one in completions if one.text.strip() and not one.truncated))
    annotator = rng.choice(annotators)
    if len(texts) < 2:
        return None
    return annotate(task.prompt, texts, annotator, rng, task.arguments.get("seed", 0))
