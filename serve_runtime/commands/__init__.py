"""The commands of ``python -m serve_runtime``. Only the one that is asked for is imported: probes start often."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Final

COMMANDS: Final = {
    "probe": "is this node's proxy ready, do these applications run here, are they warm",
    "drain": "take this node out of service and wait until nothing is open; for preStop",
    "prefetch": "bring model weights into a cache before a replica starts; for an init container",
    "bench": "open-loop load: latency, time to first token, goodput; JSON and a picture",
}
"""Name to what it is for. Each is a module here with ``arguments(parser)`` and ``run(asked) -> exit code``."""


def main(argv: Sequence[str]) -> int:
    """Run one command. Returns its exit code; argparse exits with 2 for arguments that it does not take."""
    if not argv or argv[0] not in COMMANDS:
        parser = argparse.ArgumentParser(
            prog="python -m serve_runtime",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog="\n".join(f"  {name:10}{what}" for name, what in COMMANDS.items()),
        )
        parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of these; COMMAND --help")
        parser.parse_args(argv)
        return 2  # not reached: no command is no choice
    name = argv[0]
    module = importlib.import_module(f"serve_runtime.commands.{name}")
    parser = argparse.ArgumentParser(
        prog=f"python -m serve_runtime {name}", description=module.__doc__, formatter_class=_Formatter
    )
    module.arguments(parser)
    asked = parser.parse_args(argv[1:])
    try:
        return int(module.run(asked))
    except KeyboardInterrupt:
        sys.stderr.write(f"{name}: interrupted\n")
        return 130


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults are told where they say something, and descriptions keep their lines."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default in ("", None, False, argparse.SUPPRESS) or action.default in ([], {})
        return action.help if silent else super()._get_help_string(action)
