#!/usr/bin/env bash
# image.sh DIR: a bootable arm64 Debian 12 as a fresh Raspberry Pi OS Lite would be: disk.ext4, kernel, initrd, and the
# key `login` of its user pi. The kernel is unpacked natively and its initrd is a few modules and busybox, for nothing
# slow may run emulated. Made once, from this machine's own Debian mirror. Needs root, mmdebstrap, qemu-user-static,
# e2fsprogs, kmod, cpio.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$1
mkdir -p "$dir"
dir=$(readlink -f "$dir")
root=$dir/root
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | sort -u | head -1)
suite=bookworm
told() { echo "image: $SECONDS s: $*" >&2; }
if [ ! -d "$root" ]; then
  told "packages (some minutes, emulated)"
  rm -rf "$root.part"
  "$here/userns.sh" mmdebstrap --mode=root --architectures=arm64 --variant=minbase \
    --aptopt='APT::Install-Recommends "false"' \
    --include=systemd-sysv,dbus,udev,libnss-systemd,libpam-systemd,python3,python3-venv,iproute2,procps,kmod,e2fsprogs,sudo \
    --include=openssh-server,openssh-client --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$suite" "$root.part" "deb $mirror $suite main"
  mv "$root.part" "$root"
fi
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
