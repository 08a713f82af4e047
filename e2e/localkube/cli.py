"""Commands of the local cluster."""

import argparse
import sys
from collections.abc import Sequence

from e2e.localkube import light
from e2e.localkube.errors import LocalKubeError
from e2e.localkube.progress import note


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.localkube", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("light", help="etcd and kube-apiserver only, in the background")
    command.add_argument("action", choices=["up", "down"])
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        return _run(args)
    except LocalKubeError as error:
        note(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        note("interrupted; run the same command again to go on, or `down` to remove what was started")
        return 130


def _run(args: argparse.Namespace) -> int:
    match args.command:
        case "light":
            if args.action == "up":
                sys.stdout.write(f"{light.up()}\n")
            else:
                light.down()
    return 0
