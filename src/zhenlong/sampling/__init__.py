"""What does it say? Samplers behind one protocol."""

from zhenlong.sampling.request import Completion, Sampler, Sampling
from zhenlong.sampling.sampler import TorchSampler

__all__ = ["Completion", "Sampler", "Sampling", "TorchSampler"]
