# The lab as a whole: up, down, status, and what it tells others (env, kubeconfig, load, in).
# shellcheck shell=bash

write_conf() {
  local s; s=$(part_dir sidecars)
  (umask 077; {
    printf '# Written by lab up; read by the other verbs, whichever clone they are called from.\n'
    printf '%s=%q\n' KUBE_BIN "$(part_dir kube)/bin" SIDECARS "$s" CSI_BIN "$(part_dir csi)/bin" MINIO_BIN "$(part_dir minio)/bin" \
      S3_ACCESS_KEY "lab$(openssl rand -hex 6)" S3_SECRET_KEY "$(openssl rand -hex 20)" TSIG_SECRET "$(openssl rand -base64 32)"
  } >$RUN/lab.conf)
}

# What a lab leaves on the machine, told by name. Used to clear after a crash, and by nothing to find processes.
remains() {
  [[ -e $RUN || -e $VAR ]] || ip link show $BRIDGE >/dev/null 2>&1 || [[ -n $(compgen -G '/run/netns/rlab-*') ]] || [[ -n $(compgen -G '/sys/fs/cgroup/*rlab-*' || compgen -G '/sys/fs/cgroup/*/rlab-*') ]]
}

clear_all() {
  local n
  for n in "${NODES[@]}"; do [[ ! -e /run/netns/$(netns "$n") ]] || net_link "$n" down 2>/dev/null || true; done
  for n in "${NODES[@]}"; do node_kill "$n"; done
  for n in "${NODES[@]}"; do node_clear "$n"; done
  ip link del $BRIDGE 2>/dev/null || true
  if mountpoint -q $VAR; then umount $VAR || umount -l $VAR; fi
  if grep -q " $VAR" /proc/self/mountinfo; then die "mounts remain below $VAR; not removing it"; fi
  rm -rf --one-file-system $VAR
  if [[ -e $RUN/made-netns-dir ]] && [[ -z $(ls -A /run/netns) ]]; then umount /run/netns 2>/dev/null || true; rmdir /run/netns 2>/dev/null || true; fi
  # The kubelet's socket for device plug-ins has a fixed place.
  [[ ! -e $RUN/made-kubelet-dir ]] || rm -rf /var/lib/kubelet
  rmdir /run/containerd/s /run/containerd /var/lib/cni/results /var/lib/cni/cache /var/lib/cni /var/log/containers 2>/dev/null || true
  rm -rf $RUN
}

cmd_up() {
  local t0=$SECONDS since n pids=() p
  need_machine
  ! lock_held || die "a lab is already up on this machine (only one at a time):
$(lock_owner)"
  cmd_install; cmd_build; cmd_images
  lock_take
  if remains; then say "clearing what a dead lab left"; clear_all; fi
  t0=$SECONDS; since=$(date +%s)
  mkdir -p $RUN $VAR; chmod 755 $RUN $VAR
  [[ -d /run/netns ]] || touch $RUN/made-netns-dir
  [[ -d /var/lib/kubelet ]] || touch $RUN/made-kubelet-dir
  # Shared, so that a volume mounted later is seen in a pod that asked for HostToContainer propagation.
  mount --bind $VAR $VAR; mount --make-private $VAR; mount --make-shared $VAR
  write_conf; need_up
  net_bridge
  for n in "${NODES[@]}"; do net_node "$n"; done
  cg_make hub; hub_start
  for n in "${REGIONS[@]}"; do
    # In the region's own cgroup, so that a `down` after a crash of this script ends this part of it too.
    ( cg_make "$n"; echo $BASHPID >"$(cg_main "$n")/host/cgroup.procs"; region_start "$n"; region_wait "$n" "$since" ) & pids+=($!)
  done
  hub_wait
  for p in "${pids[@]}"; do wait "$p" || die "a region did not come up (see above); the rest is left to look at: lab status, logs in $VAR/REGION/log; then lab down"; done
  say "up in $((SECONDS - t0)) s: eval \"\$($HERE/lab env)\""
}

cmd_down() {
  local t0=$SECONDS
  need_root
  if lock_held && ! lock_mine && [[ ${1:-} != --force ]]; then
    die "this lab was started by another clone (down --force ends it all the same):
$(lock_owner)"
  fi
  if ! remains && ! lock_held; then say "nothing is up"; rm -f $LOCK $LOCK.owner; return; fi
  clear_all
  lock_drop
  say "down in $((SECONDS - t0)) s, nothing left"
}

cmd_status() {
  local n f name state
  if ! is_up; then
    if lock_held; then echo "coming up or down:"; lock_owner; elif remains; then echo "down, with remains of a dead lab (lab down clears them)"; else echo "down"; fi
    return
  fi
  need_up
  if lock_held; then echo "up"; lock_owner; else echo "up, but its lock is gone (lab down, then up)"; fi
  for n in "${NODES[@]}"; do
    state=on; [[ ! -e $RUN/$n.off ]] || state="power lost"; [[ ! -e $RUN/$n.cut-off ]] || state+=", cut off"
    [[ ! -s $RUN/$n.cuts ]] || state+=", cut: $(tr '\n' ' ' <"$RUN/$n.cuts")"
    if is_region "$n" && [[ ! -e $RUN/$n.off ]]; then if node_ready "$n" 2>/dev/null; then state+=", Ready"; else state+=", NOT Ready"; fi; fi
    echo "$n ($(node_ip "$n")): $state"
    for f in "$RUN/$n"/*.pid; do
      [[ -e $f ]] || continue
      name=$(basename "$f" .pid); daemon_runs "$n" "$name" && echo "  $name: pid $(cat "$f")" || echo "  $name: not running"
    done
  done
}

cmd_env() {
  need_up
  local r u
  out() { printf 'export %s=%q\n' "$1" "$2"; }
  out LAB_KUBECTL "$KUBE_BIN/kubectl"; out LAB_HELM "$KUBE_BIN/helm"
  out LAB_REGIONS "${REGIONS[*]}"
  for r in "${REGIONS[@]}"; do
    u=$(upper "$r")
    out "LAB_KUBECONFIG_$u" "$VAR/$r/pki/admin.conf"
    out "LAB_NODE_IP_$u" "$(node_ip "$r")"
    out "LAB_KUBELET_ROOT_$u" "$VAR/$r/kubelet"
    out "LAB_CSI_ROOT_$u" "$VAR/$r/disk"
  done
  out LAB_HUB_IP $HUB_IP; out LAB_MINIO "$MINIO_BIN/minio"; out LAB_AZURITE "$(part_dir azurite)/bin/azurite-blob"
  out LAB_S3_ENDPOINT http://$HUB_IP:$S3_PORT; out LAB_S3_REGION us-east-1
  out LAB_S3_ACCESS_KEY "$S3_ACCESS_KEY"; out LAB_S3_SECRET_KEY "$S3_SECRET_KEY"
  out LAB_S3_BUCKET $BUCKET; out LAB_S3_LOCKED_BUCKET $LOCKED_BUCKET
  out LAB_S3_NOCAS_ENDPOINT http://$HUB_IP:$NOCAS_PORT
  out LAB_DNS_SERVER $HUB_IP:53; out LAB_ZONE $ZONE
  out LAB_TSIG_NAME $TSIG_NAME; out LAB_TSIG_ALGORITHM $TSIG_ALGORITHM; out LAB_TSIG_SECRET "$TSIG_SECRET"
}

cmd_kubeconfig() { need_region "${1:-}"; need_up; echo "$VAR/$1/pki/admin.conf"; }

cmd_load() {
  need_root; need_up
  local file=${1:-} r; shift || true
  [[ -f $file ]] || die "no such archive: '$file'"
  for r in "${@:-${REGIONS[@]}}"; do need_region "$r"; region_load "$r" "$file"; done
}

cmd_in() {
  need_root; need_up
  local n=${1:-}; shift || true
  [[ $n = hub ]] || need_region "$n"
  exec nsenter --net="/run/netns/$(netns "$n")" "$@"
}
