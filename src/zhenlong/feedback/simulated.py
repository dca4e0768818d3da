"""Preferences on a model's own answers: sampled, shown to simulated annotators, and kept as rankings.

A reward model judges best what it has seen, and a policy is trained on what it says itself; so preferences are
collected on the answers of the model that is to be trained (Stiennon et al. 2020, §3.1; Ouyang et al. 2022, §3.2).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

from zhenlong.data import Template, read
from zhenlong.errors import UserError
from zhenlong.evaluate.responses import respond
from zhenlong.loop.atomic import write_text
from zhenlong.models import load_model
from zhenlong.records import Ranking, Task, to_json
from zhenlong.sampling import Completion, Sampling
from zhenlong.world import annotate
from zhenlong.world.annotators import NOISE, Annotator, panel


def collect(
    *,
    model: str,
    tasks: str,
    output: str,
    responses: int = 4,
    annotators: int = 5,
    noise: float = NOISE,
    length_bias: float = 0.0,
    list_bias: float = 0.0,
    max_tokens: int = 128,
    temperature: float = 1.0,
    chat_template: str = "auto",
    seed: int = 0,
) -> Path:
    """Let the world's annotators rank a model's answers.

    Args:
        model: Whose answers: pocket, a model or run folder, or a hub id.
        tasks: Prompts of the built-in world, such as `world:tasks?n=1000`.
        output: Folder for rankings.jsonl.
        responses: Answers sampled for each prompt; what is empty, cut off or said twice is not shown.
        annotators: Size of the panel; each prompt goes to one of them.
        noise: How often they err: the temperature of their comparisons, in units of gold reward.
        length_bias: Utility they see in ten more words.
        list_bias: Utility they see in a list.
        max_tokens: Longest answer.
        temperature: Sampling temperature.
        chat_template: The tokenizer's own (auto), or chatml, llama2, llama3 or alpaca.
        seed: Seed of the sampling and of the annotators.

    Returns the file. Raises `UserError` when nothing could be told apart.
    """
    if responses < 2:
        raise UserError(f"responses: expected 2 or more, since a ranking compares them, got {responses}")
    asked = read(tasks, Task)
    network, tokenizer = load_model(model)
    Template.of(tokenizer, chat_template)
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens, seed=seed)
    found = respond(network, tokenizer, asked, sampling, chat_template=chat_template, n=responses)
    rng = Random(f"collect:{seed}")
    people = panel(annotators, seed, noise, length_bias, list_bias)
    rankings = [_ranked(task, shown, rng, people) for task, shown in zip(asked, found.completions, strict=True)]
    kept = [ranking for ranking in rankings if ranking is not None]
    if not kept:
        raise UserError(f"{model}: its answers to {tasks} could not be told apart; ask more tasks, or sample hotter")
    path = Path(output) / "rankings.jsonl"
    write_text(path, "".join(json.dumps(to_json(ranking), ensure_ascii=False) + "\n" for ranking in kept))
    return path


def _ranked(task: Task, shown: Sequence[Completion], rng: Random, people: Sequence[Annotator]) -> Ranking | None:
    """One annotator's ranking of the answers that are whole and different; None if there is nothing to compare."""
    texts = list(dict.fromkeys(one.text for one in shown if one.text.strip() and not one.truncated))
    annotator = rng.choice(people)
    if len(texts) < 2:
        return None
    return annotate(task.prompt, texts, annotator, rng, task.arguments.get("seed", 0))
