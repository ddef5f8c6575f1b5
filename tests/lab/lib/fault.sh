# Faults, one line with a timestamp each. Every fault can be given twice. Cuts last until mended, also across a power
# loss: they are the network's, not the node's.
# shellcheck shell=bash

power_loss() {
  if [[ -e $RUN/$1.off ]]; then stamp "power-loss $1: was off already"; return; fi
  net_link "$1" down
  touch "$RUN/$1.off"
  node_kill "$1"
  stamp "power-loss $1: all processes dead, link down"
}

power_on() {
  local r=$1 since cut
  if [[ ! -e $RUN/$r.off ]]; then stamp "power-on $r: was on already"; return; fi
  since=$(date +%s)
  node_clear "$r"
  net_node "$r"
  if [[ -e $RUN/$r.cut-off ]]; then net_link "$r" down; fi
  for cut in $(cat "$RUN/$r.cuts" 2>/dev/null || true); do net_cut "$r" "$cut"; done
  region_start "$r"
  region_wait "$r" "$since"
  rm -f "$RUN/$r.off"
  stamp "power-on $r: Ready after $(($(date +%s) - since)) s"
}

need_path() {
  case ${2:-} in
    s3|dns) ;;
    region:*) need_region "${2#region:}"; [[ ${2#region:} != "$1" ]] || die "a region's path to itself can't be cut" ;;
    *) die "cut or mend what? s3, dns or region:OTHER" ;;
  esac
}

operator() { region_kubectl "$1" -n reprise-system "${@:2}"; }
operator_pods() { # the Deployment's own pods only: a mover may go on
  local sel; sel=$(operator "$1" get deployment reprise -o go-template='{{range $k,$v := .spec.selector.matchLabels}}{{$k}}={{$v}},{{end}}')
  [[ -n $sel ]] || die "no Deployment reprise in reprise-system of $1"
  operator "$1" get pods -l "${sel%,}" "${@:2}"
}
operator_pids() { # REGION [POD]: the processes of its containers, or of one pod's
  local id which='*'
  [[ -z ${2:-} ]] || which="?(@.metadata.name==\"$2\")"
  for id in $(operator_pods "$1" -o "jsonpath={.items[$which].status.containerStatuses[*].containerID}"); do
    in_net "$1" ctr -a "$RUN/$1/containerd.sock" -n k8s.io task ps "${id#containerd://}" 2>/dev/null | awk 'NR > 1 {print $1}'
  done
}

# The counts are kept here, not in the cluster: another test may look at the Deployment.
operator_stop() {
  local n; n=$(operator "$1" get deployment reprise -o 'jsonpath={.spec.replicas}') || die "no Deployment reprise in reprise-system of $1"
  [[ $n = 0 ]] || echo "$n" >"$RUN/$1.operator-replicas"
  operator "$1" scale deployment reprise --replicas=0 >/dev/null
  wait_for 60 "the operator's pods of $1 to end" - no_operator_pods "$1"
}
no_operator_pods() { local left; left=$(operator_pods "$1" -o name) && [[ -z $left ]]; }
operator_start() {
  operator "$1" scale deployment reprise --replicas="$(cat "$RUN/$1.operator-replicas" 2>/dev/null || echo 1)" >/dev/null
  operator "$1" rollout status deployment reprise --timeout=120s >/dev/null
}

cmd_fault() {
  need_root; need_up
  local what=${1:-} a=${2:-} b=${3:-}
  case $what in
    power-loss) need_region "$a"; power_loss "$a" ;;
    power-on) need_region "$a"; power_on "$a" ;;
    cut-off) need_region "$a"; touch "$RUN/$a.cut-off"; net_link "$a" down; stamp "cut-off $a" ;;
    heal) need_region "$a"; rm -f "$RUN/$a.cut-off"; [[ -e $RUN/$a.off ]] || net_link "$a" up; stamp "heal $a" ;;
    cut) need_region "$a"; need_path "$a" "$b"
      grep -qsx "$b" "$RUN/$a.cuts" || echo "$b" >>"$RUN/$a.cuts"
      net_cut "$a" "$b"; stamp "cut $a $b" ;;
    mend) need_region "$a"; need_path "$a" "$b"
      [[ ! -f $RUN/$a.cuts ]] || sed -i "\|^$b\$|d" "$RUN/$a.cuts"
      net_mend "$a" "$b"; stamp "mend $a $b" ;;
    stop|start|pause|resume)
      case $what.$a in
        stop.s3) daemon_kill hub s3 ;;
        start.s3) hub_s3_start; hub_s3_wait ;;
        stop.dns) daemon_kill hub dns ;;
        start.dns) hub_dns_start; hub_dns_wait ;;
        stop.apiserver:*) need_region "${a#*:}"; daemon_kill "${a#*:}" apiserver ;;
        start.apiserver:*) need_region "${a#*:}"; apiserver_start "${a#*:}"
          wait_for 60 "the API server of ${a#*:}" "$VAR/${a#*:}/log/apiserver.log" region_kubectl "${a#*:}" get --raw /readyz ;;
        stop.operator:*) need_region "${a#*:}"; operator_stop "${a#*:}" ;;
        start.operator:*) need_region "${a#*:}"; operator_start "${a#*:}" ;;
        pause.operator:*|resume.operator:*) need_region "${a#*:}"
          local pids; pids=$(operator_pids "${a#*:}" "$b"); [[ -n $pids ]] || die "no operator ${b:+$b }runs in ${a#*:}"
          # shellcheck disable=SC2086
          kill "-$([[ $what = pause ]] && echo STOP || echo CONT)" $pids 2>/dev/null || true ;; # a child may have ended meanwhile
        *) die "$what what? s3, dns, apiserver:REGION or operator:REGION (pause and resume: operator:REGION)" ;;
      esac
      stamp "$what $a${b:+ $b}" ;;
    *) die "no such fault: '$what'" ;;
  esac
}
