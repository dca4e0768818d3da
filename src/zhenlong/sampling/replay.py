"""Steps of sampling recorded once and replayed: on CUDA a step of a small model is bound by launching its kernels.

A step without entering prompts is the same operations on the same memory for as long as rows, prompts and columns keep
their places (`Step.views`). Its first step runs as it is and so prepares whatever is prepared once; the second one is
recorded as a CUDA graph, and this and all later ones are replays of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch

from zhenlong.sampling.draw import draw
from zhenlong.sampling.fused import Fused
from zhenlong.sampling.request import Sampling
from zhenlong.sampling.step import Step, Views

Run = Callable[[], Any]
Drawn = tuple[torch.Tensor, torch.Tensor]


class Replay:
    """A network, and the drawing from its logits, that replay what `record` makes of a step.

    `record` takes a function of no arguments and returns what does the same again on the same memory. Inputs lie in
    memory of the recording; a result is valid until the next step.
    """

    def __init__(self, network: Fused, record: Callable[[Run], Run] | None = None) -> None:
        self.network, self.record = network, record or CudaGraphs()
        self._views: Views | None = None
        self._step: Recorded | None = None
        self._drawing: Recorded | None = None
        self._replayed = False  # whether this step was
        self._turns = network.turns  # what a recording reads lives as long as it

    def __call__(
        self, ids: torch.Tensor, positions: torch.Tensor, step: Step, kept: torch.Tensor | None
    ) -> torch.Tensor:
        """Logits, as of the network."""
        self._replayed = False
        if step.entering:
            return self.network(ids, positions, step, kept)
        views = step.views()
        if views is not self._views:
            self._views, self._step, self._drawing = views, None, None
            return self.network(ids, positions, step, None)
        if self._step is None:
            self._step = Recorded(
                lambda ids, positions: self.network(ids, positions, step, None), (ids, positions), self.record
            )
            self._turns = self.network.turns
        self._replayed = True
        return self._step(ids, positions)

    def draw(self, logits: torch.Tensor, uniforms: torch.Tensor, sampling: Sampling) -> Drawn:
        """Ids and log-probabilities, as `zhenlong.sampling.draw.draw` gives them, from this step's logits."""
        if not self._replayed or 0 < sampling.top_p < 1:  # top-p looks at a number before it goes on
            return draw(logits, uniforms, sampling)
        if self._drawing is None:
            self._drawing = Recorded(lambda uniforms: draw(logits, uniforms, sampling), (uniforms,), self.record)
        return self._drawing(uniforms)


class Recorded:
    """A recorded function of tensors of fixed shapes."""

    def __init__(
        self, function: Callable[..., Any], inputs: Sequence[torch.Tensor], record: Callable[[Run], Run]
    ) -> None:
        self._inputs = [given.clone() for given in inputs]
        self._run = record(lambda: function(*self._inputs))

    def __call__(self, *inputs: torch.Tensor) -> Any:
        """The function's result, in the recording's memory."""
        for own, new in zip(self._inputs, inputs, strict=True):
            own.copy_(new)
        return self._run()


class CudaGraphs:
    """Records functions as CUDA graphs that share a pool of memory: they have to be run in the order of recording."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._last: torch.cuda.CUDAGraph | None = None  # a pool lives as long as one of its graphs

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
        self._last = graph

        def run() -> Any:
            graph.replay()
            return result

        return run
