"""Take this Ray node out of service and wait until nothing is open on it; for preStop hooks and before maintenance.

Serve starts replacements of the replicas elsewhere, stops those here, and the proxy answers who is still connected.
The node ends when all that is done. On the head, where nothing can be moved from, only open connections are awaited.
Safe to call again. 0 when nothing is left to be done, 1 when it was not done in time or Ray refuses.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from serve_runtime.commands import node, values
from serve_runtime.commands.node import NodeError

PREEMPTION: Final = 2
"""``autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION``, the reason that Ray never refuses."""
ALIVE: Final = 0
"""``gcs_pb2.GcsNodeInfo.ALIVE``."""
HEAD_GONE_AFTER: Final = 3
"""Connections in a row that fail, one a second."""
LEAVING: Final = "/tmp/rayservice-draining"
"""Once it has something in it, the operator's module in the proxy ends each connection with its next answer."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """As every command's."""
    parser.add_argument(
        "--timeout", type=values.positive, default=100.0, metavar="S", help="10 s less than the grace period"
    )
    parser.add_argument("--address", default="", metavar="HOST:PORT", help="of the GCS; else RAY_ADDRESS")
    parser.add_argument("--proxy-port", type=values.count, default=8000, help="of Serve's proxy on this node")
    parser.add_argument("--proxy-only", action="store_true", help="only end connections and wait for them")
    parser.add_argument("--node-ip", default="", help="this node's address as Ray has it; else by its host name")
    parser.add_argument("--reason", default="The pod is being deleted.", help="what Ray's state shows")
    parser.add_argument("--every", type=values.positive, default=5.0, metavar="S", help="between lines of progress")
    parser.add_argument("--mark", default=LEAVING, metavar="FILE", help="that tells the operator's module in the proxy")
    parser.add_argument("--log", default="", metavar="FILE", help="lines go there too; /proc/1/fd/2: the pod's log")


def run(asked: argparse.Namespace) -> int:
    """As the module says."""
    with suppress(OSError):
        Path(asked.mark).write_text("draining\n")
    outputs: list[TextIO] = [sys.stderr]
    if asked.log:
        with suppress(OSError):
            outputs.append(Path(asked.log).open("a"))  # noqa: SIM115  # open until the process ends
    done = Drain(asked, outputs, time.monotonic() + asked.timeout).run()
    return 0 if done else 1


@dataclass
class Drain:
    """One call. ``deadline`` is monotonic."""

    asked: argparse.Namespace
    outputs: list[TextIO]
    deadline: float
    _told: float = 0.0

    def run(self) -> bool:
        """Whether nothing is left to be done."""
        if self.asked.proxy_only:
            return self._await_connections("asked for the proxy only")
        try:
            address = node.gcs_address(self.asked.address)
            host = socket.gethostbyname(address[0])
        except (NodeError, OSError) as error:
            return self._end(f"nothing to drain: {error}")
        if not _listens((host, address[1])):
            return self._end(f"nothing to drain: the head at {address[0]}:{address[1]} does not answer")
        try:
            return self._node((host, address[1]))
        except ImportError as error:
            return self._end(f"this image has no Ray ({error}); run it in a Ray container", well=False)
        except Exception as error:  # Ray has many; a hook must say what it was, and the pod goes all the same
            if not _listens((host, address[1])):
                return self._end("the head is gone; nobody is left who could move anything")
            return self._end(f"{type(error).__name__}: {error}", well=False)

    def _node(self, head: tuple[str, int]) -> bool:
        from ray._raylet import GcsClient  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415

        gcs = GcsClient(address=f"{head[0]}:{head[1]}")
        this = node.here(self.asked.node_ip)
        own = own_node(gcs, this)
        if own is None:
            return self._end("nothing to drain: no living Ray node here")
        if getattr(own, "is_head_node", False):
            return self._await_connections("this is the head, from which nothing can be moved")
        left = self.deadline - time.monotonic()
        ends_ms = int((time.time() + left) * 1000)
        accepted, why_not = gcs.drain_node(own.node_id.hex(), PREEMPTION, self.asked.reason, ends_ms)
        if not accepted:
            if own_node(gcs, this) is None:  # it ended just now, by another call
                return self._end("drained: the node has ended")
            return self._end(f"Ray refuses: {why_not}", well=False)
        self._say(f"node {own.node_id.hex()[:8]} is being drained, {left:.0f} s at most")
        return self._await_end(gcs, head, this)

    def _await_end(self, gcs: Any, head: tuple[str, int], this: node.Here) -> bool:
        silent = 0
        while (left := self.deadline - time.monotonic()) > 0:
            time.sleep(min(1.0, left))
            silent = 0 if _listens(head) else silent + 1
            if silent >= HEAD_GONE_AFTER:
                return self._end("the head is gone; nobody is left who could move anything")
            if silent == 0 and own_node(gcs, this) is None:
                return self._end("drained: the node has ended")
            self._progress()
        return self._end(f"not drained within {self.asked.timeout:g} s; {self._open()}", well=False)

    def _await_connections(self, why: str) -> bool:
        self._say(f"{why}; waiting for {self._open()}")
        while (left := self.deadline - time.monotonic()) > 0:
            if node.open_connections(self.asked.proxy_port) == 0:
                return self._end("no connection is open")
            time.sleep(min(0.5, left))
            self._progress()
        return self._end(f"not ended within {self.asked.timeout:g} s: {self._open()}", well=False)

    def _open(self) -> str:
        return f"{node.open_connections(self.asked.proxy_port)} connection(s) to the proxy"

    def _progress(self) -> None:
        if time.monotonic() - self._told >= self.asked.every:
            try:
                said = node.ask(f"http://127.0.0.1:{self.asked.proxy_port}/-/healthz", 1.0).status
                proxy = "takes requests" if said == 200 else f"says {said}"
            except NodeError:
                proxy = "is gone"
            self._say(f"{self._open()}, which {proxy}; {self.deadline - time.monotonic():.0f} s left")

    def _end(self, text: str, *, well: bool = True) -> bool:
        self._say(text)
        return well

    def _say(self, text: str) -> None:
        self._told = time.monotonic()
        for out in self.outputs:
            with suppress(OSError):
                out.write(f"drain: {text}\n")
                out.flush()


def own_node(gcs: Any, this: node.Here) -> Any:
    """This pod's living node; None when it ended. By the instance id that the operator gave it, and by address only
    where Ray knows no node by that id: pods on the host's network share theirs."""
    nodes = list(gcs.get_all_node_info(timeout=5).values())
    named = [each for each in nodes if this.instance and getattr(each, "instance_id", "") == this.instance]
    mine = named or [each for each in nodes if each.node_manager_address in this.addresses]
    return next((each for each in mine if each.state == ALIVE), None)


def _listens(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return False
    return True
