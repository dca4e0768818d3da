"""Text generation: samplers behind one protocol."""

from zhenlong.sampling.sampler import TorchSampler
from zhenlong.sampling.sampling_params import Completion, Sampler, SamplingParams

__all__ = ["Completion", "Sampler", "SamplingParams", "TorchSampler"]
