# One region: a whole Kubernetes cluster of one node, its daemons in one network namespace and one cgroup. Says how to
# start it and how to tell that it is ready; what is applied to it is in objects.sh.
# shellcheck shell=bash

region_disk() { # the disk of the CSI drivers: btrfs on a loop file, sparse
  local img=$VAR/$1/disk.img
  mkdir -p "$VAR/$1/disk"
  if [[ ! -f $img ]]; then
    truncate -s 16G "$img.new"; mkfs.btrfs -q "$img.new" >/dev/null; mv "$img.new" "$img"
  fi
  mountpoint -q "$VAR/$1/disk" || mount -o loop,noatime "$img" "$VAR/$1/disk"
  mkdir -p "$VAR/$1/disk/btrfs" "$VAR/$1/disk/plain"
}

region_files() {
  local r=$1 v=$VAR/$1 run=$RUN/$1
  mkdir -p "$run/cni" "$v/log" "$v/etcd" "$v/kubelet/plugins_registry"
  cat >"$run/containerd.toml" <<T
version = 2
root = "$v/containerd"
state = "$run/containerd"
[grpc]
  address = "$run/containerd.sock"
[ttrpc]
  address = "$run/containerd.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "$v/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:lab"
  # Without CAP_SYS_RESOURCE runc may not lower oom_score_adj.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$run/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
      Root = "$run/runc"
T
  # The network's name tells our files in libcni's machine-wide cache from others'.
  cat >"$run/cni/10-bridge.conflist" <<T
{"cniVersion":"0.4.0","name":"rlab-$r","plugins":[
 {"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,"hairpinMode":true,
  "ipam":{"type":"host-local","dataDir":"$run/ipam","ranges":[[{"subnet":"$(pod_range "$r")"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
 {"type":"portmap","capabilities":{"portMappings":true}}]}
T
  cat >"$run/kubelet.yaml" <<T
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $v/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $v/pki/kubelet.crt
tlsPrivateKeyFile: $v/pki/kubelet.key
containerRuntimeEndpoint: unix://$run/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /rlab-$r
cgroupsPerQOS: true
enforceNodeAllocatable: []
oomScoreAdj: 0
failSwapOn: false
clusterDNS: ["$(dns_ip "$r")"]
clusterDomain: cluster.local
resolvConf: $run/resolv.conf
address: $(node_ip "$r")
healthzBindAddress: 127.0.0.1
podLogsDir: $v/pod-logs
# Never: both regions count the whole machine's memory (with the files that were just read) and disk as their own, and
# an eviction here would take operators away, and pods be refused for five minutes after it.
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%", imagefs.inodesFree: "0%"}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
volumePluginDir: $v/volumeplugins
T
  echo "nameserver $(node_ip "$r")" >"$run/resolv.conf"
  cat >"$run/proxy.yaml" <<T
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $v/pki/proxy.conf}
mode: iptables
clusterCIDR: $(pod_net "$r")
hostnameOverride: $r
conntrack: {maxPerCore: 0}
iptables: {minSyncPeriod: 200ms}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
T
  # No cache: what BIND answers now is what a pod hears now.
  cat >"$run/Corefile" <<T
.:53 {
  bind $(node_ip "$r")
  errors
  ready 127.0.0.1:8181
  kubernetes cluster.local {
    endpoint https://$(node_ip "$r"):6443
    kubeconfig $v/pki/lab.conf $r
    ttl 1
  }
  forward . $HUB_IP:53 {
    max_fails 0
  }
}
T
}

apiserver_start() {
  local r=$1 ip p=$VAR/$1/pki; ip=$(node_ip "$1")
  daemon "$r" apiserver "$KUBE_BIN/kube-apiserver" --bind-address="$ip" --advertise-address="$ip" --etcd-servers=http://127.0.0.1:2379 \
    --service-cluster-ip-range="$(svc_net "$r")" --client-ca-file="$p/ca.crt" --tls-cert-file="$p/apiserver.crt" --tls-private-key-file="$p/apiserver.key" \
    --service-account-key-file="$p/sa.pub" --service-account-signing-key-file="$p/sa.key" --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --authorization-mode=Node,RBAC --kubelet-client-certificate="$p/admin.crt" --kubelet-client-key="$p/admin.key" --kubelet-certificate-authority="$p/ca.crt" \
    --requestheader-client-ca-file="$p/ca.crt" --proxy-client-cert-file="$p/front.crt" --proxy-client-key-file="$p/front.key" \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --allow-privileged=true --enable-admission-plugins=NodeRestriction --endpoint-reconciler-type=lease --kubelet-preferred-address-types=InternalIP \
    --cert-dir="$RUN/$r/apiserver"
}

# The drivers, before the kubelet starts: pods that were on the node want their volumes at once.
csi_socket() { echo "$VAR/$1/kubelet/plugins_registry/$2.csi.lab@.sock"; } # without an `@` the Rust side refuses the kubelet's HTTP/2 authority
csi_drivers_start() {
  daemon "$1" csi-btrfs "$CSI_BIN/labcsi" btrfs.csi.lab "$(csi_socket "$1" btrfs)" "$VAR/$1/disk/btrfs" "$1"
  daemon "$1" csi-plain "$CSI_BIN/labcsi" plain.csi.lab "$(csi_socket "$1" plain)" "$VAR/$1/disk/plain" "$1" --without-snapshots
}
csi_sidecars_start() {
  local r=$1 d conf=$VAR/$1/pki/lab.conf
  for d in btrfs plain; do
    daemon "$r" "csi-$d-provisioner" "$SIDECARS/bin/csi-provisioner" --kubeconfig="$conf" --csi-address="$(csi_socket "$r" $d)" \
      --extra-create-metadata --timeout=60s --retry-interval-start=200ms
  done
  daemon "$r" csi-btrfs-snapshotter "$SIDECARS/bin/csi-snapshotter" --kubeconfig="$conf" --csi-address="$(csi_socket "$r" btrfs)" \
    --extra-create-metadata --retry-interval-start=200ms --feature-gates=CSIVolumeGroupSnapshot=true
  daemon "$r" snapshot-controller "$SIDECARS/bin/snapshot-controller" --kubeconfig="$conf" --retry-interval-start=200ms --feature-gates=CSIVolumeGroupSnapshot=true
}

region_start() {
  local r=$1 v=$VAR/$1 p=$VAR/$1/pki ip; ip=$(node_ip "$1")
  cg_make "$r"
  region_disk "$r"
  [[ -f $v/pki/lab.conf ]] || pki_make "$r"
  region_files "$r"
  daemon "$r" etcd "$KUBE_BIN/etcd" --name "$r" --data-dir "$v/etcd" --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --unsafe-no-fsync --log-level warn
  apiserver_start "$r"
  daemon "$r" containerd containerd -c "$RUN/$r/containerd.toml"
  wait_for 30 "the API server of $r" "$v/log/apiserver.log" region_kubectl "$r" get --raw /readyz
  daemon "$r" controller-manager "$KUBE_BIN/kube-controller-manager" --kubeconfig="$p/controller-manager.conf" --service-account-private-key-file="$p/sa.key" \
    --root-ca-file="$p/ca.crt" --cluster-signing-cert-file="$p/ca.crt" --cluster-signing-key-file="$p/ca.key" --use-service-account-credentials \
    --allocate-node-cidrs --cluster-cidr="$(pod_net "$r")" --service-cluster-ip-range="$(svc_net "$r")" --leader-elect=false --bind-address=127.0.0.1 --cert-dir="$RUN/$r/controller-manager"
  daemon "$r" scheduler "$KUBE_BIN/kube-scheduler" --kubeconfig="$p/scheduler.conf" --leader-elect=false --bind-address=127.0.0.1 --cert-dir="$RUN/$r/scheduler"
  daemon "$r" proxy "$KUBE_BIN/kube-proxy" --config="$RUN/$r/proxy.yaml"
  daemon "$r" dns "$KUBE_BIN/coredns" -conf "$RUN/$r/Corefile" -quiet
  wait_for 30 "containerd of $r" "$v/log/containerd.log" test -S "$RUN/$r/containerd.sock"
  csi_drivers_start "$r"
  # The kubelet first: a node turns Ready while the images are still coming in.
  daemon "$r" kubelet "$KUBE_BIN/kubelet" --config="$RUN/$r/kubelet.yaml" --kubeconfig="$p/kubelet.conf" --root-dir="$v/kubelet" --hostname-override="$r" --node-ip="$ip" -v=2
  objects_apply "$r"
  csi_sidecars_start "$r"
  local i; for i in "${IMAGES[@]}"; do region_load "$r" "$(image_file "$i")" "$(image_name "$i")"; done
}

region_load() { # region, archive [, name: not again if it is there]
  local ctr=(in_net "$1" ctr -a "$RUN/$1/containerd.sock" -n k8s.io images)
  if [[ -n ${3:-} ]] && [[ -n $("${ctr[@]}" ls -q "name==$3") ]]; then return; fi
  "${ctr[@]}" import "$2" >/dev/null
}

node_ready() { [[ $(region_kubectl "$1" get node "$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}') = True ]]; }
node_fresh() { # Ready, by a heartbeat since the moment $2 (epoch seconds)
  local beat; beat=$(region_kubectl "$1" get lease -n kube-node-lease "$1" -o 'jsonpath={.spec.renewTime}')
  [[ -n $beat ]] && (($(date -d "$beat" +%s) >= $2)) && node_ready "$1"
}
csi_ready() { local d; d=$(region_kubectl "$1" get csinode "$1" -o 'jsonpath={.spec.drivers[*].name}'); [[ $d = *btrfs.csi.lab* && $d = *plain.csi.lab* ]]; }
region_dns_ready() { [[ $(in_net "$1" dig +time=1 +tries=1 +short "@$(node_ip "$1")" kubernetes.default.svc.cluster.local) = "$(api_ip "$1")" ]]; }

region_wait() { # region, the moment since when
  wait_for 90 "the node of $1 to be Ready" "$VAR/$1/log/kubelet.log" node_fresh "$1" "$2"
  wait_for 60 "the CSI drivers of $1" "$VAR/$1/log/kubelet.log" csi_ready "$1"
  wait_for 30 "CoreDNS of $1" "$VAR/$1/log/dns.log" region_dns_ready "$1"
  wait_for 30 "the default service account of $1" "$VAR/$1/log/controller-manager.log" region_kubectl "$1" get serviceaccount default
}

# What a node leaves behind when all its processes are dead; what a reboot would clear, and no data.
node_clear() {
  local n=$1 m round sock
  for sock in $(cat "$RUN/$n.shims" 2>/dev/null || true); do rm -f "$sock"; done
  rm -f "$RUN/$n.shims"
  # Block volumes: the kubelet's loop devices lie on the driver's, and those on files of the disk.
  for round in 1 2; do
    losetup -n -O NAME,BACK-FILE 2>/dev/null | while read -r m sock; do
      if [[ $sock = "$VAR/$n/disk/"* || $sock = "$VAR/$n/kubelet/"* ]]; then losetup -d "$m" 2>/dev/null || true; fi
    done
  done
  for round in 1 2 3; do
    for m in $(awk -v a="$RUN/$n/" -v b="$VAR/$n/" 'index($5, a) == 1 || index($5, b) == 1 {print $5}' /proc/self/mountinfo | sort -r); do
      m=$(printf '%b' "$m"); if [[ $round = 3 ]]; then umount -l "$m"; else umount "$m"; fi 2>/dev/null || true
    done
  done
  # An automatic loop device goes with its mount; one that did not is let go here.
  losetup -n -O NAME -j "$VAR/$n/disk.img" 2>/dev/null | while read -r m; do losetup -d "$m" 2>/dev/null || true; done
  net_node_gone "$n"
  cg_remove "$n"
  rm -rf "${RUN:?}/$n"
  # libcni's cache of results is one for the machine; ours name a namespace below RUN.
  { grep -rlsF "$RUN/$n/" /var/lib/cni/results || true; } | while read -r m; do rm -f "$m"; done
  [[ ! -d /var/log/containers ]] || find /var/log/containers -type l -lname "$VAR/$n/*" -delete
}

# Sudden death of all processes. The shims' sockets are noted first: they lie in a folder that all containerds share.
node_kill() {
  if [[ -e /run/netns/$(netns "$1") && -d $RUN ]]; then
    in_net "$1" grep -o '/run/containerd/s/.*' /proc/net/unix >>"$RUN/$1.shims" 2>/dev/null || true
  fi
  cg_kill "$1"
}
