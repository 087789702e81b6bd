#!/usr/bin/env bash
# box.sh TREE COMMAND...: boots the Debian in TREE with its own systemd as first process, in namespaces and a cgroup of
# its own, and runs COMMAND beside it: "$BOX words…" runs inside. TREE is not changed: what is written goes to memory and
# is gone at the end, as is every process, mount, cgroup and interface. Needs root and cgroup v2 mounted somewhere.
set -euo pipefail
tree=$(readlink -f "$1")
shift
groups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts)
[ "$(id -u)" = 0 ] && [ -n "$groups" ] || { echo "box: needs root and cgroup v2" >&2; exit 77; }
group=$groups/mien-box-$$
mkdir "$group" || { echo "box: cannot make a cgroup" >&2; exit 77; }
work=$(mktemp -d)
first=
ended() {
  set +e
  [ -z "$first" ] || kill -9 "$first" 2>/dev/null
  wait 2>/dev/null
  for _ in $(seq 50); do
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
    [ -d "$group" ] || break
    sleep 0.1
  done
  rm -rf "$work"
}
trap ended EXIT
trap 'exit 143' INT TERM
cat >"$work/boot" <<'BOOT'
set -e
place=$1 tree=$2
mount -t tmpfs -o mode=755 tmpfs "$place"
mkdir "$place/changes" "$place/work" "$place/root"
root=$place/root
mount -t overlay -o "lowerdir=$tree,upperdir=$place/changes,workdir=$place/work" overlay "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
for name in null zero full random urandom tty; do
  touch "$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
done
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for pair in 0:stdin 1:stdout 2:stderr; do ln -s "fd/${pair%:*}" "$root/dev/${pair#*:}"; done
ip link set lo up
hostname pi
cd "$root"
mkdir .before
pivot_root . .before
umount -l /.before
rmdir /.before
mount --make-rshared / # as outside of a container; credentials reach their services this way
exec env -i container=mien-box PATH=/usr/sbin:/usr/bin /sbin/init --log-target=journal --show-status=false \
  </dev/null >/dev/null 2>&1
BOOT
mkdir "$work/place"
(
  echo "$BASHPID" >"$group/cgroup.procs"
  exec unshare --mount --pid --fork --kill-child --uts --ipc --net --cgroup --propagation private \
    bash "$work/boot" "$work/place" "$tree"
) </dev/null 2>"$work/said" &
outer=$!
for _ in $(seq 200); do
  first=$(tr -d ' ' </proc/$outer/task/$outer/children 2>/dev/null || :)
  [ -n "$first" ] && [ -S "/proc/$first/root/run/systemd/private" ] && break
  kill -0 "$outer" 2>/dev/null || { cat "$work/said" >&2; echo "box: does not boot here" >&2; exit 77; }
  sleep 0.1
done
export BOX="nsenter -t $first -m -u -i -n -p -C -r -w env -i TERM=dumb LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin"
$BOX systemctl is-system-running --wait >/dev/null 2>&1 || :
"$@"
