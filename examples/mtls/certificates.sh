#!/bin/sh
# An authority, and certificates for the server (localhost) and one client (ada), for 30 days. Not for production.
set -eu
make() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj "/CN=$1" \
        -keyout "$1.key" -out "$1.pem" -addext "$2" -addext "$3" ${4:+-CA ca.pem -CAkey ca.key} 2>/dev/null
}
make ca basicConstraints=critical,CA:TRUE keyUsage=critical,keyCertSign,cRLSign
make localhost subjectAltName=DNS:localhost basicConstraints=critical,CA:FALSE signed
make ada subjectAltName=DNS:ada basicConstraints=critical,CA:FALSE signed
