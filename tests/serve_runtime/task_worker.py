"""A consumer as a process without Ray, to be killed: ``python -m tests.serve_runtime.task_worker ARGS-AS-JSON``.

It prints a line when it takes tasks, and drains on the end of its input.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import uuid

from serve_runtime.tasks import TasksArgs
from serve_runtime.tasks.handlers import contracts
from serve_runtime.tasks.ledger import Ledger
from serve_runtime.tasks.transport import Transport, consume, make_app
from serve_runtime.tasks.work import Work


def main(text: str) -> None:
    """Works until it is told to stop."""
    args = TasksArgs.model_validate_json(text)
    ledger = Ledger(args.store(), args.queue, args.store_timeout_s)
    app = make_app(args.broker(), args.queue, args.store_timeout_s, args.lease_s)
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    name = uuid.uuid4().hex[:8]
    work = Work(
        args, ledger, name, contracts=contracts(args.handlers), hopeless=(), loop=loop, note=lambda *_: None,
    )  # fmt: skip
    worker = consume(
        app, name=name, concurrency=args.concurrency, run=work.run,
        foreign=lambda content, reason: ledger.foreign(content, reason, 60),
    )  # fmt: skip
    print("ready", flush=True)
    sys.stdin.read()
    worker.stop()
    Transport(app).publish(work.drain(args.drain_s))


if __name__ == "__main__":
    main(sys.argv[1])
