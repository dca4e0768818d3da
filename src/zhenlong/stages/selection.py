"""Which of a prompt's sampled answers are worth imitating: the best one, or those that are right."""

from __future__ import annotations

from collections.abc import Sequence

from zhenlong.stages.rollout import Group


def best_response(group: Group, allow_truncated: bool = False) -> list[int]:
    """The place of the answer with the largest reward, the first of equals; none where no answer can be used.

    An empty one cannot, nor, without `allow_truncated`, a truncated one: it would teach to stop there.
    """
    usable = _usable_indices(group, allow_truncated)
    return [max(usable, key=lambda place: group.rewards[place])] if usable else []


def correct_responses(
    group: Group,
    reward_threshold: float,
    max_per_prompt: int,
    seen: set[tuple[int, str]],
    allow_truncated: bool = False,
) -> list[int]:
    """Indices of the first `max_per_prompt` (0: all) responses that reach `reward_threshold` and are not in `seen`.

    `seen` holds (task_index, text) of the answers kept so far, and gets those of this group.
    """
    indices: list[int] = []
    for index in _usable_indices(group, allow_truncated):
        key = (group.task_index, group.texts[index].strip())
        if (
            group.rewards[index] >= reward_threshold
            and key not in seen
            and len(indices) < (max_per_prompt or len(group.texts))
        ):
            seen.add(key)
            indices.append(index)
    return indices


def subset(group: Group, indices: Sequence[int]) -> Group:
    """The group with these answers alone, without what is known of its tokens."""
    return Group(
        group.task_index,
        group.prompt,
        [group.responses[place] for place in indices],
        [group.texts[place] for place in indices],
        [group.truncated[place] for place in indices],
        [group.rewards[place] for place in indices],
    )


def _usable_indices(group: Group, allow_truncated: bool) -> list[int]:
    return [
        place
        for place, (text, truncated) in enumerate(zip(group.texts, group.truncated, strict=True))
        if text.strip() and (allow_truncated or not truncated)
    ]
