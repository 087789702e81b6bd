#!/usr/bin/env bash
# device_test.sh PYTHON: installs the kit in a Debian with its own systemd, as systemd/README.md tells, and runs device.py
# against it. Leaves nothing but the tree, which is kept for the next time. Skips, saying so, where it cannot run.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
python=$(readlink -f "$(dirname "$1")")/$(basename "$1")
skip() { echo "device-test: skipped: $*"; exit 0; }
[ "$(id -u)" = 0 ] || skip "it needs root, for namespaces"
command -v mmdebstrap >/dev/null || skip "mmdebstrap is not installed"
key=$(sha256sum "$here/tests/system/tree.sh" | cut -c1-16)
tree=${XDG_CACHE_HOME:-$HOME/.cache}/mien/device-$key
[ -d "$tree" ] || "$here/tests/system/tree.sh" "$tree" || skip "no Debian tree could be made (see above)"
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$wheels" "$here"
# Before the box is entered, for in there is no network.
"$python" -c 'import sys; from pathlib import Path; from mien_deploy.wheels import wheelhouse
wheelhouse(Path(sys.argv[1]), "3.11", sys.argv[2], "edge")' "$wheels"/*.whl "$(uname -m)" || skip "no wheels for the box (see above)"
code=0
MIEN_WHEEL=$(echo "$wheels"/*.whl) "$here/tests/system/box.sh" "$tree" \
  "$python" -m pytest -s -p no:cacheprovider --rootdir "$here" "$here/tests/system/device.py" || code=$?
[ "$code" != 77 ] || skip "no box can be booted here"
exit "$code"
