#!/usr/bin/env bash
# tree.sh DIR: a Debian 12 in the folder DIR as a fresh Raspberry Pi OS Lite would be, with sshd and a broker beside it.
# Made once, from this machine's own Debian mirror. Needs root and mmdebstrap.
set -euo pipefail
dir=$1
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | sort -u | head -1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mmdebstrap --quiet --variant=minbase --aptopt='APT::Install-Recommends "false"' \
  --include=systemd-sysv,dbus,udev,libnss-systemd,libpam-systemd,python3,python3-venv,iproute2,procps,sudo \
  --include=openssh-server,openssh-client,mosquitto,mosquitto-clients \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$work/tree" "deb $mirror bookworm main"
chroot "$work/tree" sh -ec '
  echo pi > /etc/hostname
  echo 127.0.0.1 localhost pi > /etc/hosts
  systemctl disable --quiet mosquitto.service 2>/dev/null || :
  systemctl enable --quiet ssh.service 2>/dev/null || :
  useradd --create-home --shell /bin/bash pi
  echo "pi ALL=(ALL) NOPASSWD: ALL" > /etc/sudoers.d/pi'
mkdir -p "$(dirname "$dir")"
rm -rf "$dir"
mv "$work/tree" "$dir"
