"""Quantities agree with the official client, and what we write is read back the same."""

from __future__ import annotations

import decimal
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity

from rayservice_operator.cluster import quantity
from tests.cluster.world import CALM

SUFFIXES = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "E-2", "e+1"]
numbers = st.one_of(
    st.integers(0, 10**12).map(str),
    st.decimals(0, 10**6, places=3, allow_nan=False).map(str),
)


@CALM
@given(number=numbers, suffix=st.sampled_from(SUFFIXES), sign=st.sampled_from(["", "-", "+"]))
def test_agrees_with_the_official_client(number: str, suffix: str, sign: str) -> None:
    text = f"{sign}{number}{suffix}"
    with decimal.localcontext(prec=60):  # the client rounds to the context's digits, we never do
        assert quantity.parse(text) == parse_quantity(text)


@CALM
@given(st.integers(0, 2**60))
def test_bytes_are_read_back(value: int) -> None:
    assert quantity.parse(quantity.format_binary(Decimal(value))) == value


@CALM
@given(st.integers(0, 10**9))
def test_milli_units_are_read_back(value: int) -> None:
    assert quantity.parse(quantity.format_decimal(Decimal(value) / 1000)) == Decimal(value) / 1000


@pytest.mark.parametrize(
    ("value", "expected"), [(2, "2"), (0.5, "0.5"), ("1.", "1"), (".5", "0.5"), (" 1Gi ", "1073741824")]
)
def test_what_yaml_may_hold(value: Any, expected: str) -> None:
    assert quantity.parse(value) == Decimal(expected)


@pytest.mark.parametrize("value", ["", "Gi", "1 Gi", "1GB", "two", "1K", "0x10", None, True, [], "1e", "--1"])
def test_anything_else_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a Kubernetes quantity") as caught:
        quantity.parse(value)
    assert repr(str(value).strip()) in str(caught.value)
    assert quantity.parse_or_zero(value) == 0


@pytest.mark.parametrize(("text", "whole"), [("500m", 1), ("1", 1), ("1001m", 2), ("0", 0), ("1.5Gi", 1610612736)])
def test_whole_numbers_are_rounded_up(text: str, whole: int) -> None:
    assert quantity.ceil(quantity.parse(text)) == whole


@pytest.mark.parametrize(
    ("value", "text"), [(8 * 2**30, "8Gi"), (1536 * 2**20, "1536Mi"), (1000, "1000"), (0, "0"), (2**60, "1Ei")]
)
def test_canonical_bytes(value: int, text: str) -> None:
    assert quantity.format_binary(Decimal(value)) == text
