"""Replayed steps sample the same as normal steps; without CUDA, torch operations are recorded and replayed."""

import pytest
import torch
from test_sampler import PROMPTS, sharp_model
from tiny import tiny_tokenizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import zhenlong.sampling.continuous_batch as batch_module
from zhenlong.kernels.build import kernels_disabled
from zhenlong.sampling import SamplingParams, TorchSampler
from zhenlong.sampling.continuous_batch import ContinuousBatch, StepFunctions
from zhenlong.sampling.cuda_graphs import GraphReplay
from zhenlong.sampling.engines import fused_engine
from zhenlong.sampling.fused_llama import FusedLlama


@pytest.fixture(autouse=True)
def without_kernels():
    """Disable compiled kernels: the recording intercepts torch operations only, as a CUDA graph captures CUDA's."""
    with kernels_disabled():
        yield


class Recording(TorchDispatchMode):
    """The operations of a function, to be repeated on the same memory, as a CUDA graph does."""

    def __init__(self):
        super().__init__()
        self.calls, self.runs = [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, result))
        return result

    def run(self):
        self.runs += 1
        for function, args, kwargs, result in self.calls:
            for old, new in zip(tree_leaves(result), tree_leaves(function(*args, **kwargs)), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)
        return self.result


def replayed(recordings):
    """An engine whose steps are captured by `Recording`."""

    def record(function):
        recording = Recording()
        recordings.append(recording)
        with recording:
            recording.result = function()
        return recording.run

    def make(model, prompts, sampling, **limits):
        replay = GraphReplay(FusedLlama(model), record)
        functions = StepFunctions(replay, replay.sample, graph_capture=True)
        return ContinuousBatch(model, prompts, sampling, functions=functions, **limits)

    return make


def samples(sampler, engine, sampling):
    sampler._make_engine = engine
    return [
        [c.token_ids for c in completions] for completions in sampler.sample(PROMPTS, sampling, samples_per_prompt=3)
    ]


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral_window"])
@pytest.mark.parametrize(
    ("max_rows", "top_p", "autocast"), [(4, 1.0, None), (64, 1.0, None), (4, 0.9, None), (4, 1.0, torch.bfloat16)]
)
def test_replayed_steps_sample_the_same_as_normal_steps(family, max_rows, top_p, autocast, monkeypatch):
    monkeypatch.setattr(batch_module, "CAPTURED_COLUMNS", 16)  # grows during the test
    sampler = TorchSampler(sharp_model(family), tiny_tokenizer(), max_num_seqs=max_rows, autocast=autocast)
    sampling = SamplingParams(
        max_tokens=70, top_p=top_p, stop_token_ids=tuple(range(3, 256, 40))
    )  # sequences finish at different steps
    recordings = []
    assert samples(sampler, replayed(recordings), sampling) == samples(sampler, fused_engine, sampling)
    assert sum(recording.runs for recording in recordings) > len(recordings) > 1


def test_finished_sequences_keep_their_slots_until_a_quarter_has_finished():
    sampler = TorchSampler(sharp_model("llama"), tiny_tokenizer(), max_num_seqs=64)
    sampling = SamplingParams(max_tokens=60, stop_token_ids=tuple(range(3, 256, 20)))
    recordings = []
    found = samples(sampler, replayed(recordings), sampling)
    ends = {len(ids) for of_prompt in found for ids in of_prompt}
    assert len(recordings) < len(ends)


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@needs_cuda
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral_window"])
def test_cuda_graphs_sample_the_same_as_normal_steps(family):
    sampler = TorchSampler(sharp_model(family).cuda(), tiny_tokenizer(), max_num_seqs=4)
    sampling = SamplingParams(max_tokens=70, stop_token_ids=tuple(range(3, 256, 40)))

    def full(model, prompts, sampling, **limits):
        return ContinuousBatch(model, prompts, sampling, functions=StepFunctions(FusedLlama(model)), **limits)

    assert sampler._make_engine is fused_engine
    assert samples(sampler, fused_engine, sampling) == samples(sampler, full, sampling)
