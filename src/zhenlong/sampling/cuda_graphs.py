"""CUDA graphs for sampling: for a small model, launching kernels takes most of a step's time.

A decoding step without prefills repeats the same operations on the same memory while sequences, prompts and columns
keep their slots (`StepMetadata.views`). Its first step runs normally and thereby prepares what is prepared once;
the second is captured as a CUDA graph, which this and all later steps replay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch

from zhenlong.sampling.fused_llama import FusedLlama
from zhenlong.sampling.step_metadata import CacheViews, StepMetadata
from zhenlong.sampling.token_sampling import SamplingParams, sample_tokens

RunFn = Callable[[], Any]
SampledTokens = tuple[torch.Tensor, torch.Tensor]


class GraphReplay:
    """A network, and the sampling from its logits, that replays steps captured by `capture`.

    `capture` takes a function without arguments and returns one that repeats it on the same memory. Inputs are copied
    into the memory of the capture; a result is valid until the next step.
    """

    def __init__(self, network: FusedLlama, capture: Callable[[RunFn], RunFn] | None = None) -> None:
        self.network, self.capture = network, capture or CudaGraphCapture()
        self._views: CacheViews | None = None
        self._captured_forward: CapturedFunction | None = None
        self._captured_sampling: CapturedFunction | None = None
        self._replayed = False  # whether this step was replayed
        self._freqs_cis = network.freqs_cis  # keeps alive the memory that the capture reads

    def __call__(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        metadata: StepMetadata,
        *,
        logits_to_keep: torch.Tensor | None,
    ) -> torch.Tensor:
        """The network's logits."""
        self._replayed = False
        if metadata.prefills:
            return self.network(ids, positions, metadata, logits_to_keep=logits_to_keep)
        views = metadata.views()
        if views is not self._views:
            self._views, self._captured_forward, self._captured_sampling = views, None, None
            return self.network(ids, positions, metadata, logits_to_keep=None)
        if self._captured_forward is None:
            self._captured_forward = CapturedFunction(
                lambda ids, positions: self.network(ids, positions, metadata, logits_to_keep=None),
                (ids, positions),
                self.capture,
            )
            self._freqs_cis = self.network.freqs_cis
        self._replayed = True
        return self._captured_forward(ids, positions)

    def sample(self, logits: torch.Tensor, uniforms: torch.Tensor, sampling: SamplingParams) -> SampledTokens:
        """Ids and log-probabilities sampled from this step's logits, as by
        `zhenlong.sampling.token_sampling.sample_tokens`.
        """
        if not self._replayed or 0 < sampling.top_p < 1:  # top-p branches on a value, so it cannot be captured
            return sample_tokens(logits, uniforms, sampling)
        if self._captured_sampling is None:
            self._captured_sampling = CapturedFunction(
                lambda uniforms: sample_tokens(logits, uniforms, sampling), (uniforms,), self.capture
            )
        return self._captured_sampling(uniforms)


class CapturedFunction:
    """A captured function of tensors of fixed shapes."""

    def __init__(
        self, function: Callable[..., Any], inputs: Sequence[torch.Tensor], capture: Callable[[RunFn], RunFn]
    ) -> None:
        self._inputs = [given.clone() for given in inputs]
        self._run = capture(lambda: function(*self._inputs))

    def __call__(self, *inputs: torch.Tensor) -> Any:
        """The function's result, in the memory of the capture."""
        for own, new in zip(self._inputs, inputs, strict=True):
            own.copy_(new)
        return self._run()


class CudaGraphCapture:
    """Captures functions as CUDA graphs with a shared memory pool: replay them in the order of capture."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._last: torch.cuda.CUDAGraph | None = None  # the pool lives as long as one of its graphs

    def __call__(self, function: RunFn) -> RunFn:
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
