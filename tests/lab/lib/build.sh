# Builds what the regions run on into the cache, one folder per part, named by a hash of the part's recipe, so that
# another clone with the same recipe uses it as it is. Does not start anything.
# shellcheck shell=bash

KUBE_VERSION=v1.34.4
GO_PARTS=(kube sidecars minio)
PARTS=("${GO_PARTS[@]}" csi azurite)

recipe_of() { case $1 in kube|sidecars|minio|azurite) echo "$HERE/parts/$1" ;; csi) echo "$HERE/csi" ;; esac; }
# The hash is of the recipe's files, not of the compiler's version: any that builds it will do.
part_key() {
  local dir; dir=$(recipe_of "$1")
  (cd "$dir" && find . -type f -not -path './target/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; echo "v1 $KUBE_VERSION") | sha256sum | cut -c1-12
}
part_dir() { echo "$CACHE/parts/$1-$(part_key "$1")"; }

go_build() { # part, folder for the result, packages...
  local part=$1 out=$2; shift 2
  local v="-X k8s.io/component-base/version"
  (cd "$HERE/parts/$part" && CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false" GOCACHE=${LAB_GOCACHE:-$CACHE/go-build} go build -o "$out/" -trimpath \
    -ldflags "-s -w $v.gitVersion=$KUBE_VERSION $v.gitMajor=1 $v.gitMinor=34" "$@")
}

build_kube() {
  go_build kube "$1/bin" tool ./coredns
  mv "$1/bin/server" "$1/bin/etcd"
}
build_sidecars() {
  go_build sidecars "$1/bin" tool
  local crds; crds=$(cd "$HERE/parts/sidecars" && go list -m -f '{{.Dir}}' github.com/kubernetes-csi/external-snapshotter/client/v8)
  mkdir -p "$1/crds"; (cd "$crds/config/crd" && xargs cp -t "$1/crds") <"$HERE/parts/sidecars/crds"; chmod u+w "$1"/crds/*
}
build_minio() { go_build minio "$1/bin" tool; }
# Programs in JavaScript: what is fetched is what runs. Install scripts are left out, none is needed.
build_azurite() {
  cp "$HERE"/parts/azurite/package*.json "$1/"
  npm ci --prefix "$1" --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
  ln -s ../node_modules/.bin/azurite-blob "$1/bin/azurite-blob"
}
build_csi() {
  (cd "$HERE/csi" && CARGO_TARGET_DIR=${LAB_CARGO_TARGET:-$CACHE/cargo} cargo build --quiet --release --locked)
  cp "${LAB_CARGO_TARGET:-$CACHE/cargo}/release/labcsi" "$1/bin/"
}

build_part() {
  local part=$1 dir tmp t0 u0; dir=$(part_dir "$part")
  [[ -d $dir ]] && return
  case $part in csi) need_cargo ;; azurite) need_node ;; *) need_go ;; esac
  mkdir -p "$CACHE/parts" "$CACHE/locks"
  ( flock 9                                   # two clones building the same part: the second waits, then finds it
    [[ -d $dir ]] && exit
    tmp=$(mktemp -d "$CACHE/parts/.$part.XXXXXX"); mkdir -p "$tmp/bin"; chmod 755 "$tmp"
    # shellcheck disable=SC2064
    trap "rm -rf '$tmp'" EXIT
    say "building $part (cold: minutes) ..."
    t0=$SECONDS
    "build_$part" "$tmp"
    times >"$tmp/.times"; u0=$(tail -n 1 "$tmp/.times"); rm "$tmp/.times"   # of this subshell's children
    mv "$tmp" "$dir"
    say "built $part in $((SECONDS - t0)) s (CPU, user and system: $u0)"
  ) 9>"$CACHE/locks/$part"
}

cmd_build() {
  local p; for p in "${PARTS[@]}"; do build_part "$p"; done
  # The compiler's own cache is 5 GB and more, and has done its work. (With LAB_GOCACHE it is yours, and stays.)
  rm -rf "$CACHE/go-build"
}
