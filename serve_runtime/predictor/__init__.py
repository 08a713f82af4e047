"""``serve_runtime.predictor:app``: any Python class as a service, with batching, streaming and many models.

Importing this needs no Ray; building the application does. No postponed annotations here: Ray Serve looks at the
builder's annotation to know the model of its arguments, and has to find the class itself.
"""

import typing

from serve_runtime.predictor.args import PredictorArgs

if typing.TYPE_CHECKING:
    from ray import serve

__all__ = ["PredictorArgs", "app"]


def app(args: PredictorArgs) -> "serve.Application":
    """Application builder. Raises DottedNameError and ContractError, before any replica starts."""
    from serve_runtime.predictor import deployment  # noqa: PLC0415 - needs Ray

    return deployment.build(args)
