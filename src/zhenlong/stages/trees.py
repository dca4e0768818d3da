"""From a data specification to the trees of a stage and the order to draw them in; what does not fit is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from zhenlong.data import BadRow, Mixture, Overlong, Template, fit_length, parse_blend, read, read_mixture
from zhenlong.data.reader import K
from zhenlong.errors import UserError
from zhenlong.forest import Node, tree
from zhenlong.loop import Options, Run
from zhenlong.records import Demonstration, Ranking, Rating

Rated = TypeVar("Rated", Ranking, Rating)


def read_all(
    run: Run, data: str, kind: type[K], options: Options, what: str = "data", phased: bool = False
) -> tuple[list[K], Mixture]:
    """The records of one or several sources, and the order to draw them in.

    Other shares in the decay phase are for stages that draw by it (`phased`), with the schedule that has one.
    With the stage's `skip_bad_rows`, the rows left out are listed in the run folder's `skipped_<what>.json`.
    """
    skipped: list[BadRow] = []
    skip = bool(run.config.get("skip_bad_rows"))
    if parse_blend(data).phased and not (phased and options.schedule == "wsd"):
        why = "--schedule wsd" if phased else "pretrain and sft; give each source one weight"
        raise UserError(f"{what}: {data}: weights for the decay phase need {why}")
    records, order = read_mixture(data, kind, seed=options.seed, skip_bad_rows=skip, skipped=skipped)
    note_skipped(run, what, skipped)
    return records, order


def read_heldout(run: Run, heldout: str, kind: type[K]) -> list[K]:
    """The held-out records, none when no source is named; bad rows are treated as in the data."""
    if not heldout:
        return []
    skipped: list[BadRow] = []
    records = read(heldout, kind, skip_bad_rows=bool(run.config.get("skip_bad_rows")), skipped=skipped)
    note_skipped(run, "heldout", skipped)
    return records


def note_skipped(run: Run, what: str, skipped: Sequence[BadRow]) -> None:
    """List the rows that were left out in the run folder's `skipped_<what>.json`."""
    if skipped:
        rows = [{"place": bad.place, "problem": bad.problem} for bad in skipped]
        run.note(f"skipped_{what}.json", {"count": len(rows), "rows": rows})


def conversation_trees(
    run: Run,
    demonstrations: Sequence[Demonstration],
    order: Mixture,
    template: Template,
    max_length: int,
    too_long: Overlong,
) -> tuple[list[Node], Mixture]:
    """Demonstrations as trees of one node, the assistant's tokens scored (several where a template needs them)."""
    samples, sizes = [], []
    for records in by_source(demonstrations, order):
        found = [sample for record in records for sample in template.samples(record.messages)]
        fitted = fit_length(found, max_length, too_long, "conversation")
        note_lengths(run, fitted.truncated, fitted.dropped)
        samples += fitted.samples
        sizes.append(len(fitted.samples))
    return [Node(ids, scored) for ids, scored in samples], resized(order, sizes)


def ranking_trees(
    run: Run, rankings: Sequence[Ranking], order: Mixture, template: Template, max_length: int, too_long: Overlong
) -> tuple[list[Node], list[Ranking], Mixture]:
    """Rankings as trees, the prompt with one scored child for each response, and the rankings that fit."""
    return _response_trees(run, rankings, order, template, max_length, too_long, lambda one: one.responses)


def rating_trees(
    run: Run, ratings: Sequence[Rating], order: Mixture, template: Template, max_length: int, too_long: Overlong
) -> tuple[list[Node], list[Rating], Mixture]:
    """Ratings as trees, the prompt with its response as the one scored child, and the ratings that fit."""
    return _response_trees(run, ratings, order, template, max_length, too_long, lambda one: (one.response,))


def _response_trees(
    run: Run,
    rated: Sequence[Rated],
    order: Mixture,
    template: Template,
    max_length: int,
    too_long: Overlong,
    texts_of: Callable[[Rated], Sequence[str]],
) -> tuple[list[Node], list[Rated], Mixture]:
    """Prompts with their responses as trees; what is too long stops the run, is cut, or is left out and counted."""
    trees: list[Node] = []
    kept: list[Rated] = []
    sizes = []
    for records in by_source(rated, order):
        before, cut = len(kept), 0
        for number, record in enumerate(records, 1):
            prompt = template.prompt(record.prompt)
            responses = [template.response(record.prompt, text) for text in texts_of(record)]
            room = max_length - len(prompt)
            if max(map(len, responses)) > room:
                if too_long == "error":
                    longest = len(prompt) + max(map(len, responses))
                    raise UserError(
                        f"{type(record).__name__.lower()} {number}: {longest} tokens, more than the maximum length of "
                        f"{max_length}; raise it, or choose to truncate or drop what is too long"
                    )
                responses = [response[: max(room, 0)] for response in responses]
                if too_long == "drop" or room < 1 or len({tuple(response) for response in responses}) < len(responses):
                    continue
                cut += 1
            trees.append(tree(prompt, responses))
            kept.append(record)
        note_lengths(run, cut, len(records) - (len(kept) - before))
        sizes.append(len(kept) - before)
    return trees, kept, resized(order, sizes)


def by_source(records: Sequence[Any], order: Mixture) -> list[Sequence[Any]]:
    """The records of each source that the order is over."""
    starts = [sum(order.sizes[:i]) for i in range(len(order.sizes) + 1)]
    return [records[start:end] for start, end in pairwise(starts)]


def resized(order: Mixture, sizes: list[int]) -> Mixture:
    """The same order over sources that have `sizes` records now."""
    if tuple(sizes) == order.sizes:
        return order
    if min(sizes) == 0:
        raise UserError("data: nothing of a source fits the maximum length; raise max_length")
    return order.resized(sizes)


def note_lengths(run: Run, truncated: int, dropped: int) -> None:
    """Keep in the run folder how many records were too long."""
    if truncated or dropped:
        run.note("too_long.json", {"truncated": truncated, "dropped": dropped})
