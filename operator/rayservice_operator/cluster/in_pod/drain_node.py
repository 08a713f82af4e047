"""preStop hook of a Ray worker: lets Ray Serve move its replicas away before the container is told to end.

Given as text to the Python of the Ray image, whatever its version, so it needs nothing but Ray. Arguments: host and
port of the GCS, and how many seconds it may take. It never fails: a pod that cannot be drained is deleted all the same.

A node that is drained gets no new replica, its replicas stop when their replacements run, its proxy has Ray's minimum
time for draining (30 s, ``RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S``), and then its raylet ends by itself. When the head
is gone nobody is left who could move anything, so a cluster that is deleted as a whole does not wait.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import Any

PREEMPTION = 2  # autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION, the reason that Ray never refuses
ALIVE = 0  # gcs_pb2.GcsNodeInfo.ALIVE
HEAD_GONE_AFTER = 3  # connections in a row that fail, one a second


def answers(address: tuple[str, int]) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return False
    return True


def own_node(gcs: Any) -> Any:
    """This pod's living node: by the instance id that the operator gave it, else by address; None when it ended."""
    pod = os.environ.get("RAY_CLOUD_INSTANCE_ID", "")
    here = socket.gethostbyname(socket.gethostname())
    living = [node for node in gcs.get_all_node_info(timeout=5).values() if node.state == ALIVE]
    named = [node for node in living if pod and getattr(node, "instance_id", "") == pod]
    return next(iter(named or [node for node in living if node.node_manager_address == here]), None)


def drain(host: str, port: int, seconds: float) -> str:
    """Drain this pod's node and wait until it has ended, ``seconds`` at most. Returns what came of it."""
    deadline = time.monotonic() + seconds
    head = (socket.gethostbyname(host), port)
    if not answers(head):
        return "the head does not answer"

    from ray._raylet import GcsClient  # noqa: PLC0415  # costs half a second

    gcs = GcsClient(address=f"{head[0]}:{head[1]}")
    node = own_node(gcs)
    if node is None:
        return "no living Ray node in this pod"
    ends = time.time() + deadline - time.monotonic()
    accepted, why_not = gcs.drain_node(node.node_id.hex(), PREEMPTION, "The pod is being deleted.", int(ends * 1000))
    if not accepted:
        return f"Ray refuses: {why_not}"
    silent = 0
    while time.monotonic() < deadline:
        time.sleep(1)
        silent = 0 if answers(head) else silent + 1
        if silent >= HEAD_GONE_AFTER:
            return "the head is gone"
        if silent == 0 and own_node(gcs) is None:
            return "drained"
    return "not drained in time"


if __name__ == "__main__":
    try:
        outcome = drain(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    except Exception as error:  # whatever it is, the pod goes
        outcome = f"{type(error).__name__}: {error}"
    sys.stderr.write(f"drain: {outcome}\n")
