"""Steps of sampling recorded once and replayed: on CUDA a step of a small model is bound by launching its kernels.

A step without entering prompts is the same operations on the same memory for as long as rows, prompts and columns keep
their places (`Step.views`). Its first step runs as it is and so prepares whatever is prepared once; the second one is
recorded as a CUDA graph, and this and all later ones are replays of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch

from zhenlong.sampling.fused import Fused
from zhenlong.sampling.step import Step, Views

Run = Callable[[], torch.Tensor]


class Replay:
    """A network that replays what `record` makes of a step; `record` takes a function of no arguments, for its run.

    Ids and positions lie in memory of the recording; the result is valid until the next step.
    """

    def __init__(self, network: Fused, record: Callable[[Run], Run] | None = None) -> None:
        self.network, self.record = network, record or CudaGraphs()
        self._views: Views | None = None
        self._run: Run | None = None
        self._inputs: tuple[torch.Tensor, torch.Tensor] | None = None
        self._turns = network.turns  # what the recording reads lives as long as it

    def __call__(
        self, ids: torch.Tensor, positions: torch.Tensor, step: Step, kept: torch.Tensor | None
    ) -> torch.Tensor:
        """Logits, as of the network."""
        if step.entering:
            return self.network(ids, positions, step, kept)
        views = step.views()
        if views is not self._views:
            self._views, self._run = views, None
            return self.network(ids, positions, step, None)
        if self._run is None:
            own_ids, own_positions = self._inputs = ids.clone(), positions.clone()
            self._run = self.record(lambda: self.network(own_ids, own_positions, step, None))
            self._turns = self.network.turns
        assert self._inputs is not None
        for own, new in zip(self._inputs, (ids, positions), strict=True):
            own.copy_(new)
        return self._run()


class CudaGraphs:
    """Records functions as CUDA graphs, which share one pool of memory: only the last recording may be run."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Run) -> Run:
        graph: Final = torch.cuda.CUDAGraph()
        stream, main = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(main)
        with torch.cuda.stream(stream):
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                result = function()
            finally:
                graph.capture_end()
        main.wait_stream(stream)

        def run() -> torch.Tensor:
            graph.replay()
            return result

        return run
