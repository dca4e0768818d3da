"""The built-in micro-world: a corpus, demonstrations, preferences, tasks and a gold reward, without a network."""

from zhenlong.world.world import World

__all__ = ["World"]
