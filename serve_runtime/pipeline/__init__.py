"""``serve_runtime.pipeline:app``: steps composed in YAML, with fan-out, fan-in, branches and ensembles.

Importing this needs no Ray; building the application does. No postponed annotations here: Ray Serve looks at the
builder's annotation to know the model of its arguments, and has to find the class itself.
"""

import typing

from serve_runtime.pipeline.args import PipelineArgs

if typing.TYPE_CHECKING:
    from ray import serve

__all__ = ["PipelineArgs", "app"]


def app(args: PipelineArgs) -> "serve.Application":
    """Application builder. Raises PlanError and DottedNameError, before any replica starts."""
    from serve_runtime.pipeline import deployment  # noqa: PLC0415 - needs Ray

    return deployment.build(args)
