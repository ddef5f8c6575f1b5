# The network: one bridge, one namespace per node, a veth pair each. Cuts are nftables tables in the node's own
# namespace. Changes no rule, route or forwarding setting of the machine itself.
# shellcheck shell=bash

net_bridge() {
  ip link show $BRIDGE >/dev/null 2>&1 && return
  [[ -z $(ip -4 route show 10.80.0.0/24) ]] || die "10.80.0.0/24 is in use on this machine"
  ip link add $BRIDGE type bridge
  ip addr add $BRIDGE_IP/24 dev $BRIDGE
  ip link set $BRIDGE up
}

net_node() {
  local n=$1 ns; ns=$(netns "$1")
  ip netns add "$ns"
  ip -n "$ns" link set lo up
  ip link add "rlab-$n" type veth peer name eth0 netns "$ns"
  ip link set "rlab-$n" master $BRIDGE up
  # The same MAC after every power-on, as a real machine has, or the others' ARP entries lead nowhere for half a minute.
  ip -n "$ns" link set eth0 address "$(printf '02:0a:50:00:00:%02x' "$(node_ip "$n" | cut -d. -f4)")"
  ip -n "$ns" addr add "$(node_ip "$n")/24" dev eth0
  ip -n "$ns" link set eth0 up
  ip -n "$ns" route add unreachable default metric 4000      # nothing leaves the lab
  is_region "$n" || return 0
  ip -n "$ns" route add "$(svc_net "$n")" dev eth0           # kube-proxy's rules take these before they leave
  in_net "$n" sysctl -qw net.ipv4.ip_forward=1
  in_net "$n" sysctl -qw net.bridge.bridge-nf-call-iptables=1 2>/dev/null || true
}

net_node_gone() {
  ip link del "rlab-$1" 2>/dev/null || true
  ip netns del "$(netns "$1")" 2>/dev/null || true
}

net_link() { ip link set "rlab-$1" "$2"; }   # up or down: the machine's end, so that the node's own routes stay

# What a cut drops, as lines of nftables match.
cut_matches() {
  case $1 in
    s3) echo "ip daddr $HUB_IP tcp dport { $S3_PORT, $NOCAS_PORT }" ;;
    dns) echo "ip daddr $HUB_IP udp dport 53"; echo "ip daddr $HUB_IP tcp dport 53" ;;
    region:*) echo "ip daddr $(node_ip "${1#region:}")"; echo "ip saddr $(node_ip "${1#region:}")" ;;
  esac
}

net_cut() {
  local table="rlab_cut_${2//[:-]/_}" hook m
  { echo "table inet $table"; echo "delete table inet $table"; echo "table inet $table {"
    for hook in input forward output; do
      echo "chain $hook { type filter hook $hook priority -50; policy accept;"
      cut_matches "$2" | while read -r m; do echo "$m counter drop"; done
      echo "}"
    done
    echo "}"; } | in_net "$1" nft -f -
}
net_mend() { in_net "$1" nft delete table inet "rlab_cut_${2//[:-]/_}" 2>/dev/null || true; }
