"""Entry points: ``rayservice-operator`` (the operator itself) and ``kubectl rayservice`` (the verbs beside it)."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Mapping, Sequence

from rayservice_operator.cli.environment import BadSetting, load_config, load_settings, operator_version
from rayservice_operator.telemetry import logs

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """``rayservice-operator``: runs the operator, or does what the command line says; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    return plugin(args or ["run"])


def plugin(argv: Sequence[str] | None = None) -> int:
    """``kubectl rayservice``: the verbs. ``run`` and ``version`` need nothing of what the others import."""
    args = list(sys.argv[1:] if argv is None else argv)
    if args == ["run"]:
        return run(os.environ)
    if args == ["version"]:
        print(operator_version())
        return 0
    from rayservice_operator.cli.app import main as verbs  # noqa: PLC0415

    return verbs(args)


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
    settle_memory()
    try:
        return await app.run()
    except CannotListen as error:
        log.error("%s", error)
        return 2


def settle_memory() -> None:
    """Keep what is loaded out of the garbage collector's sight: it stays for as long as the process does.

    Walking over it again and again stops the process for 25 to 100 ms at a time (``bench/admission.py``, worst case).
    """
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
