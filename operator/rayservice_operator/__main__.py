"""``python -m rayservice_operator``."""

import sys

from rayservice_operator.cli.main import plugin

sys.exit(plugin())
