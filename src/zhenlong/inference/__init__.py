"""What does this model say to these requests? Models in this process and behind endpoints, with one cached client."""

from zhenlong.inference.cache import RequestCache
from zhenlong.inference.model_client import Judge, ModelClient, open_model
from zhenlong.inference.requests import (
    Backend,
    GeneratedOutput,
    GenerateRequest,
    RequestResult,
    ScoreRequest,
    ScoreTextRequest,
)

__all__ = [
    "Backend",
    "GenerateRequest",
    "GeneratedOutput",
    "Judge",
    "ModelClient",
    "RequestCache",
    "RequestResult",
    "ScoreRequest",
    "ScoreTextRequest",
    "open_model",
]
