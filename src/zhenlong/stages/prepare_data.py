"""From a data specification to the trees of a stage and the order to draw them in; what does not fit is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import torch

from zhenlong.data import (
    BadRow,
    ChatTemplate,
    LengthLimit,
    Mixture,
    enforce_max_length,
    parse_mixture_spec,
    read,
    read_mixture,
)
from zhenlong.data.reader import RecordT
from zhenlong.errors import UserError
from zhenlong.forest import TreeNode, make_tree
from zhenlong.loop import Run, TrainingOptions
from zhenlong.records import Demonstration, Ranking, Rating

PreferenceRecord = TypeVar("PreferenceRecord", Ranking, Rating)


def read_training_data(
    run: Run,
    data: str,
    record_type: type[RecordT],
    options: TrainingOptions,
    name: str = "data",
    allow_decay_weights: bool = False,
) -> tuple[list[RecordT], Mixture]:
    """The records of one or several sources, and the order to draw them in.

    Weights for the decay phase need a stage that draws by it (`allow_decay_weights`) and the wsd schedule.
    With the stage's `skip_bad_rows`, the rows left out are listed in the run folder's `skipped_<name>.json`.
    """
    skipped: list[BadRow] = []
    skip = bool(run.config.get("skip_bad_rows"))
    spec = parse_mixture_spec(data)
    if spec.has_decay_weights and not (allow_decay_weights and options.schedule == "wsd"):
        requirement = "--schedule wsd" if allow_decay_weights else "pretrain and sft; give each source one weight"
        raise UserError(f"{name}: {data}: weights for the decay phase need {requirement}")
    records, order = read_mixture(spec, record_type, seed=options.seed, skip_bad_rows=skip, skipped=skipped)
    write_skipped_rows(run, name, skipped)
    return records, order


def read_heldout(run: Run, heldout: str, record_type: type[RecordT]) -> list[RecordT]:
    """The held-out records, none when no source is named; bad rows are treated as in the data."""
    if not heldout:
        return []
    skipped: list[BadRow] = []
    records = read(heldout, record_type, skip_bad_rows=bool(run.config.get("skip_bad_rows")), skipped=skipped)
    write_skipped_rows(run, "heldout", skipped)
    return records


def write_skipped_rows(run: Run, name: str, skipped: Sequence[BadRow]) -> None:
    """List the rows that were left out in the run folder's `skipped_<name>.json`."""
    if skipped:
        rows = [{"location": bad.location, "problem": bad.problem} for bad in skipped]
        run.write_note(f"skipped_{name}.json", {"count": len(rows), "rows": rows})


def conversation_trees(
    run: Run,
    demonstrations: Sequence[Demonstration],
    order: Mixture,
    template: ChatTemplate,
    limit: LengthLimit,
) -> tuple[list[TreeNode], Mixture]:
    """Demonstrations as trees of one node, the assistant's tokens scored (several where a template needs them)."""
    samples, sizes = [], []
    for records in split_by_source(demonstrations, order):
        record_samples = [sample for record in records for sample in template.training_examples(record.messages)]
        fitted = enforce_max_length(record_samples, limit, "conversation")
        write_overlong_counts(run, fitted.truncated, fitted.dropped)
        samples += fitted.examples
        sizes.append(len(fitted.examples))
    return [TreeNode(ids, scored) for ids, scored in samples], resize_order(order, sizes)


def ranking_trees(
    run: Run, rankings: Sequence[Ranking], order: Mixture, template: ChatTemplate, limit: LengthLimit
) -> tuple[list[TreeNode], list[Ranking], Mixture]:
    """Rankings as trees, the prompt with one scored child for each response, and the rankings that fit."""
    return _response_trees(run, rankings, order, template, limit, lambda one: one.responses)


def pair_indices(rankings: Sequence[Ranking], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All pairs of the batch's rankings: indices of chosen [P] and rejected [P] responses, and ranking index [P]."""
    chosen, rejected, ranking_index = [], [], []
    first = 0
    for number, ranking in enumerate(rankings):
        for i, j in ranking.pairs():
            chosen.append(first + i)
            rejected.append(first + j)
            ranking_index.append(number)
        first += len(ranking.responses)
    return tuple(torch.tensor(found, device=device) for found in (chosen, rejected, ranking_index))  # type: ignore[return-value]


def rating_trees(
    run: Run, ratings: Sequence[Rating], order: Mixture, template: ChatTemplate, limit: LengthLimit
) -> tuple[list[TreeNode], list[Rating], Mixture]:
    """Ratings as trees, the prompt with its response as the one scored child, and the ratings that fit."""
    return _response_trees(run, ratings, order, template, limit, lambda one: (one.response,))


def _response_trees(
    run: Run,
    records: Sequence[PreferenceRecord],
    order: Mixture,
    template: ChatTemplate,
    limit: LengthLimit,
    responses_of: Callable[[PreferenceRecord], Sequence[str]],
) -> tuple[list[TreeNode], list[PreferenceRecord], Mixture]:
    """Prompts with their responses as trees; what is too long stops the run, is cut, or is left out and counted."""
    trees: list[TreeNode] = []
    fitting: list[PreferenceRecord] = []
    sizes = []
    for source_records in split_by_source(records, order):
        before, truncated = len(fitting), 0
        for number, record in enumerate(source_records, 1):
            prompt = template.encode_prompt(record.prompt)
            responses = [template.encode_response(record.prompt, text) for text in responses_of(record)]
            max_response_tokens = limit.max_length - len(prompt)
            if max(map(len, responses)) > max_response_tokens:
                if limit.overlong == "error":
                    longest = len(prompt) + max(map(len, responses))
                    raise UserError(
                        f"{type(record).__name__.lower()} {number}: {longest} tokens, more than the maximum length of "
                        f"{limit.max_length}; raise it, or choose to truncate or drop what is too long"
                    )
                responses = [response[: max(max_response_tokens, 0)] for response in responses]
                if (
                    limit.overlong == "drop"
                    or max_response_tokens < 1
                    or len({tuple(response) for response in responses}) < len(responses)
                ):
                    continue
                truncated += 1
            trees.append(make_tree(prompt, responses))
            fitting.append(record)
        write_overlong_counts(run, truncated, len(source_records) - (len(fitting) - before))
        sizes.append(len(fitting) - before)
    return trees, fitting, resize_order(order, sizes)


def split_by_source(records: Sequence[Any], order: Mixture) -> list[Sequence[Any]]:
    """The records of each source that the order is over."""
    starts = [sum(order.sizes[:i]) for i in range(len(order.sizes) + 1)]
    return [records[start:end] for start, end in pairwise(starts)]


def resize_order(order: Mixture, sizes: list[int]) -> Mixture:
    """The same order over sources that have `sizes` records now."""
    if tuple(sizes) == order.sizes:
        return order
    if min(sizes) == 0:
        raise UserError("data: nothing of a source fits the maximum length; raise max_length")
    return order.with_sizes(sizes)


def write_overlong_counts(run: Run, truncated: int, dropped: int) -> None:
    """Keep in the run folder how many records were too long, over all sources."""
    if truncated or dropped:
        run.add_to_note("overlong.json", {"truncated": truncated, "dropped": dropped})
