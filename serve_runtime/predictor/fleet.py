"""The models of one replica: one, or many with the least recently used unloaded first (Ray Serve's multiplexing)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from ray import serve
from serve_runtime.errors import Refusal, Unavailable
from serve_runtime.predictor.args import PredictorArgs
from serve_runtime.predictor.catalog import Catalog
from serve_runtime.predictor.contract import Contract, constructor_arguments
from serve_runtime.predictor.loaded import Loaded, RetiredError
from serve_runtime.web.answers import log_failure


class Fleet:
    """``started(model, seconds, outcome)`` is told of each load, ``looked_up(model, loaded)`` of each request where
    there are many. ``configure`` prepares a new instance.
    """

    def __init__(
        self,
        args: PredictorArgs,
        contract: Contract,
        pool: Executor,
        *,
        started: Callable[[str, float, str], None],
        looked_up: Callable[[str, bool], None],
        configure: Callable[[Any], Any],
    ) -> None:
        self._args = args
        self._contract = contract
        self._pool = pool
        self._started = started
        self._looked_up = looked_up
        self._configure = configure
        self._only: Loaded | None = None
        self._loading: dict[str, asyncio.Task[Loaded]] = {}
        self._multiplexed: Any = None
        self.catalog: Catalog | None = None
        if args.models:
            self.catalog = Catalog(args.models, time.monotonic)
            # A function made here, and not a decorated method, because the number of models is an argument.
            self._multiplexed = serve.multiplexed(max_num_models_per_replica=args.models.max_per_replica)(
                self._loader()
            )

    async def start(self) -> None:
        """Loads the one model. Many are loaded when they are asked for; the default one at once."""
        if self._args.models is None:
            self._only = await self._load("")
        elif self._args.models.default is not None:
            (await self.take(self._args.models.default)).give_back()

    def loaded(self) -> list[Loaded]:
        """What is in memory."""
        if self._args.models is None:
            return [self._only] if self._only else []
        # Ray Serve keeps its cache on the function that it wraps, from the first call on.
        wrapper = getattr(self._multiplexed.__wrapped__, "__serve_multiplex_wrapper", None)
        return list(wrapper.models.values()) if wrapper else []

    def label(self, model: str) -> str:
        """The model's name in metrics: names that callers make up would make series without end."""
        return model if self._args.models is None or model in self._args.models.known else "other"

    async def take(self, asked: str) -> Loaded:
        """The model that a request means, in use: the caller gives it back.

        Raises refusals: no such model, none named, not to be loaded now, ill.
        """
        if self.catalog is None:
            assert self._only is not None
            self._only.take()
            return self._only
        model = self.catalog.pick(asked)
        self._looked_up(model, any(each.model == model for each in self.loaded()))
        while True:
            loaded = await self._find(model)
            try:
                loaded.take()
            except RetiredError:  # unloaded while we were on our way back from the loop
                continue
            if loaded.illness:
                loaded.give_back()
                raise Unavailable(f"model {model!r} is ill")
            return loaded

    async def _find(self, model: str) -> Loaded:
        """One load for all who wait for a model. It goes on when they are cancelled: Ray Serve would else count the
        model as loading for ever, and send its requests here.
        """
        task = self._loading.get(model)
        if task is None:
            task = asyncio.ensure_future(self._multiplexed(model))
            self._loading[model] = task
            task.add_done_callback(lambda done: self._found(model, done))
        return await asyncio.shield(task)

    def _found(self, model: str, done: asyncio.Task[Loaded]) -> None:
        self._loading.pop(model, None)
        if not done.cancelled():
            done.exception()  # looked at, in case that nobody waits any more

    def _loader(self) -> Callable[[str], Any]:
        async def load_model(model_id: str) -> Loaded:
            assert self.catalog is not None
            try:
                loaded = await self._load(model_id)
            except Refusal as refusal:
                if refusal.status >= 500:
                    self.catalog.failed(model_id, str(refusal))
                raise
            except Exception as error:
                self.catalog.failed(model_id, f"{type(error).__name__}: {error}")
                log_failure(error, f"loading model {model_id!r}")
                raise Unavailable(
                    f"model {model_id!r} cannot be loaded", retry_after_s=self.catalog.models.retry_load_after_s
                ) from error
            self.catalog.loaded(model_id)
            return loaded

        return load_model

    async def _load(self, model: str) -> Loaded:
        """A new instance, made in a predictor's thread: libraries bind contexts to the thread that made them."""
        begun = time.monotonic()
        outcome = "failed"
        try:
            arguments = constructor_arguments(self._args, model)
            loop = asyncio.get_running_loop()
            predictor = await loop.run_in_executor(self._pool, lambda: self._contract.cls(**arguments))
            await self._configure(predictor)
            outcome = "loaded"
        finally:
            self._started(model, time.monotonic() - begun, outcome)
        grace_s = self._args.models.unload_grace_s if self._args.models else 0.0
        return Loaded(model, predictor, grace_s=grace_s)

    async def close(self) -> None:
        """Unloads everything, in threads."""
        for task in list(self._loading.values()):
            task.cancel()
        for loaded in self.loaded():
            await asyncio.to_thread(loaded.retire)
