#!/usr/bin/env bash
# The edge extra alone, installed as a wheel in a fresh environment: the demo runs, and there is no TensorFlow.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${1:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$here[edge]"
cd "$folder"
venv/bin/mien-edge run demo --max-frames 30 --annotate demo.png
test -s demo.png
venv/bin/mien-edge check
for module in tensorflow keras matplotlib; do
  if venv/bin/python -c "import $module" 2>/dev/null; then
    echo "edge-only: error: $module can be imported" >&2
    exit 1
  fi
done
echo "edge-only: the demo runs without tensorflow, keras and matplotlib"
