"""What is read from requests, and which settings are refused. Ray is not needed."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from serve_runtime.routing import requests, router_config

SCOPE = SimpleNamespace(asgi_scope={"headers": [(b"host", b"h"), (b"X-User", b"anna")]})


def test_a_header_is_found_in_what_the_proxy_pickled() -> None:
    assert requests.header([pickle.dumps(SCOPE)], "x-user", from_proxy=True) == "anna"
    assert requests.header([pickle.dumps(SCOPE)], "x-other", from_proxy=True) is None


def test_bytes_of_anybody_else_are_never_unpickled() -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("unpickled",))

    assert requests.header([pickle.dumps(Evil())], "x-user", from_proxy=False) is None


def test_a_header_of_an_argument_behind_an_ingress() -> None:
    assert requests.header([SimpleNamespace(headers={"X-User": "anna"})], "x-user", from_proxy=False) == "anna"
    assert requests.header([{"headers": 1}, None, 3], "x-user", from_proxy=False) is None


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ({"prompt": "hello"}, "hello"),
        (SimpleNamespace(prompt="hello"), "hello"),
        ({"prompt": ["one", "two"]}, "onetwo"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "<user>hi"),
        ({"messages": [SimpleNamespace(role="user", content="hi")]}, "<user>hi"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]},
            "<user>a",
        ),
        ({"prompt": ""}, None),
        ({"prompt": [1, 2, 3]}, None),
        ({"other": "x"}, None),
        (b"bytes", None),
        (None, None),
    ],
)
def test_the_text_of_a_prompt(argument: Any, expected: str | None) -> None:
    assert requests.prompt([argument]) == expected


def test_a_config_names_a_class_by_path_and_says_what_is_wrong() -> None:
    config = router_config("sticky", header="X-User", balance=1.25)
    assert config["request_router_class"] == "serve_runtime.routing.routers:StickyRouter"
    for kind, arguments, says in (
        ("stiky", {}, "there are sticky, prefix, kv_cache"),
        ("sticky", {"heder": "x"}, "request_router_kwargs (header, balance, fallbacks)"),
        ("sticky", {"header": "two words"}, "header"),
        ("sticky", {"balance": 0.5}, "greater than or equal to 1"),
        ("prefix", {"balance": float("inf")}, "finite"),
        ("prefix", {"block": 0}, "block"),
        ("kv_cache", {"weight": -1.0}, "weight"),
    ):
        with pytest.raises(ValueError) as error:
            router_config(kind, **arguments)
        assert says in str(error.value)
