"""Which of a prompt's sampled answers are worth imitating: the best one, or those that are right."""

from __future__ import annotations

from collections.abc import Sequence

from zhenlong.stages.rollout import Group


def best_answer(group: Group, cut: bool = False) -> list[int]:
    """The place of the answer with the largest reward, the first of equals; none where no answer can be used.

    An answer that says nothing cannot, nor, without `cut`, one that was cut off: it would teach to stop there.
    """
    usable = _usable(group, cut)
    return [max(usable, key=lambda place: group.rewards[place])] if usable else []


def right_answers(
    group: Group, threshold: float, most: int, seen: set[tuple[int, str]], cut: bool = False
) -> list[int]:
    """The places of the first `most` answers that earn `threshold` and say what no other in `seen` does (0: of all).

    `seen` holds (record, text) of the answers kept so far, and gets those of this group.
    """
    places: list[int] = []
    for place in _usable(group, cut):
        said = (group.record, group.texts[place].strip())
        if group.rewards[place] >= threshold and said not in seen and len(places) < (most or len(group.texts)):
            seen.add(said)
            places.append(place)
    return places


def only(group: Group, places: Sequence[int]) -> Group:
    """The group with these answers alone, without what is known of its tokens."""
    return Group(
        group.record,
        group.prompt,
        [group.responses[place] for place in places],
        [group.texts[place] for place in places],
        [group.truncated[place] for place in places],
        [group.rewards[place] for place in places],
    )


def _usable(group: Group, cut: bool) -> list[int]:
    return [
        place
        for place, (text, truncated) in enumerate(zip(group.texts, group.truncated, strict=True))
        if text.strip() and (cut or not truncated)
    ]
