#!/usr/bin/env bash
# image.sh DIR PYTHON: a bootable arm64 Debian 13 as a fresh Raspberry Pi OS Lite would be: disk.ext4, kernel, initrd, and
# the key `login` of its user pi. It has libcamera and picamera2, whose camera is a folder of the demo's pictures
# (virtual_camera.py). The kernel is unpacked natively and its initrd is a few modules and busybox, for nothing slow may
# run emulated. Made once, from this machine's own Debian mirror and package index. PYTHON is one that has mien's tests'
# packages. Needs root, mmdebstrap, qemu-user-static, e2fsprogs, kmod, cpio.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$1
python=$2
mkdir -p "$dir"
dir=$(readlink -f "$dir")
root=$dir/root
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | sort -u | head -1)
suite=trixie
told() { echo "image: $SECONDS s: $*" >&2; }
if [ ! -d "$root" ]; then
  told "packages (some minutes, emulated)"
  rm -rf "$root.part"
  "$here/userns.sh" mmdebstrap --mode=root --architectures=arm64 --variant=minbase \
    --aptopt='APT::Install-Recommends "false"' \
    --include=systemd-sysv,dbus,udev,libnss-systemd,libpam-systemd,python3,python3-venv,iproute2,procps,kmod,e2fsprogs,sudo \
    --include=openssh-server,openssh-client,python3-libcamera,libcamera-ipa,python3-numpy,python3-prctl --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$suite" "$root.part" "deb $mirror $suite main"
  mv "$root.part" "$root"
fi
told "picamera2 and its camera"
packages=$root/usr/local/lib/python3.13/dist-packages
virtual=$root/usr/share/libcamera/pipeline/virtual
rm -rf "$packages" "$virtual"
mkdir -p "$packages" "$virtual/demo" "$root/etc/systemd/system/mien.service.d"
pip=("$python" -m pip --quiet --disable-pip-version-check)
# Raspberry Pi OS has these as its own packages. Of PiDNG, which only raw photographs need, the Python files are enough.
"${pip[@]}" install --target "$packages" --no-deps --only-binary=:all: --implementation cp --python-version 3.13 \
  --abi cp313 --abi abi3 --abi none --platform manylinux_2_34_aarch64 --platform manylinux_2_28_aarch64 \
  --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
  picamera2==0.3.38 piexif==1.1.3 simplejpeg==1.9.0 videodev2==0.0.4 pillow==13.0.0
"${pip[@]}" download --no-deps --no-binary=:all: --dest "$dir" pidng==4.0.9
tar -xzf "$dir"/pidng-4.0.9.tar.gz -C "$packages" --strip-components=2 pidng-4.0.9/src/pidng
printf 'from unittest.mock import MagicMock\n\nPixelFormat = MagicMock()\n' >"$packages/pykms.py"
cp "$here/virtual_camera.py" "$packages/"
echo 'import virtual_camera' >>"$packages/picamera2/__init__.py"
"$python" - "$virtual" <<'FRAMES'
import sys
from pathlib import Path

import cv2
from mien_edge.chain.sources import Demo

folder, demo = Path(sys.argv[1]), Demo(6.0)
for index in range(48):
    cv2.imwrite(str(folder / "demo" / f"{index:03d}.jpg"), demo.picture(index / 6))
FRAMES
cat >"$virtual/virtual.yaml" <<'CAMERA'
"demo":
  supported_formats:
    - width: 640
      height: 480
      frame_rates: [5, 30]
  frames:
    path: "/usr/share/libcamera/pipeline/virtual/demo"
  model: "demo"
CAMERA
printf '[Service]\nEnvironment=GLIBC_TUNABLES=glibc.malloc.tcache_count=0:glibc.malloc.perturb=255\n' \
  >"$root/etc/systemd/system/mien.service.d/camera.conf"
if [ ! -d "$dir/boot" ]; then
  told "kernel"
  rm -rf "$dir/boot.part"
  "$here/userns.sh" mmdebstrap --quiet --mode=root --variant=extract --architectures=arm64 \
    --aptopt='APT::Install-Recommends "false"' --include=linux-image-arm64,busybox-static \
    "$suite" "$dir/boot.part" "deb $mirror $suite main"
  mv "$dir/boot.part" "$dir/boot"
fi
version=$(basename "$dir"/boot/boot/vmlinuz-* | sed 's/^vmlinuz-//')
cp "$dir/boot/boot/vmlinuz-$version" "$dir/kernel"
modules=$(find "$dir/boot" -type d -path "*lib/modules/$version" | head -1)
mkdir -p "$root/lib/modules"
rm -rf "$root/lib/modules/$version"
cp -a "$modules" "$root/lib/modules/"
depmod -b "$root" "$version"
told "initrd"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{bin,dev,proc,sys,modules,new}
cp "$(find "$dir/boot" -name busybox -path '*bin/*' | head -1)" "$work/bin/busybox"
number=100
for name in virtio_pci virtio_blk crc32c_generic ext4; do
  while read -r verb path _; do
    [ "$verb" = insmod ] || continue
    file=$(basename "${path%.xz}")
    [ -z "$(find "$work/modules" -name "*-$file")" ] || continue
    case $path in *.xz) xz -dc "$path" ;; *) cat "$path" ;; esac >"$work/modules/$number-$file"
    number=$((number + 1))
  done < <(modprobe -d "$root" -S "$version" --show-depends "$name" 2>/dev/null)
done
cat >"$work/init" <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
for module in /modules/*; do $b insmod $module 2>/dev/null; done
n=0
while [ ! -b /dev/vda ] && [ $n -lt 120 ]; do $b sleep 0.5; n=$((n + 1)); done
$b mount -t ext4 /dev/vda /new || exec $b sh
$b mount --move /dev /new/dev
$b umount /proc /sys
exec $b switch_root /new /sbin/init
INIT
chmod +x "$work/init"
(cd "$work" && find . | cpio --quiet -o -H newc | gzip -1) >"$dir/initrd"
told "settings and disk"
[ -f "$dir/login" ] || ssh-keygen -q -t ed25519 -N '' -C e2e -f "$dir/login"
echo pi >"$root/etc/hostname"
echo 127.0.0.1 localhost pi >"$root/etc/hosts"
echo "LABEL=mien / ext4 rw,noatime 0 1" >"$root/etc/fstab"
chroot_user() { grep -q '^pi:' "$root/etc/passwd" || "$here/userns.sh" chroot "$root" useradd --create-home --shell /bin/bash pi; }
chroot_user
echo "pi ALL=(ALL) NOPASSWD: ALL" >"$root/etc/sudoers.d/pi"
mkdir -p "$root/etc/systemd/network" "$root/home/pi/.ssh" "$root/etc/systemd/system/multi-user.target.wants"
cp "$dir/login.pub" "$root/home/pi/.ssh/authorized_keys"
chown -R 1000:1000 "$root/home/pi/.ssh"
chmod 700 "$root/home/pi/.ssh"
printf '[Match]\nName=en* eth*\n[Network]\nDHCP=ipv4\n' >"$root/etc/systemd/network/50-e2e.network"
ln -sf /lib/systemd/system/systemd-networkd.service "$root/etc/systemd/system/multi-user.target.wants/"
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_reap.service e2scrub_all.timer \
  systemd-networkd-wait-online.service; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
rm -f "$dir/disk.ext4"
truncate -s 4G "$dir/disk.ext4"
mkfs.ext4 -q -L mien -d "$root" -E root_owner=0:0,lazy_itable_init=1 "$dir/disk.ext4"
told "done: kernel $version"
