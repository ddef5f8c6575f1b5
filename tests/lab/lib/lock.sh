# One lab per machine: a lock held by a small process for as long as the lab is up. The lock file names the owner.
# The kernel drops the lock with its holder, so a dead lab's lock is recognised as stale.
# shellcheck shell=bash

LOCK=/run/reprise-lab.lock

lock_owner() { cat $LOCK.owner 2>/dev/null || echo "an unknown owner"; }
lock_held() { [[ -e $LOCK ]] && ! flock -n $LOCK true; }
lock_mine() { [[ $(sed -n 's/^clone //p' $LOCK.owner 2>/dev/null) = "$HERE" ]]; }

lock_take() {
  touch $LOCK
  setsid flock -n $LOCK sleep infinity </dev/null >/dev/null 2>&1 &
  local holder=$! i
  for ((i = 0; i < 50; i++)); do
    kill -0 $holder 2>/dev/null || die "a lab is already up on this machine (only one at a time):
$(lock_owner)"
    sleep 0.05                                # it has the lock once it has started what it holds it for
    [[ -n $(cat /proc/$holder/task/$holder/children 2>/dev/null || pgrep -P $holder) ]] && break
  done
  printf 'clone %s\nuser %s\nholder %s\nsince %s\n' "$HERE" "${SUDO_USER:-$(id -un)}" "$holder" "$(date -u +%FT%TZ)" >$LOCK.owner
}

lock_drop() {
  local holder; holder=$(sed -n 's/^holder //p' $LOCK.owner 2>/dev/null || true)
  if [[ -n $holder ]] && grep -qs 'reprise-lab.lock' "/proc/$holder/cmdline"; then kill -KILL -- "-$holder" 2>/dev/null || true; fi
  rm -f $LOCK $LOCK.owner
}
