# What the other scripts share: the project's root as the working directory, messages, and what must be installed.
# shellcheck shell=bash
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

say() { echo "==> $*" >&2; }
die() { echo "$(basename "$0"): $*" >&2; exit 1; }

need_cargo() {
  # A shell that rustup's installer has not yet reached.
  command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH
  command -v cargo >/dev/null || die "cargo is not here: install Rust with rustup (https://rustup.rs), then run this again"
  if command -v rustup >/dev/null; then cargo --version >/dev/null || die "the toolchain of rust-toolchain.toml cannot be installed"; fi
  # Some dependencies compile C.
  command -v cc >/dev/null || need_packages gcc libc6-dev
}

# need_packages NAME...: Debian packages, installed when one is missing.
need_packages() {
  local name missing=()
  for name; do dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name"); done
  ((${#missing[@]})) || return 0
  command -v apt-get >/dev/null || die "needs ${missing[*]}, and there is no apt-get here: install them by other means"
  local as=(); [[ $(id -u) = 0 ]] || { command -v sudo >/dev/null || die "needs ${missing[*]}: run apt-get install ${missing[*]} as root"; as=(sudo); }
  say "installing ${missing[*]}"
  "${as[@]}" apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive "${as[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
}

# Prints the path of a helm: the one in PATH, or one built from the lab's module (minutes, once).
helm() {
  local built=target/tools/helm
  # By its file: `command -v` would find this function.
  if [[ -n $(type -P helm) ]]; then command helm "$@"; return; fi
  if [[ ! -x $built ]]; then
    command -v go >/dev/null || need_packages golang-go
    say "building helm (there is none in PATH)"
    GOFLAGS=-mod=readonly GOCACHE=${LAB_GOCACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/reprise-lab/go-build} CGO_ENABLED=0 \
      go build -C tests/lab/parts/kube -trimpath -o "$PWD/$built" helm.sh/helm/v3/cmd/helm
  fi
  "$built" "$@"
}
