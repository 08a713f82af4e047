"""Commands of the local cluster."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from e2e.localkube import images, light
from e2e.localkube.cluster import Cluster
from e2e.localkube.errors import LocalKubeError
from e2e.localkube.paths import default_name
from e2e.localkube.progress import note


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.localkube", description=__doc__)
    parser.add_argument("--name", default=default_name(), help="which cluster (one at a time can run)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start the cluster, or what of it has died")
    command = commands.add_parser("down", help="stop it and remove every trace but the cache")
    command.add_argument("--purge", action="store_true", help="remove the cache of programs and images too")
    command.add_argument("--leftovers", action="store_true", help="clean up though no record of a cluster is left")
    commands.add_parser("status", help="how each component is; exit code 1 unless all are healthy")
    commands.add_parser("kubeconfig", help="print the path of the kubeconfig")
    command = commands.add_parser("load-image", help="import image archives (docker or OCI form)")
    command.add_argument("archive", type=Path, nargs="+")
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
    except BrokenPipeError:  # whoever read our output has seen enough
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        note("interrupted; run the same command again to go on, or `down` to remove what was started")
        return 130


def _run(args: argparse.Namespace) -> int:
    cluster = Cluster(args.name)
    command: str = args.command
    match command:
        case "up":
            sys.stdout.write(f"{cluster.up()}\n")
        case "down":
            cluster.down(purge=args.purge, leftovers=args.leftovers)
        case "status":
            return _status(cluster)
        case "kubeconfig":
            sys.stdout.write(f"{cluster.kubeconfig}\n")
            return 0 if cluster.kubeconfig.exists() else 1
        case "load-image":
            for archive in args.archive:
                for name in images.load(cluster.state, archive):
                    sys.stdout.write(f"{name}\n")
        case _:
            if args.action == "up":
                sys.stdout.write(f"{light.up()}\n")
            else:
                light.down()
    return 0


def _status(cluster: Cluster) -> int:
    status = cluster.status()
    if not status:
        sys.stdout.write("no local cluster; start one with: python -m e2e.localkube up\n")
        return 1
    for name, word in status.items():
        sys.stdout.write(f"{name:24} {word:10} {cluster.state.log(name)}\n")
    return 0 if all(word == "healthy" for word in status.values()) else 1
