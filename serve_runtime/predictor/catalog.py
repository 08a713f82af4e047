"""Which models there are, and which of them are let be for a while because they failed to load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from serve_runtime.errors import NoModelNamed, Unavailable, UnknownModel
from serve_runtime.predictor.args import Models

HEADER = "serve-multiplexed-model-id"


@dataclass(slots=True)
class Catalog:
    """now: seconds of a clock that never goes back. failures: id to (time of the failure, reason)."""

    models: Models
    now: Callable[[], float]
    failures: dict[str, tuple[float, str]] = field(default_factory=dict)

    def pick(self, asked: str) -> str:
        """The id that a request means. Raises NoModelNamed, UnknownModel, and Unavailable after a failed load."""
        model = asked or self.models.default
        if model is None:
            raise NoModelNamed(f"name a model in the header {HEADER}", details={"known": sorted(self.models.known)})
        if not self.models.allows(model):
            raise UnknownModel(f"no model {model!r}", details={"known": sorted(self.models.known)})
        if model in self.failures:
            left = self.failures[model][0] + self.models.retry_load_after_s - self.now()
            if left > 0:
                raise Unavailable(f"model {model!r} cannot be loaded", retry_after_s=left)
        return model

    def failed(self, model: str, reason: str) -> None:
        """A load has failed. Those that are over are forgotten, since with free names there is no end of ids."""
        now = self.now()
        over = now - self.models.retry_load_after_s
        self.failures = {each: at for each, at in self.failures.items() if at[0] > over}
        self.failures[model] = (now, reason)

    def loaded(self, model: str) -> None:
        """A load has succeeded."""
        self.failures.pop(model, None)
