#!/usr/bin/env bash
# e2e.sh PYTHON: boots an emulated Raspberry Pi (made on first use, kept in the cache), runs e2e.py against a copy of its
# disk, and leaves nothing else. CUTS=20: how often the power is cut. Needs root and what arm/ needs.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
python=$(readlink -f "$(dirname "$1")")/$(basename "$1")
for tool in qemu-system-aarch64 qemu-aarch64-static mmdebstrap cpio mkfs.ext4 depmod; do
  command -v "$tool" >/dev/null || PATH=$PATH:/sbin:/usr/sbin command -v "$tool" >/dev/null || {
    echo "e2e: $tool is missing; apt install qemu-system-arm qemu-user-static mmdebstrap cpio e2fsprogs kmod" >&2
    exit 1
  }
done
key=$(cat "$here"/tests/system/arm/{image.sh,virtual_camera.py} | sha256sum | cut -c1-16)
image=${XDG_CACHE_HOME:-$HOME/.cache}/mien/arm-$key
[ -f "$image/done" ] || { "$here/tests/system/arm/image.sh" "$image" "$python" && touch "$image/done"; }
work=$(mktemp -d)
ended() {
  [ ! -f "$work/pid" ] || kill -9 "$(cat "$work/pid")" 2>/dev/null || :
  rm -rf "$work"
}
trap ended EXIT
trap 'exit 143' INT TERM
cp --sparse=always "$image"/{disk.ext4,kernel,initrd,login,login.pub} "$work/"
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work/wheel" "$here"
MIEN_WHEEL=$(echo "$work"/wheel/*.whl) MIEN_IMAGE=$work \
  "$python" -m pytest -s -x -p no:cacheprovider --rootdir "$here" "$here/tests/system/e2e.py"
