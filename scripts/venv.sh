#!/bin/sh
# Make .venv and install the project in it, editable, with what development needs.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
	echo "Python 3.11 or newer is needed; $python is $("$python" --version). Set PYTHON=…" >&2
	exit 1
}
if [ ! -x .venv/bin/python ]; then
	echo "virtual environment: making .venv" >&2
	# Debian packs ensurepip apart from Python.
	if ! "$python" -c 'import ensurepip' 2>/dev/null; then
		if [ "$(id -u)" != 0 ]; then
			echo "run as root: apt-get install python3-venv" >&2
			exit 1
		fi
		apt-get update -qq
		apt-get install -qq -y --no-install-recommends python3-venv
	fi
	"$python" -m venv .venv
fi
echo "virtual environment: installing the project and its development tools" >&2
if command -v uv >/dev/null 2>&1; then
	uv pip install --quiet --python .venv/bin/python -c constraints.txt -e '.[dev]'
else
	# A .venv that something else made may have no pip.
	.venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip --upgrade >/dev/null
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
fi
