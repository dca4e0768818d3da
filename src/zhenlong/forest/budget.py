"""Which records go through the model together: by their number of tokens, never by their number."""

from collections.abc import Sequence


def micro_batches(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Cut records of `sizes` tokens into groups of at most `budget` tokens, similar sizes together.

    Returns lists of indices that cover every record once. A record larger than the budget is a group of its own.
    Sorting by size keeps the padding inside attention blocks small; which records share a group never changes the
    gradient.
    """
    groups: list[list[int]] = []
    filled = budget + 1
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        if filled + sizes[index] > budget:
            groups.append([])
            filled = 0
        groups[-1].append(index)
        filled += sizes[index]
    return groups
