#!/usr/bin/env bash
# vm.sh start|ssh|stop|cut DIR …: the machine of image.sh in an emulator: Cortex-A72, its own kernel and systemd.
#   start DIR PORT   boots and waits for ssh on 127.0.0.1:PORT; what is written stays in DIR/disk.ext4
#   ssh DIR WORDS    as its user pi
#   stop DIR         shuts down;  cut DIR  cuts the power
# The guest reaches nothing but this machine's forwarded port. Needs qemu-system-arm.
set -euo pipefail
action=$1
dir=$(readlink -f "$2")
shift 2
[ "$action" != start ] || echo "$1" >"$dir/port"
port=$(cat "$dir/port")
options=(-i "$dir/login" -o IdentitiesOnly=yes -o "UserKnownHostsFile=$dir/known" -o GlobalKnownHostsFile=none
  -o LogLevel=ERROR -o ConnectTimeout=10 -o BatchMode=yes -p "$port")
into() { ssh "${options[@]}" -o "StrictHostKeyChecking=$1" pi@127.0.0.1 "${@:2}"; }
lives() { kill -0 "$(cat "$dir/pid" 2>/dev/null)" 2>/dev/null; }
gone() { # within so many seconds; until then it holds the disk's lock
  for _ in $(seq "$1"); do
    lives || return 0
    sleep 1
  done
  return 1
}
case $action in
start)
  qemu-system-aarch64 -M virt -cpu cortex-a72 -smp 2 -m 1024 -drive "file=$dir/disk.ext4,format=raw,if=virtio" \
    -netdev "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:$port-:22" -device virtio-net-pci,netdev=net,romfile= \
    -device virtio-rng-pci -kernel "$dir/kernel" -initrd "$dir/initrd" -append "rw quiet console=ttyAMA0" \
    -display none -monitor none -serial "file:$dir/console" </dev/null >"$dir/said" 2>&1 &
  echo $! >"$dir/pid"
  disown
  for _ in $(seq 300); do
    # The first boot makes the host's keys; from then on they are pinned.
    into accept-new true 2>/dev/null && exit 0
    lives || break
    sleep 1
  done
  echo "vm: no ssh; $(tail -3 "$dir/said" "$dir/console")" >&2
  exit 1
  ;;
ssh) into yes "$@" ;;
stop)
  into yes sudo systemctl poweroff --no-wall 2>/dev/null || :
  gone 120 || kill -9 "$(cat "$dir/pid")"
  ;;
cut)
  kill -9 "$(cat "$dir/pid")"
  gone 10
  ;;
esac
