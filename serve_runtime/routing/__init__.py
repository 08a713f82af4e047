"""Request routers: pure choosing logic, and thin adapters to Ray Serve's ``RequestRouter``.

In code::

    @serve.deployment(request_router_config=router_config("sticky", header="x-user"))

docs/serve-runtime/routing.md says which suits what.
"""

from __future__ import annotations

from typing import Any, Final

from serve_runtime.routing import settings

_ROUTERS: Final[dict[str, tuple[str, type[settings.Settings]]]] = {
    "sticky": ("StickyRouter", settings.Sticky),
    "prefix": ("PrefixRouter", settings.Prefix),
    "kv_cache": ("KvCacheRouter", settings.KvCache),
}


def router_config(kind: str, *, stats_period_s: float = 1.0, **arguments: Any) -> dict[str, Any]:
    """The ``request_router_config`` of a deployment: ``sticky``, ``prefix`` or ``kv_cache`` with its settings.

    stats_period_s: seconds between two calls of ``record_routing_stats`` (Ray's default is 10).
    Raises ValueError, which names the kinds, or the settings that are wrong.
    """
    if kind not in _ROUTERS:
        raise ValueError(f"router {kind!r} is not known; there are {', '.join(_ROUTERS)}")
    name, model = _ROUTERS[kind]
    settings.parse(model, arguments)
    return {
        "request_router_class": f"serve_runtime.routing.routers:{name}",
        "request_router_kwargs": arguments,
        "request_routing_stats_period_s": stats_period_s,
    }
