# Names, addresses, paths and small helpers that every other part uses. Starts and changes nothing.
# shellcheck shell=bash disable=SC2034

REGIONS=(eu-west eu-north)
declare -A INDEX=([eu-west]=1 [eu-north]=2)
NODES=(hub "${REGIONS[@]}")
BRIDGE=rlab0; BRIDGE_IP=10.80.0.1; HUB_IP=10.80.0.2
ZONE=demo.test; TSIG_NAME=reprise-key; TSIG_ALGORITHM=hmac-sha256
BUCKET=reprise; LOCKED_BUCKET=reprise-locked
S3_PORT=9000; NOCAS_PORT=9001

# Machine-wide: one lab at a time. What a reboot would clear is in RUN, what it would keep in VAR.
RUN=/run/reprise-lab
VAR=/var/lib/reprise-lab

node_ip() { case $1 in hub) echo $HUB_IP ;; *) echo "10.80.0.1${INDEX[$1]}" ;; esac; }
svc_net() { echo "10.9${INDEX[$1]}.0.0/16"; }
api_ip()  { echo "10.9${INDEX[$1]}.0.1"; }
dns_ip()  { echo "10.9${INDEX[$1]}.0.10"; }
pod_net() { echo "10.8${INDEX[$1]}.0.0/16"; }
pod_range() { echo "10.8${INDEX[$1]}.0.0/24"; }
netns() { echo "rlab-$1"; }
upper() { local s=${1^^}; echo "${s//-/_}"; }

say() { echo "lab: $*" >&2; }
die() { echo "lab: $*" >&2; exit 1; }
stamp() { echo "$(date -u +%FT%T.%3NZ) $*"; }
is_region() { [[ -n ${INDEX[$1]:-} ]]; }
need_region() { is_region "${1:-}" || die "not a region: '${1:-}' (there are: ${REGIONS[*]})"; }
need_root() { [[ $(id -u) = 0 ]] || die "this needs root: it makes network namespaces, mounts and cgroups (you are $(id -un))"; }
is_up() { [[ -f $RUN/lab.conf ]]; }
need_up() {
  is_up || die "no lab is up on this machine; start one with: tests/lab/lab up"
  [[ -r $RUN/lab.conf ]] || need_root
  # shellcheck source=/dev/null
  . $RUN/lab.conf
}

# in_net NODE COMMAND...: the node's network namespace only. `ip netns exec` would also make a private mount
# namespace, and then containerd would not see what the kubelet mounted.
in_net() { local n=$1; shift; nsenter --net="/run/netns/$(netns "$n")" "$@"; }

# wait_for SECONDS WHAT LOG COMMAND...: polls; on time-out tells what it waited for and the end of LOG ("-": none).
wait_for() {
  local secs=$1 what=$2 log=$3 end; shift 3
  end=$((SECONDS + secs))
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= end)); then
      echo "lab: gave up after ${secs} s waiting for $what" >&2
      [[ $log = - ]] || { echo "lab: the end of $log:" >&2; tail -n 25 "$log" >&2 || true; }
      return 1
    fi
    sleep 0.2
  done
}
