"""Selection of in-context examples, as in HELM: one set for all instances of a trial, balanced over the labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import cycle
from random import Random

from zhenlong.evaluate.adapters.spec import Adapter
from zhenlong.evaluate.results.instance import Instance


def sample_balanced_examples(pool: Sequence[Instance], count: int, trial: int) -> list[Instance]:
    """Up to `count` examples of the pool, sampled with the seed `trial`.

    The label of an example is its first correct reference. Labels are cycled through, the most frequent first and ties
    shuffled; each turn samples one example of the label without replacement. Examples without a label come last
    (stanford-crfm/helm:src/helm/benchmark/adaptation/adapters/in_context_learning_adapter.py, whose random numbers
    these are).
    """
    rng = Random(trial)
    by_label: dict[str, list[Instance]] = defaultdict(list)
    unlabelled = []
    for one in pool:
        if one.correct_texts:
            by_label[one.correct_texts[0]].append(one)
        else:
            unlabelled.append(one)
    left = min(count, len(pool))
    labelled = sum(map(len, by_label.values()))
    chosen: list[Instance] = []
    for label in cycle(_label_order(by_label, rng)):
        if len(chosen) == min(left, labelled):
            break
        rest = by_label[label]
        if rest:
            chosen.append(rest.pop(rng.randrange(len(rest))))
    return chosen + rng.sample(unlabelled, left - len(chosen))


def examples_by_group(adapter: Adapter, pool: Sequence[Instance], trial: int) -> dict[str, list[Instance]]:
    """The examples of a trial for each value of the group `adapter.examples_by`; under "" if it is empty."""
    if not adapter.shots:
        return {}
    groups: dict[str, list[Instance]] = defaultdict(list)
    for one in pool:
        groups[one.groups.get(adapter.examples_by, "") if adapter.examples_by else ""].append(one)
    return {name: _group_examples(adapter, members, trial) for name, members in groups.items()}


def without_item(examples: Mapping[str, Sequence[Instance]], item: Instance) -> Mapping[str, Sequence[Instance]]:
    """The examples without the item itself, known by its input and right answers. The same object if absent."""
    if not any(_is_same_item(one, item) for several in examples.values() for one in several):
        return examples
    return {name: [one for one in several if not _is_same_item(one, item)] for name, several in examples.items()}


def _is_same_item(example: Instance, item: Instance) -> bool:
    same_input = example.input.strip() == item.input.strip()
    return same_input and sorted(example.correct_texts) == sorted(item.correct_texts)


def _group_examples(adapter: Adapter, pool: Sequence[Instance], trial: int) -> list[Instance]:
    if adapter.sample_examples:
        return sample_balanced_examples(pool, adapter.shots, trial)
    return list(pool[adapter.shots * trial : adapter.shots * (trial + 1)])


def _label_order(by_label: dict[str, list[Instance]], rng: Random) -> list[str]:
    by_count: dict[int, list[str]] = defaultdict(list)
    for label in sorted(by_label):
        by_count[len(by_label[label])].append(label)
    order = []
    for count in sorted(by_count, reverse=True):
        tied = by_count[count]
        rng.shuffle(tied)
        order += tied
    return order
