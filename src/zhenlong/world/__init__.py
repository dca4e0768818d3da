"""The built-in synthetic world: a corpus, demonstrations, preferences, tasks and a gold reward, without a network."""

from zhenlong.world.annotators import Annotator, annotate
from zhenlong.world.closed_book import Cloze
from zhenlong.world.demonstrator import IDEAL_DEMONSTRATOR, Demonstrator
from zhenlong.world.gold import GoldBreakdown, gold_breakdown, gold_reward
from zhenlong.world.world import World

__all__ = [
    "IDEAL_DEMONSTRATOR",
    "Annotator",
    "Cloze",
    "Demonstrator",
    "GoldBreakdown",
    "World",
    "annotate",
    "gold_breakdown",
    "gold_reward",
]
