# What the machine must have: a Debian or Ubuntu, root, kernel features, packages. Does not touch kernel settings.
# shellcheck shell=bash

# command=package; "libc.a" and "cni" are files rather than commands.
NEEDS=(containerd=containerd runc=runc ip=iproute2 iptables=iptables nft=nftables conntrack=conntrack socat=socat
  mkfs.btrfs=btrfs-progs named=bind9 dig=bind9-dnsutils nsupdate=bind9-dnsutils debootstrap=debootstrap
  openssl=openssl curl=curl gcc=gcc python3=python3 setsid=util-linux nsenter=util-linux flock=util-linux losetup=mount
  sysctl=procps buildah=buildah)

missing_packages() {
  local pair
  for pair in "${NEEDS[@]}"; do command -v "${pair%%=*}" >/dev/null || echo "${pair#*=}"; done
  [[ -x /usr/lib/cni/bridge ]] || echo containernetworking-plugins
  python3 -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
  [[ -n $(gcc -print-file-name=libc.a 2>/dev/null | grep /) ]] || echo libc6-dev
}

kernel_lacks() { # prints each missing feature
  local t
  [[ -e /proc/self/ns/net ]] || echo "network namespaces"
  for t in btrfs overlay; do
    grep -qw $t /proc/filesystems || modprobe -q $t 2>/dev/null || echo "the $t file system"
  done
  [[ -e /dev/loop-control ]] || modprobe -q loop 2>/dev/null || echo "loop devices (/dev/loop-control)"
  [[ -d /sys/fs/cgroup ]] || echo "cgroups mounted at /sys/fs/cgroup"
  command -v ip >/dev/null && {
    if ip link add rlab-probe0 type veth peer name rlab-probe1 2>/dev/null; then ip link del rlab-probe0; else echo "veth pairs (or the right to make them)"; fi
    if ip link add rlab-probe2 type bridge 2>/dev/null; then ip link del rlab-probe2; else echo "bridges (or the right to make them)"; fi
  }
  return 0
}

need_machine() {
  need_root
  command -v apt-get >/dev/null || die "this needs Debian or Ubuntu (there is no apt-get here)"
  local lacks; lacks=$(kernel_lacks | paste -sd, -)
  [[ -z $lacks ]] || die "this kernel or sandbox lacks: $lacks"
  need_postgres
}

# Asked before the long build, and not after it.
need_postgres() {
  [[ -f $(image_file postgres) ]] || has_postgres || { apt-get update -q >/dev/null; has_postgres; } ||
    die "apt finds no postgresql-15 in this release's main: the lab needs Debian 12, or another release that has it, and its apt source"
}

# The first mirror is what debootstrap makes the image from, so a package from elsewhere is of no use.
has_postgres() { [[ -n $(apt_mirror) ]] && apt-cache madison postgresql-15 | grep " $(release)/main " >/dev/null; }

cmd_install() {
  need_machine
  local want; mapfile -t want < <(missing_packages | sort -u)
  need_packages "${want[@]}"
  # On a machine with systemd the package starts a service that the lab does not use.
  [[ " ${want[*]} " != *" bind9 "* ]] || systemctl disable --now named >/dev/null 2>&1 || true
  need_cargo
}
