"""How do tokens become log-probabilities? Trees of tokens, one flat forward pass, scored positions."""

from zhenlong.forest.budget import Batch, micro_batches, plant_batches
from zhenlong.forest.decoder import forward, layout_of
from zhenlong.forest.head import log_probs
from zhenlong.forest.planting import Forest, Node, plant, tree
from zhenlong.forest.scores import response_scores, scores

__all__ = [
    "Batch",
    "Forest",
    "Node",
    "forward",
    "layout_of",
    "log_probs",
    "micro_batches",
    "plant",
    "plant_batches",
    "response_scores",
    "scores",
    "tree",
]
