"""Values of arguments that several commands take; each raises ArgumentTypeError with what to write instead."""

from __future__ import annotations

import argparse
import math
import os
import re


def positive(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: must be more than 0")
    return value


def count(text: str) -> int:
    """A whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 1")
    return value


def header_env(text: str) -> tuple[str, str]:
    """``NAME=VARIABLE``: a header with the variable's value, so that a token is in no command line."""
    name, equals, variable = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z0-9-]+", name):
        raise argparse.ArgumentTypeError(f"{text}: write NAME=VARIABLE, as Authorization=WEIGHTS_TOKEN")
    if variable not in os.environ:
        raise argparse.ArgumentTypeError(f"{text}: there is no variable {variable}")
    return name, os.environ[variable]
