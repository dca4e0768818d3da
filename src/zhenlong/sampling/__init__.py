"""Text generation: samplers behind one protocol."""

from zhenlong.sampling.sampler import Sampler, TorchSampler
from zhenlong.sampling.sequence_state import Completion
from zhenlong.sampling.token_sampling import SamplingParams

__all__ = ["Completion", "Sampler", "SamplingParams", "TorchSampler"]
