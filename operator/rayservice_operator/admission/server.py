"""The webhook's own HTTPS server: one in every replica, leading or not."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeAlias

from aiohttp import web

from rayservice_operator.admission import pki
from rayservice_operator.admission.review import BadReview, Reviewer, ReviewRequest, Verdict, answer, read
from rayservice_operator.admission.settings import AdmissionSettings
from rayservice_operator.admission.sources import CertificateSource, Unavailable
from rayservice_operator.admission.tls import BadCertificate, ServerTls

log = logging.getLogger(__name__)

PATH: Final = "/validate"

MAX_BODY: Final = 16 << 20
"""Bytes. A request carries two objects of at most 1.5 MiB each (etcd's limit), and JSON in JSON grows by escapes."""

MAX_WAITING: Final = 32
"""Reviews in work or waiting; with more the rest is let through, for they would be answered too late anyway."""

KEEP_ALIVE_S: Final = 120.0
"""Longer than the API server keeps an idle connection (90 s, as Go does): it never sends into one that we closed."""

DEFAULT_TIMEOUT_S: Final = 10.0
_MARGIN_S: Final = 0.25
"""So much before the API server gives up it is told that the review was not done; else nobody would hear of it."""

TOO_BUSY: Final = "not checked: too many changes at the same time; what is wrong will be in the object's conditions"
TOO_SLOW: Final = "not checked: it took too long; what is wrong will be in the object's conditions"
BROKEN: Final = "not checked: a mistake in the operator (its log tells more)"

OnReview: TypeAlias = Callable[[str, str, float], None]
"""Told after each review: kind, verdict (``allowed``, ``warned``, ``refused``, ``unchecked``), seconds."""


class Webhook:
    """Gets its certificate, listens, and keeps looking for a newer certificate. None of its troubles ends the process.

    ``settled`` is True once it listens, or has found out that it cannot for now.
    """

    def __init__(
        self,
        settings: AdmissionSettings,
        source: CertificateSource,
        reviewer: Reviewer,
        on_review: OnReview = lambda *_: None,
    ) -> None:
        self._settings = settings
        self._source = source
        self._review = reviewer
        self._on_review = on_review
        self._tls = ServerTls()
        self._runner: web.AppRunner | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="admission")
        self._looking = asyncio.Lock()
        self._waiting = 0
        self._told = ""
        self._leaving = False
        self.settled = False
        self.port = 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            pause = self._settings.check_every_s
            try:
                await self.refresh()
            except (Unavailable, BadCertificate, OSError) as error:
                self._tell(str(error))
                pause = self._settings.retry_s
            except Exception:
                log.exception("admission: a mistake in the operator; trying again")
                pause = self._settings.retry_s
            else:
                self._told = ""
            self.settled = True
            await asyncio.sleep(pause)

    async def refresh(self) -> None:
        """One look at the certificate. Raises Unavailable, BadCertificate, or OSError when the port is taken."""
        async with self._looking:
            if self._tls.load(await self._source.fetch()):
                log.info("admission: serving a certificate that ends at %s", self.expires())
            if self._runner is None:
                await self._listen()
            await self._source.announce()

    async def linger(self) -> None:
        """Go on answering for a while, on connections that end with the answer."""
        self._leaving = True
        if self._runner is not None:
            await asyncio.sleep(self._settings.linger_s)

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self._thread.shutdown(wait=False, cancel_futures=True)

    def expires(self) -> str:
        """When the certificate that is served ends, in ISO 8601; empty without one."""
        served = pki.certificates(self._tls.loaded.cert) if self._tls.loaded else []
        return served[0].not_valid_after_utc.isoformat() if served else ""

    def report(self) -> dict[str, Any]:
        """For the health report."""
        return {"listening": self._runner is not None, "certificateEnds": self.expires(), "trouble": self._told}

    def _tell(self, trouble: str) -> None:
        """Once for each trouble, not at each try."""
        if trouble != self._told:
            log.warning("admission: %s; trying again", trouble)
        self._told = trouble

    async def _listen(self) -> None:
        app = web.Application(client_max_size=MAX_BODY)
        app.add_routes([web.post(PATH, self._answer)])
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=KEEP_ALIVE_S, shutdown_timeout=2.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._settings.host, self._settings.port, ssl_context=self._tls.context)
            await site.start()
        except OSError as error:
            await runner.cleanup()
            port = self._settings.port
            raise OSError(
                f"cannot listen on port {port}: {error.strerror}; set ADMISSION_PORT to a free one"
            ) from error
        self._runner = runner
        self.port = runner.addresses[0][1]
        log.info("admission: listening", extra={"port": self.port})

    async def _answer(self, http: web.Request) -> web.Response:
        body = await http.read()
        try:
            request = read(body)
        except BadReview as error:
            return web.Response(status=400, text=f"{error}\n")
        began = time.monotonic()
        word, verdict = await self._judged(request, _timeout(http))
        self._on_review(request.kind, word, time.monotonic() - began)
        response = web.Response(body=answer(request, verdict), content_type="application/json")
        if self._leaving:
            response.force_close()
        return response

    async def _judged(self, request: ReviewRequest, seconds: float) -> tuple[str, Verdict]:
        """The verdict with a word for it. A fault of our own never refuses a write."""
        if self._waiting >= MAX_WAITING:
            log.warning("admission: %s was not checked: %d reviews are waiting", request, self._waiting)
            return "unchecked", Verdict(warnings=(TOO_BUSY,))
        self._waiting += 1
        # In a thread: however long a text is, the lease is renewed and health is told meanwhile.
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._review, request)
        work.add_done_callback(self._done)
        try:
            async with asyncio.timeout(seconds):
                verdict = await asyncio.shield(work)
        except TimeoutError:
            log.warning("admission: the review of %s took more than %.1f s; it is let through", request, seconds)
            return "unchecked", Verdict(warnings=(TOO_SLOW,))
        except Exception:
            log.exception("admission: the review of %s failed; it is let through", request)
            return "unchecked", Verdict(warnings=(BROKEN,))
        if verdict.errors:
            log.info("admission: %s by %s refused", request, request.user)
            return "refused", verdict
        return ("warned" if verdict.warnings else "allowed"), verdict

    def _done(self, work: asyncio.Future[Verdict]) -> None:
        self._waiting -= 1
        if not work.cancelled():
            work.exception()  # told by whoever waited; one that nobody waits for any more has been told of as well


_UNITS: Final = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(s|ms|µs)")


def _timeout(http: web.Request) -> float:
    """Seconds for a review: the API server says for how long it waits, as Go writes it (``?timeout=2.99s``)."""
    found = _DURATION.fullmatch(http.query.get("timeout", ""))
    seconds = float(found[1]) * _UNITS[found[2]] if found else DEFAULT_TIMEOUT_S
    return max(0.5 * seconds, seconds - _MARGIN_S)
