"""kubectl itself, for what goes through WebSockets: exec, logs, port-forward.

As a plugin this command is started by kubectl, so it is there; started by itself it says what is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from rayservice_operator.cli.errors import CliError, Exit
from rayservice_operator.cli.human import line
from rayservice_operator.cli.options import Options

EXEC_TIMEOUT_S: Final = 15.0
_STOP_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl with the same cluster and namespace as everything else."""

    program: str
    options: tuple[str, ...]

    def command(self, *args: str) -> list[str]:
        """The whole command line."""
        return [self.program, *self.options, *args]

    async def output(self, *args: str, timeout_s: float = EXEC_TIMEOUT_S) -> str:
        """stdout of a command that ends. Raises CliError with the last line of stderr."""
        process = await asyncio.create_subprocess_exec(
            *self.command(*args),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), timeout_s)
        except TimeoutError:
            await stop(process)
            raise CliError(Exit.TIMEOUT, f"kubectl {args[0]} did not end in {timeout_s:.0f} s.") from None
        except asyncio.CancelledError:
            await stop(process)
            raise
        if process.returncode:
            told = line((err.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1], 300)
            code = Exit.FORBIDDEN if "forbidden" in told.lower() else Exit.REFUSED
            raise CliError(code, f"kubectl {args[0]}: {told}")
        return out.decode(errors="replace")

    @contextlib.asynccontextmanager
    async def running(self, *args: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A command that goes on until the block is left; its stderr is in its stdout."""
        process = await asyncio.create_subprocess_exec(
            *self.command(*args),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=1 << 20,
        )
        try:
            yield process
        finally:
            await stop(process)


async def stop(process: asyncio.subprocess.Process) -> None:
    """End it, politely first."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def find(options: Options, namespace: str) -> Kubectl:
    """kubectl on the PATH. Raises CliError when there is none."""
    program = shutil.which("kubectl")
    if program is None:
        step = "Install kubectl (https://kubernetes.io/docs/tasks/tools/) and run this again."
        raise CliError(Exit.UNREACHABLE, "kubectl is needed for this and is not on the PATH.", step)
    given = {"--kubeconfig": options.kubeconfig, "--context": options.context, "--namespace": namespace}
    return Kubectl(program, tuple(f"{name}={value}" for name, value in given.items() if value))
