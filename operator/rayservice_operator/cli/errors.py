"""What the command line says when something cannot be done: one line, the next step, and an exit code for scripts."""

from __future__ import annotations

import enum
import re
from typing import Final

from rayservice_operator.kube.errors import ApiError, Forbidden, NotFound, Unauthorized, Unreachable


class Exit(enum.IntEnum):
    """Exit codes of all verbs; docs/cli.md has the same table."""

    OK = 0
    """Done, or it was so already."""
    NO = 1
    """The answer is no: not Ready (``status --check``), there are differences (``plan``), nothing to act on."""
    USAGE = 2
    """The command line or a file given on it is wrong."""
    UNREACHABLE = 3
    """No answer from the API server, no kubeconfig, or a program is missing that this verb needs (kubectl)."""
    MISSING = 4
    """No such RayService, revision, deployment; or the cluster does not know the kind."""
    FORBIDDEN = 5
    """The API server does not take the credentials, or they may not do that."""
    REFUSED = 6
    """The API server refused for another reason."""
    TIMEOUT = 7
    """``--wait`` ran out of time."""
    INTERRUPTED = 130
    """Ctrl-C."""


class CliError(Exception):
    """``message`` is one line, ``step`` what to do next (may be empty)."""

    def __init__(self, code: Exit, message: str, step: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.step = step


_NO_SUCH_KIND: Final = re.compile(r"could not find the requested resource|HTTP 404|^404")
_ADDRESS: Final = re.compile(r"Cannot connect to host (\S+)")


def from_api(error: ApiError, doing: str, namespace: str = "") -> CliError:
    """The error for what the API server said while ``doing`` («reading RayService demo»)."""
    where = f" -n {namespace}" if namespace else ""
    if isinstance(error, Unreachable):
        address = _ADDRESS.search(error.message)
        at = f" at {address[1]}" if address else ""
        reason = "it did not answer in time" if "in time" in error.message else _reason(error.message)
        message = f"The Kubernetes API server{at} cannot be reached: {reason}"
        return CliError(Exit.UNREACHABLE, message, "Check `kubectl cluster-info`, the VPN, and --context.")
    if isinstance(error, Unauthorized):
        step = "Log in again, or choose other credentials with --context or --kubeconfig."
        return CliError(Exit.FORBIDDEN, f"The API server does not take the credentials ({doing}).", step)
    if isinstance(error, Forbidden):
        step = f"Ask for the permission; `kubectl auth can-i --list{where}` shows what you may do."
        return CliError(Exit.FORBIDDEN, f"Not permitted: {doing}. {_line(error.message)}", step)
    if isinstance(error, NotFound) and _NO_SUCH_KIND.search(error.message):
        step = "Install the operator with its CRDs (helm install …), or choose another cluster with --context."
        return CliError(Exit.MISSING, "This cluster does not know the kind RayService (ray.io/v1).", step)
    if isinstance(error, NotFound):
        return CliError(Exit.MISSING, _line(error.message), f"`kubectl rayservice status{where}` lists what is there.")
    return CliError(Exit.REFUSED, f"The API server refused {doing}: {_line(error.message)}")


def _reason(message: str) -> str:
    """The last bracketed or coloned part of what aiohttp says, which holds the operating system's words."""
    found = re.search(r"\[(.+)\]\s*$", message)
    return (found[1] if found else message.rpartition(": ")[2]) or message


def _line(text: str) -> str:
    """One line. An unknown field is told behind the whole object, which nobody wants to read."""
    _, strict, fields = text.partition("strict decoding error: ")
    return " ".join((fields if strict else text).split())[:400]
