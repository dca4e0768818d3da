"""The built-in micro-world: a corpus, demonstrations, preferences, tasks and a gold reward, without a network."""

from zhenlong.world.annotators import Annotator, annotate
from zhenlong.world.closed_book import Cloze
from zhenlong.world.demonstrator import IDEAL, Demonstrator
from zhenlong.world.gold import Check, check, gold_reward
from zhenlong.world.world import World

__all__ = ["IDEAL", "Annotator", "Check", "Cloze", "Demonstrator", "World", "annotate", "check", "gold_reward"]
