"""The analysis of a new cluster before it takes over: ``upgradeStrategy.analysis``.

Raw samples come with the observation (``ray.analysis`` takes them), the verdict is decided here, and how far it is
stands in ``status.upgrade.analysis``. Read ``progress`` first.
"""

from rayservice_operator.service.analysis.orders import order
from rayservice_operator.service.analysis.progress import FAILURES, advance, notes, passed, stored, verdict, wanted
from rayservice_operator.service.analysis.state import CheckState, Phase, State

__all__ = [
    "FAILURES",
    "CheckState",
    "Phase",
    "State",
    "advance",
    "notes",
    "order",
    "passed",
    "stored",
    "verdict",
    "wanted",
]
