#!/usr/bin/env bash
# userns.sh COMMAND...: runs COMMAND as root of new user, mount and pid namespaces in which arm64 programs run by
# qemu-user: binfmt_misc belongs to a user namespace since Linux 6.7, so this machine's own table stays as it is.
# Needs root and qemu-user-static.
set -euo pipefail
work=$(mktemp -d)
child=
ended() {
  [ -z "$child" ] || for each in $(cat "/proc/$child/task/$child/children" 2>/dev/null) "$child"; do
    kill -9 "$each" 2>/dev/null || :
  done
  rm -rf "$work"
}
trap ended EXIT
trap 'exit 143' INT TERM
mkfifo "$work/go"
cat >"$work/inside" <<'INSIDE'
set -e
read -r _ <"$1"
shift
mount -t proc proc /proc
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
cat /usr/lib/binfmt.d/qemu-aarch64.conf >/proc/sys/fs/binfmt_misc/register
"$@"
INSIDE
unshare --user --mount --pid --fork --kill-child bash "$work/inside" "$work/go" "$@" &
child=$!
until [ "$(readlink "/proc/$child/ns/user")" != "$(readlink /proc/self/ns/user)" ]; do sleep 0.02; done
for map in uid_map gid_map; do echo "0 0 65536" >"/proc/$child/$map"; done
echo >"$work/go"
code=0
wait "$child" || code=$?
child=
exit "$code"
