#!/bin/sh
# Renew constraints-llm-cpu.txt: all that the test image llm-cpu installs, for Python 3.11 on Linux x86-64.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
uv=uv
if ! command -v uv >/dev/null 2>&1; then
	"${PYTHON:-python3}" -m venv "$folder/venv"
	"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uv
	uv=$folder/venv/bin/uv
fi
{
	echo "# All that the test image llm-cpu installs, without looking at dependencies again: they contradict each other (e2e/images/llm_cpu)."
	echo "# Made by scripts/constraints_llm_cpu.sh."
	"$uv" pip compile --quiet --no-header --no-annotate --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
		--override e2e/images/llm_cpu/overrides.txt e2e/images/llm_cpu/requirements.txt
} >"$folder/constraints.txt"
mv "$folder/constraints.txt" constraints-llm-cpu.txt
