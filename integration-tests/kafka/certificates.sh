#!/usr/bin/env bash
# Makes the certificates of a broker that serves TLS: its own, one for a client, and a stranger's.
# usage: certificates.sh FOLDER KEY_PASSWORD
#   ca.crt          who signed the broker's and the client's certificate
#   broker.pem      the broker's key and certificate
#   client.crt/key  the client's, the key encrypted by KEY_PASSWORD
#   stranger.crt    another authority, which signed nothing
set -euo pipefail

cd "$1"
password=$2

new=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)

# authority NAME: a certificate that signs itself.
authority() {
  openssl req -x509 "${new[@]}" -days 30 -subj "/CN=$1" -keyout "$1.key" -out "$1.crt" \
    -addext basicConstraints=critical,CA:TRUE
}

# signed NAME: a key, and its certificate for this machine, signed by ca.
signed() {
  openssl req "${new[@]}" -subj "/CN=$1" -keyout "$1.plain" -out "$1.csr"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" \
    -extfile <(echo 'subjectAltName=DNS:localhost,IP:127.0.0.1')
}

authority ca
authority stranger
signed broker
signed client
openssl pkcs8 -topk8 -nocrypt -in broker.plain | cat - broker.crt >broker.pem
openssl pkcs8 -topk8 -in client.plain -passout "pass:$password" -out client.key
