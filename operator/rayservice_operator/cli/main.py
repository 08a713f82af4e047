"""``rayservice-operator``: the operator's own entry point."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Mapping, Sequence

from rayservice_operator.cli.environment import BadSetting, load_config, load_settings, operator_version
from rayservice_operator.telemetry import logs

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and do it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="rayservice-operator", description="Operator for ray.io/v1 RayService.")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("run", help="run the operator until it is told to stop (the default)")
    commands.add_parser("version", help="print the version")
    command = parser.parse_args(argv).command or "run"
    if command == "version":
        print(operator_version())
        return 0
    return run(os.environ)


def run(env: Mapping[str, str]) -> int:
    """Run the operator as the environment says."""
    form, level = env.get("LOG_FORMAT") or "text", (env.get("LOG_LEVEL") or "info").lower()
    if form not in logs.FORMATS or level not in logs.LEVELS:
        print(
            f"LOG_FORMAT must be one of {', '.join(logs.FORMATS)}, LOG_LEVEL one of {', '.join(logs.LEVELS)}",
            file=sys.stderr,
        )
        return 2
    logs.configure(form, level)
    try:
        return asyncio.run(_run(env))
    except BadSetting as error:
        log.error("%s", error)
        return 2


async def _run(env: Mapping[str, str]) -> int:
    # Here, because the parts need not be there for `version`.
    from rayservice_operator.cluster.decide import decide as decide_cluster  # noqa: PLC0415
    from rayservice_operator.engine.app import App  # noqa: PLC0415
    from rayservice_operator.engine.health import CannotListen  # noqa: PLC0415
    from rayservice_operator.kube.login import NoCredentials, login  # noqa: PLC0415
    from rayservice_operator.ray.observer import ObserverPool  # noqa: PLC0415
    from rayservice_operator.service.decide import decide as decide_service  # noqa: PLC0415

    try:
        login()
    except NoCredentials as error:
        log.error("%s", error)
        return 2
    app = App(
        load_settings(env),
        load_config(env),
        decide_service=decide_service,
        decide_cluster=decide_cluster,
        new_observers=lambda on_change, clock, token: ObserverPool(on_change, clock.now, token),
    )
    try:
        return await app.run()
    except CannotListen as error:
        log.error("%s", error)
        return 2


if __name__ == "__main__":
    sys.exit(main())
