"""Every target of the Dockerfile has a base: what a FROM names is an argument of the whole file or an earlier stage."""

import re
from pathlib import Path

DOCKERFILE = Path(__file__).parents[2] / "Dockerfile"


def test_what_a_from_names_is_known_where_it_stands() -> None:
    """An ARG behind the first FROM belongs to its stage; a FROM with it finds nothing (Dockerfile reference, ARG)."""
    arguments, stages = set[str](), set[str]()
    for line in DOCKERFILE.read_text().splitlines():
        match line.split():
            case ["ARG", argument] if not stages:
                name, _, default = argument.partition("=")
                assert set(re.findall(r"\$\{(\w+)\}", default)) <= arguments, line
                arguments.add(name)
            case ["FROM", base, "AS", stage]:
                used = re.findall(r"\$\{(\w+)\}", base)
                assert set(used) <= arguments if used else base in stages, line
                stages.add(stage)
            case ["FROM", *_]:
                raise AssertionError(f"a stage without a name: {line}")
    assert {"operator", "runtime", "llm", "llm-cpu"} <= stages
