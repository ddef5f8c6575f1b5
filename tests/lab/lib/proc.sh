# Starts and stops daemons of a node: in its network namespace and cgroup, restarted when they exit, killed by recorded
# process group only. Knows nothing of what they are.
# shellcheck shell=bash

# daemon NODE NAME COMMAND...: log in VAR/NODE/log/NAME.log, process group in RUN/NODE/NAME.pid. Started again 1 s after
# it ends (the CSI sidecars end when the driver restarts; a kubelet would be restarted by the system).
daemon() {
  local node=$1 name=$2; shift 2
  mkdir -p "$RUN/$node" "$VAR/$node/log"
  ! daemon_runs "$node" "$name" || return 0
  # shellcheck disable=SC2016
  setsid nsenter --net="/run/netns/$(netns "$node")" bash -c '
    echo $$ >"$1/cgroup.procs"; echo $$ >"$2.new"; mv "$2.new" "$2"; shift 2
    while :; do "$@"; echo "--- ended with $?, starting again: $(date -u +%T)"; sleep 1; done' \
    "lab-$node-$name" "$(cg_main "$node")/host" "$RUN/$node/$name.pid" "$@" >>"$VAR/$node/log/$name.log" 2>&1 </dev/null 9>&- &
}

daemon_runs() { local p; p=$(cat "$RUN/$1/$2.pid" 2>/dev/null) && [[ -n $p ]] && kill -0 "$p" 2>/dev/null && grep -q "rlab-$1" "/proc/$p/cgroup"; }

# Sudden: SIGKILL to the whole group.
daemon_kill() {
  local p; p=$(cat "$RUN/$1/$2.pid" 2>/dev/null) || return 0
  ! daemon_runs "$1" "$2" || kill -KILL -- "-$p" 2>/dev/null || true
  rm -f "$RUN/$1/$2.pid"
}
