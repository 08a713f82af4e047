#!/bin/sh
# Renew constraints.txt: the newest versions of everything that the project's own requirements allow.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check -e '.[dev,runtime,tasks]'
{
	echo "# Exact versions of everything that development and both images install, so that a release of somebody else"
	echo "# changes nothing here unseen. Made by \`make constraints\`; what is wanted is said in pyproject.toml."
	"$folder/venv/bin/pip" freeze --exclude-editable
} >"$folder/constraints.txt"
mv "$folder/constraints.txt" constraints.txt
