#!/usr/bin/env bash
# tree.sh DIR: a Debian 12 in the folder DIR as a fresh Raspberry Pi OS Lite would be, with what mien needs from PyPI in
# /opt/mien/venv and a broker. Made once per list of dependencies, from this machine's own Debian mirror and pip settings.
# Needs root and mmdebstrap.
set -euo pipefail
dir=$1
here=$(cd "$(dirname "$0")/../.." && pwd)
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | sort -u | head -1)
machine=$(uname -m)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mmdebstrap --quiet --variant=minbase --aptopt='APT::Install-Recommends "false"' \
  --include=systemd-sysv,dbus,udev,libnss-systemd,python3,python3-venv,iproute2,procps,mosquitto,mosquitto-clients \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$work/tree" "deb $mirror bookworm main"
python3 - "$here/pyproject.toml" >"$work/needs" <<'PY'
import sys, tomllib
project = tomllib.load(open(sys.argv[1], "rb"))["project"]
extras = project["optional-dependencies"]
print(*project["dependencies"], *extras["device"], *(each for each in extras["edge"] if not each.startswith("mien")), sep="\n")
PY
platforms=()
for glibc in 2_34 2_28 2_27 2_24 2_17; do platforms+=(--platform "manylinux_${glibc}_$machine"); done
platforms+=(--platform "manylinux2014_$machine")
python3 -m pip download --quiet --disable-pip-version-check --only-binary=:all: --implementation cp --abi cp311 --abi abi3 \
  --abi none --python-version 3.11 "${platforms[@]}" --dest "$work/tree/var/wheels" -r "$work/needs"
cp "$work/needs" "$work/tree/var/wheels/needs"
chroot "$work/tree" sh -ec '
  python3 -m venv --system-site-packages /opt/mien/venv
  /opt/mien/venv/bin/pip install --quiet --no-index --find-links /var/wheels -r /var/wheels/needs
  rm -r /var/wheels
  systemctl disable --quiet mosquitto.service 2>/dev/null || :'
mkdir -p "$(dirname "$dir")"
rm -rf "$dir"
mv "$work/tree" "$dir"
