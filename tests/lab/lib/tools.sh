# Packages and compilers, for the lab and for scripts/ alike: finds them, else installs them. `say` and `die` are the caller's.
# shellcheck shell=bash

CACHE=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/reprise-lab
GO_MODS=$(cd "$(dirname "${BASH_SOURCE[0]}")/../parts" && pwd)

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

need_cargo() {
  # A shell that rustup's installer has not yet reached.
  command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH
  command -v cargo >/dev/null || die "cargo is not here: install Rust with rustup (https://rustup.rs), then run this again"
  if command -v rustup >/dev/null; then cargo --version >/dev/null || die "the toolchain of rust-toolchain.toml cannot be installed"; fi
  # Some dependencies compile C.
  command -v cc >/dev/null || need_packages gcc libc6-dev
}

# need_node: Node.js, with npm, as new as azurite asks for.
need_node() {
  command -v npm >/dev/null && command -v node >/dev/null || need_packages nodejs npm
  local major; major=$(node --version | sed 's/^v\([0-9]*\).*/\1/')
  ((major >= 18)) || die "needs Node.js 18 or newer, and $(type -P node) is $(node --version)"
}

# need_go: a Go as new as the parts' go.mod files ask for comes first in PATH. Debian 12 has 1.19, which cannot read them
# nor switch to a newer one by itself; but it can fetch one as a module, which is how newer ones do it.
need_go() {
  local want go has
  want=$(sed -n 's/^go //p' "$GO_MODS"/*/go.mod | sort -V | tail -n 1)
  unset GOROOT                                # another Go's
  for go in "$(type -P go)" /usr/local/go/bin/go "$CACHE/go-$want/bin/go"; do
    has=$(cd / && GOTOOLCHAIN=local "${go:-false}" env GOVERSION 2>/dev/null) || continue
    [[ $(printf '%s\n' "$want" "${has#go}" | sort -V | head -n 1) = "$want" ]] || continue
    PATH=$(dirname "$go"):$PATH
    return
  done
  [[ -n $(type -P go) ]] || need_packages golang-go
  fetch_go "$want" || exit 1
  PATH=$CACHE/go-$want/bin:$PATH
}

fetch_go() ( # VERSION, with the older Go in PATH
  module=golang.org/toolchain@v0.0.1-go$1.$(cd / && go env GOOS)-$(cd / && go env GOARCH)
  mkdir -p "$CACHE"; tmp=$(mktemp -d "$CACHE/.go.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  say "fetching Go $1 (once): $(go version | cut -d ' ' -f 3) is too old"
  cd "$tmp" && GOTOOLCHAIN=local GOFLAGS=-modcacherw GOMODCACHE=$tmp go mod download "$module" ||
    die "Go $1 or newer is needed, and cannot be fetched: install it (https://go.dev/dl), then run this again"
  # What Go itself does on first use: modules hold no executables, and no go.mod below their own.
  chmod -R +x "$module/bin" "$module/pkg/tool"
  cp "$module/src/_go.mod" "$module/src/go.mod"
  # Another clone may have been faster.
  mv -T "$module" "$CACHE/go-$1" 2>/dev/null || [[ -x $CACHE/go-$1/bin/go ]] || die "cannot write $CACHE/go-$1"
)
