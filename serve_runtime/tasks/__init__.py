"""``serve_runtime.tasks:app``: tasks that are submitted now and worked off later, on Celery with Redis or RabbitMQ.

Importing this needs neither Ray nor Celery; building the application needs both (extra ``tasks``). No postponed
annotations here: Ray Serve looks at the builder's annotation to know the model of its arguments, and has to find the
class itself.
"""

import typing

from serve_runtime.tasks.args import TasksArgs

if typing.TYPE_CHECKING:
    from ray import serve

__all__ = ["TasksArgs", "app"]


def app(args: TasksArgs) -> "serve.Application":
    """Application builder. Raises DottedNameError, HandlerError, MissingExtraError and AddressError, before any replica
    starts.
    """
    from serve_runtime.tasks.addresses import need_extra  # noqa: PLC0415

    need_extra()
    from serve_runtime.tasks import deployment  # noqa: PLC0415 - needs Ray and Celery

    return deployment.build(args)
