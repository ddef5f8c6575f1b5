# A region's certificates and kubeconfigs, made once per `up` with openssl. Not meant for anything but the lab.
# shellcheck shell=bash

pki_cert() { # file, subject, alternative names
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 8)" -days 3650 -out "$1.crt" \
    -extfile <(echo "extendedKeyUsage=serverAuth,clientAuth"; [[ -z ${3:-} ]] || echo "subjectAltName=$3") 2>/dev/null
  rm "$1.csr"
}

pki_kubeconfig() { # region, user
  cat >"$2.conf" <<T
apiVersion: v1
kind: Config
current-context: $1
clusters: [{name: $1, cluster: {server: "https://$(node_ip "$1"):6443", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: $2, user: {client-certificate-data: $(base64 -w0 "$2.crt"), client-key-data: $(base64 -w0 "$2.key")}}]
contexts: [{name: $1, context: {cluster: $1, user: $2}}]
T
  chmod 600 "$2.conf"
}

pki_make() (
  r=$1; ip=$(node_ip "$r"); dir=$VAR/$r/pki
  mkdir -p "$dir"; cd "$dir" || exit
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -keyout ca.key -out ca.crt -subj "/CN=$r-ca" 2>/dev/null
  pki_cert apiserver "/CN=kube-apiserver" "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1,IP:$ip,IP:$(api_ip "$r")"
  pki_cert kubelet "/O=system:nodes/CN=system:node:$r" "DNS:$r,IP:$ip"
  pki_cert admin "/O=system:masters/CN=admin"
  pki_cert controller-manager "/CN=system:kube-controller-manager"
  pki_cert scheduler "/CN=system:kube-scheduler"
  pki_cert proxy "/CN=system:kube-proxy"
  pki_cert lab "/O=system:masters/CN=lab"      # CoreDNS and the CSI sidecars, which run as daemons of the node
  pki_cert front "/CN=front-proxy"
  openssl genrsa -out sa.key 2048 2>/dev/null; openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
  for u in admin controller-manager scheduler proxy kubelet lab; do pki_kubeconfig "$r" $u; done
)
