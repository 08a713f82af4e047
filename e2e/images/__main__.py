"""``python -m e2e.images build|load [operator] [runtime] [llm] [llm-cpu]``."""

import argparse
import sys

from e2e.images import OPTIONAL, TARGETS, build
from e2e.localkube.errors import LocalKubeError
from e2e.localkube.progress import note

_TARGETS_HELP = f"of {', '.join((*TARGETS, *OPTIONAL))}; when none is named, {' and '.join(TARGETS)}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m e2e.images", description=__doc__)
    parser.add_argument("action", choices=["build", "load"], help="load builds first what has changed")
    parser.add_argument("target", nargs="*", help=_TARGETS_HELP)
    parser.add_argument("--cluster", choices=["local", "kind", "current"], default="local")
    args = parser.parse_args()
    try:
        build.build(args.target)
        if args.action == "load":
            build.load(args.target, args.cluster)
    except LocalKubeError as error:
        note(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        note("interrupted; run it again to go on")
        return 130
    return 0


sys.exit(main())
