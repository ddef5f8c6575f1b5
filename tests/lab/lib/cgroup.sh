# A cgroup per node of the lab, to kill everything in it at once: /rlab-NODE/host for the daemons (and container shims),
# /rlab-NODE/kubepods made by the kubelet. Works with cgroup v2 and with v1 (there `freezer` is the hierarchy that all
# are in). Sets no limits.
# shellcheck shell=bash

cg_v2() { [[ $(stat -fc %T /sys/fs/cgroup) = cgroup2fs ]]; }
cg_roots() { if cg_v2; then echo /sys/fs/cgroup; else find /sys/fs/cgroup -mindepth 1 -maxdepth 1 -type d ! -name unified; fi; }
cg_main() { if cg_v2; then echo "/sys/fs/cgroup/rlab-$1"; else echo "/sys/fs/cgroup/freezer/rlab-$1"; fi; }

cg_make() {
  local root c
  if cg_v2; then
    mkdir -p "/sys/fs/cgroup/rlab-$1"
    for c in $(cat /sys/fs/cgroup/cgroup.controllers); do
      echo "+$c" >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true
      echo "+$c" >"/sys/fs/cgroup/rlab-$1/cgroup.subtree_control" 2>/dev/null || true
    done
  else
    [[ -d /sys/fs/cgroup/freezer ]] || die "cgroup v1 without the freezer controller: cannot stop a region at once"
    for root in $(cg_roots); do
      mountpoint -q "$root" && [[ ! -L $root ]] || continue
      mkdir -p "$root/rlab-$1"
      if [[ -f $root/rlab-$1/cpuset.cpus ]]; then
        cat "$root/cpuset.cpus" >"$root/rlab-$1/cpuset.cpus"; cat "$root/cpuset.mems" >"$root/rlab-$1/cpuset.mems"
      fi
    done
  fi
  mkdir -p "$(cg_main "$1")/host"
}

cg_procs() { find "$(cg_main "$1")" -name cgroup.procs -exec cat {} + 2>/dev/null || true; }

# Freeze first, so that nothing forks away from the kill.
cg_kill() {
  local dir pids i; dir=$(cg_main "$1")
  [[ -d $dir ]] || return 0
  if [[ -f $dir/cgroup.kill ]]; then
    echo 1 >"$dir/cgroup.kill"
  else
    for ((i = 0; i < 20; i++)); do
      pids=$(cg_procs "$1"); [[ -n $pids ]] || break
      if cg_v2; then echo 1 >"$dir/cgroup.freeze"; else echo FROZEN >"$dir/freezer.state"; fi
      # shellcheck disable=SC2046
      kill -KILL $(cg_procs "$1") 2>/dev/null || true
      # A pod that was paused on its own is frozen below this one.
      if cg_v2; then echo 0 >"$dir/cgroup.freeze"; else find "$dir" -name freezer.state -exec sh -c 'echo THAWED >"$1"' _ {} \; 2>/dev/null || true; fi
      sleep 0.05
    done
  fi
  for ((i = 0; i < 100; i++)); do [[ -n $(cg_procs "$1") ]] || return 0; sleep 0.1; done
  die "processes of $1 do not die: $(cg_procs "$1" | tr '\n' ' ')"
}

cg_remove() { # all hierarchies (in a hybrid also the unified one, which the kubelet uses), deepest first
  local root
  for root in $(cg_roots) /sys/fs/cgroup/unified; do
    [[ -d $root/rlab-$1 ]] || continue
    find "$root/rlab-$1" -depth -type d -exec rmdir {} + 2>/dev/null || { sleep 0.5; find "$root/rlab-$1" -depth -type d -exec rmdir {} + || true; }
  done
}
