"""``python -m serve_runtime COMMAND``: helpers that run in Ray pods (docs/serve-runtime/helpers.md)."""

import sys

from serve_runtime.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
