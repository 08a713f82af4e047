"""Bring model weights into a cache before a replica starts, and print where they are.

SOURCE is https://host/file, s3://bucket/prefix, gs://bucket/prefix, org/model or hf://org/model@revision of the
Hugging Face hub, or an absolute path. What stands at --to is always complete: parts lie beside it, and go on
where they stopped when the command is started again. One of several on a node does the work, the others wait for it.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from pathlib import Path, PurePosixPath
from types import FrameType
from typing import Final
from urllib.parse import unquote, urlsplit

from serve_runtime.commands import values
from serve_runtime.commands.prefetch.errors import PrefetchError
from serve_runtime.commands.prefetch.fetch import Limits
from serve_runtime.commands.prefetch.job import Job
from serve_runtime.commands.prefetch.progress import Progress, last_words
from serve_runtime.commands.prefetch.sources import Options, Wanted, source_of
from serve_runtime.commands.prefetch.store import Store

STOPPED: Final = 128 + signal.SIGTERM


def arguments(parser: argparse.ArgumentParser) -> None:
    """As every command's."""
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("--to", required=True, help="where it is to be; with a slash at the end, under its own name")
    parser.add_argument("--extract", action="store_true", help="SOURCE is one tar or zip, and its content is wanted")
    parser.add_argument("--sha256", default="", type=_sha256, help="of the one file that SOURCE is")
    parser.add_argument("--include", action="append", default=[], metavar="GLOB", help="only such files")
    parser.add_argument("--exclude", action="append", default=[], metavar="GLOB", help="no such files")
    parser.add_argument("--replace", action="store_true", help="take the place of what else is there")
    parser.add_argument("--timeout", type=values.positive, default=60.0, metavar="S", help="a connection may be silent")
    parser.add_argument(
        "--tries", type=values.count, default=8, help="in a row that bring not one byte, before giving up"
    )
    parser.add_argument(
        "--lock-timeout", type=values.positive, default=3600.0, metavar="S", help="for another one's work"
    )
    parser.add_argument("--workers", type=values.count, default=4, help="files at a time")
    parser.add_argument(
        "--header-env",
        action="append",
        default=[],
        type=values.header_env,
        metavar="NAME=VARIABLE",
        help="sent with http(s)",
    )
    parser.add_argument("--every", type=values.positive, default=10.0, metavar="S", help="between lines of progress")
    parser.add_argument("--json", action="store_true", help="each line an object, with event and text")


def run(asked: argparse.Namespace) -> int:
    """0 and the path on stdout; else the exit code of the error, told on stderr and as the container's last words."""
    signal.signal(signal.SIGTERM, _leave)  # the first process of a container ignores it otherwise
    progress = Progress(sys.stderr, as_json=asked.json, every_s=asked.every)
    try:
        target = Path(os.path.abspath(_target(asked.to, asked.source)))  # noqa: PTH100  # links stay links
        options = Options(
            Wanted(tuple(asked.include), tuple(asked.exclude)), asked.timeout, asked.sha256, tuple(asked.header_env)
        )
        job = Job(
            source_of(asked.source, options),
            Store(target),
            progress,
            Limits(asked.tries, asked.workers),
            options.wanted,
            extract=asked.extract,
            replace=asked.replace,
            lock_timeout_s=asked.lock_timeout,
            sha256=asked.sha256,
        )
        text = job.run()
    except PrefetchError as error:
        progress.event("failed", str(error), exit_code=error.exit_code)
        last_words(f"prefetch: {error}")
        return error.exit_code
    last_words(f"prefetch: {text}")
    sys.stdout.write(f"{target}\n")
    return 0


def _target(to: str, source: str) -> str:
    if not to.endswith("/"):
        return to
    name = PurePosixPath(unquote(urlsplit(source).path)).name.partition("@")[0]
    if not name:
        raise PrefetchError(f"--to {to}: {source} has no name to go by; write the whole path")
    return to + name


def _leave(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
    """At once: whatever is on the disk by now is gone on with, and the kernel lets the lock go."""
    sys.stderr.write("prefetch: told to end; what was received is kept\n")
    sys.stderr.flush()
    os._exit(STOPPED)


def _sha256(text: str) -> str:
    if text and not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError("a SHA-256 has 64 hexadecimal digits")
    return text.lower()
