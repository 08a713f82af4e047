"""``python -m e2e.localkube``: the local cluster from a shell."""

import sys

from e2e.localkube.cli import main

sys.exit(main())
