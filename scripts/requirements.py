"""Cut the requirements of each image out of pyproject.toml: ``requirements.py <pyproject.toml> <folder>``.

The image build copies only these files into the stages that install packages, so that any other edit of pyproject.toml
leaves those layers as they are.
"""

import sys
import tomllib
from pathlib import Path


def main(pyproject: str, folder: str) -> None:
    project = tomllib.loads(Path(pyproject).read_text())["project"]
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    extras = project["optional-dependencies"]
    # Celery, Redis and the exporter of traces are small beside Ray, so the images have them for everybody.
    sets = {
        "operator": project["dependencies"],
        "runtime": [*extras["runtime"], *extras["tasks"], *extras["otel"]],
        "llm": extras["llm"],
    }
    for name, requirements in sets.items():
        (out / f"{name}.txt").write_text("\n".join(sorted(requirements)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
