"""From tokens to log-probabilities: trees of tokens, one packed forward pass, scored positions."""

from zhenlong.forest.decoder import forward, layout_of
from zhenlong.forest.lm_head import log_probs
from zhenlong.forest.packing import (
    Forest,
    Microbatch,
    TreeNode,
    make_microbatches,
    make_tree,
    microbatch_indices,
    pack_trees,
)
from zhenlong.forest.scoring import apply_reward_head, score_forest

__all__ = [
    "Forest",
    "Microbatch",
    "TreeNode",
    "apply_reward_head",
    "forward",
    "layout_of",
    "log_probs",
    "make_microbatches",
    "make_tree",
    "microbatch_indices",
    "pack_trees",
    "score_forest",
]
