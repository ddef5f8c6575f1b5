# What the other scripts share: the project's root as the working directory, messages, and what must be installed.
# shellcheck shell=bash
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

say() { echo "==> $*" >&2; }
die() { echo "$(basename "$0"): $*" >&2; exit 1; }

# need_packages, need_cargo, need_go; CACHE
. tests/lab/lib/tools.sh

own_clusters() { [[ -n ${KUBECONFIG_A:-} && -n ${KUBECONFIG_B:-} ]]; }
# Ends at once on a machine that the lab cannot run on; installs the packages it needs.
need_lab() { own_clusters || tests/lab/lab install || exit 1; }

# Prints where the lab has, or would have, a program of its part `kube`: helm, kubectl.
lab_tool() { (HERE=$PWD/tests/lab; . tests/lab/lib/build.sh; echo "$(part_dir kube)/bin/$1"); }

# helm: the one in PATH, or the lab's, or one built from the lab's module (minutes, once).
helm() {
  local helm
  # By its file: `command -v` would find this function.
  helm=$(type -P helm) || helm=$(lab_tool helm)
  if [[ ! -x $helm ]]; then
    helm=$PWD/target/tools/helm
    [[ -x $helm ]] || build_helm "$helm"
  fi
  "$helm" "$@"
}

build_helm() {
  need_go
  say "building helm (there is none in PATH)"
  GOFLAGS=-mod=readonly GOCACHE=${LAB_GOCACHE:-$CACHE/go-build} CGO_ENABLED=0 \
    go build -C tests/lab/parts/kube -trimpath -o "$1" helm.sh/helm/v3/cmd/helm
}
