# Makes the images of the lab as OCI archives in the cache, each under a name that holds the hash of its recipe.
# Needs no image registry and no container engine: root file systems are laid out here and packed by images/oci.py.
# shellcheck shell=bash

IMAGES=(pause busybox postgres databases)

image_name() { case $1 in pause) echo localhost/pause:lab ;; busybox) echo localhost/busybox:lab ;; postgres) echo localhost/postgres:15 ;; databases) echo localhost/databases:lab ;; esac; }
image_file() {
  local key; key=$( (cat "$HERE/images/oci.py"; declare -f "rootfs_$1" rootfs_debian make_image image_name; case $1 in pause) cat "$HERE/images/pause.c" ;; postgres) cat "$HERE/images/postgres-entrypoint" ;; esac) | sha256sum | cut -c1-12)
  echo "$CACHE/images/$1-$key.tar"
}

rootfs_pause() {
  gcc -Os -static -s -o "$1/pause" "$HERE/images/pause.c"
  echo '{"Entrypoint":["/pause"]}'
}

# A busybox with a libc: a static glibc one crashes when it resolves names.
rootfs_busybox() {
  local deb lib applet
  deb=$(mktemp -d); chmod 755 "$deb"
  (cd "$deb" && apt-get -q -o APT::Sandbox::User=root download busybox >/dev/null && dpkg-deb -x busybox_*.deb x)
  mkdir -p "$1"/{bin,etc,tmp,root,var,proc,sys,dev,usr}; chmod 1777 "$1/tmp"; ln -s ../bin "$1/usr/bin"
  cp "$(find "$deb/x" -name busybox -type f -perm -1 | head -n 1)" "$1/bin/busybox"
  ldd "$1/bin/busybox" | grep -o '/[^ ]*' | while read -r lib; do mkdir -p "$1$(dirname "$lib")"; cp -L "$lib" "$1$lib"; done
  for applet in $("$1/bin/busybox" --list); do [[ $applet = busybox ]] || ln -s busybox "$1/bin/$applet"; done
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$1/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$1/etc/group"
  echo 'hosts: files dns' >"$1/etc/nsswitch.conf"
  rm -rf "$deb"
  echo '{"Env":["PATH=/bin"],"Cmd":["sh"]}'
}

# shellcheck disable=SC1091
release() { (. /etc/os-release && echo "$VERSION_CODENAME"); }
# The machine's own apt sources say where packages come from.
apt_mirror() {
  # shellcheck disable=SC2016
  apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' | awk -v c="$(release)" '$1 == c && $2 == "main" {print $3; exit}'
}

# A root file system of this release with these packages, comma separated, and without what nobody reads there.
rootfs_debian() {
  local root=$1 what=$2 packages=$3 code mirror arch; code=$(release); mirror=$(apt_mirror); arch=$(dpkg --print-architecture)
  debootstrap --variant=minbase --arch="$arch" --include="$packages" "$code" "$root" "$mirror" >"$CACHE/images/$what.log" 2>&1 ||
    { tail -n 20 "$CACHE/images/$what.log" >&2; die "debootstrap failed"; }
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale,info}/* \
    "$root"/etc/apt/sources.list "$root"/var/log/* "$root"/etc/resolv.conf
}

rootfs_postgres() {
  rootfs_debian "$1" postgres postgresql-15,python3-minimal,python3,python3-psycopg2
  rm -rf "$1"/var/lib/postgresql/*/*
  install -m 755 "$HERE/images/postgres-entrypoint" "$1/usr/local/bin/postgres-entrypoint"
  echo '{"Entrypoint":["/usr/local/bin/postgres-entrypoint"],"StopSignal":"SIGINT","Env":["PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/15/bin","LANG=C.UTF-8"]}'
}

# Other databases, and no entrypoint: what uses it says how they are started.
rootfs_databases() {
  rootfs_debian "$1" databases mariadb-server,redis-server
  rm -rf "$1"/var/lib/{mysql,redis}/*
  echo '{"Cmd":["sh"],"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","LANG=C.UTF-8"]}'
}

make_image() {
  local what=$1 file tmp config; file=$(image_file "$1")
  [[ -f $file ]] && return
  mkdir -p "$CACHE/images" "$CACHE/locks"
  ( flock 9
    [[ -f $file ]] && exit
    say "making the image $(image_name "$what") ..."
    tmp=$(mktemp -d "$CACHE/images/.$what.XXXXXX"); chmod 755 "$tmp"
    # shellcheck disable=SC2064
    trap "rm -rf --one-file-system '$tmp'" EXIT
    config=$("rootfs_$what" "$tmp")
    python3 "$HERE/images/oci.py" "$(image_name "$what")" "$tmp" "$file" "$config"
  ) 9>"$CACHE/locks/image-$what"
}

cmd_images() { need_root; need_postgres; local i; for i in "${IMAGES[@]}"; do make_image "$i"; done; }
