# The objects that a fresh region gets: storage, snapshot CRDs, the DNS service. Applied on every start of a region;
# applying again changes nothing.
# shellcheck shell=bash

region_kubectl() { local r=$1; shift; in_net "$r" "$KUBE_BIN/kubectl" --kubeconfig="$VAR/$r/pki/admin.conf" "$@"; }

# The DNS service has no pods: CoreDNS runs as a daemon of the node, on the node's address.
dns_manifest() {
  cat <<T
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  clusterIP: $(dns_ip "$1")
  ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-node, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
endpoints: [{addresses: ["$(node_ip "$1")"], conditions: {ready: true}}]
ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
T
}

objects_apply() {
  local r=$1
  { cat "$HERE/manifests/base.yaml"; echo ---; dns_manifest "$r"; for f in "$SIDECARS"/crds/*.yaml; do echo ---; cat "$f"; done; } |
    region_kubectl "$r" apply -f - >/dev/null
  wait_for 20 "the snapshot CRDs of $r" "$VAR/$r/log/apiserver.log" region_kubectl "$r" apply -f "$HERE/manifests/snapshot-class.yaml"
}
