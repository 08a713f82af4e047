"""One prefetch from beginning to end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serve_runtime.commands.prefetch import archives
from serve_runtime.commands.prefetch.errors import PrefetchError, of_disk
from serve_runtime.commands.prefetch.fetch import Fetch, Limits
from serve_runtime.commands.prefetch.progress import Progress
from serve_runtime.commands.prefetch.sources import Source, Wanted
from serve_runtime.commands.prefetch.store import Store
from serve_runtime.commands.units import seconds, size


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be where. ``wanted`` is applied to the content of an archive, too."""

    source: Source
    store: Store
    progress: Progress
    limits: Limits = field(default_factory=Limits)
    wanted: Wanted = field(default_factory=Wanted)
    extract: bool = False
    replace: bool = False
    lock_timeout_s: float = 3600.0
    sha256: str = ""

    def what(self) -> dict[str, Any]:
        """What decides on the content: with another one of these it is another thing."""
        return {
            "source": self.source.name,
            "extract": self.extract,
            "include": list(self.wanted.include),
            "exclude": list(self.wanted.exclude),
            "sha256": self.sha256,
        }

    def run(self) -> str:
        """Have it there. Returns a line that says what was done. Raises PrefetchError.

        A source is not asked whether it has changed: what is complete is used, also while the source is away.
        """
        began = time.monotonic()
        target, what = self.store.target, self.what()
        try:
            with self.store.locked(self.lock_timeout_s, lambda text: self.progress.event("waiting", text)):
                there = self._there()
                if there is not None and _same(there, what):
                    text = f"{target} is complete: {there['files']} file(s), {size(there['bytes'])} of {what['source']}"
                    self.progress.event("done", text, path=str(target), bytes=there["bytes"], cached=True)
                    return text
                if there is not None and not self.replace:
                    raise PrefetchError(
                        f"{target} holds something else ({_difference(there, what)}); choose another --to, or "
                        "--replace it"
                    )
                return self._made(what, began)
        except OSError as error:
            raise of_disk(error, target.parent) from error

    def _there(self) -> Mapping[str, Any] | None:
        try:
            return self.store.complete()
        except PrefetchError:
            if self.replace:
                return None
            raise

    def _made(self, what: dict[str, Any], began: float) -> str:
        target = self.store.target
        fetch = Fetch(self.source, self.store, self.progress, self.limits)
        listing = fetch.listing()
        if self.extract and not listing.single:
            raise PrefetchError(f"--extract: {self.source.name} is {len(listing.files)} files; name one archive")
        if self.sha256 and not listing.single:
            raise PrefetchError(f"--sha256: {self.source.name} is {len(listing.files)} files; name one")
        going_on = self.store.begin({**what, "version": listing.version})
        known = f", {size(listing.size)}" if listing.size is not None else ""
        more = ", going on with what is there" if going_on else ""
        self.progress.event(
            "started",
            f"{self.source.name} to {target}: {len(listing.files)} file(s){known}{more}",
            source=self.source.name,
            path=str(target),
            files=len(listing.files),
            bytes=listing.size,
            resumed=going_on,
        )
        digests = fetch.all(listing)
        count, made = len(digests), self.store.files
        if listing.single:
            made = self.store.files / listing.files[0].path
        if self.extract:
            self.progress.event("unpacking", f"unpacking {size(self.progress.bytes)}")
            count = archives.unpack(made, self.store.tree, self.wanted, self.source.name)
            made = self.store.tree
        received = self.progress.bytes
        record = {**what, "version": listing.version, "files": count, "bytes": received, "sha256_of": digests}
        self.store.publish(made, record)
        took = seconds(time.monotonic() - began)
        text = f"{count} file(s), {size(received)} of {self.source.name} at {target} in {took}"
        self.progress.event("done", text, path=str(target), bytes=received, cached=False)
        return text


def _same(there: Mapping[str, Any], what: Mapping[str, Any]) -> bool:
    return all(there.get(key) == value for key, value in what.items())


def _difference(there: Mapping[str, Any], what: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {there.get(key)!r}, now {v!r}" for key, v in what.items() if there.get(key) != v)
