#!/bin/sh
# select.sh SERVICE FROM TO: copies what an image of SERVICE needs, and nothing of the other services.
set -eu
service=$1 from=$2 to=$3

take() {
    for path in "$@"; do
        mkdir -p "$to/$(dirname "$path")"
        cp -R "$from/$path" "$to/$path"
    done
}

case $service in
gateway)
    take services/__init__.py services/gateway
    ;;
dev)
    take libs/reliability/src proto/gen services sandbox deploy/__init__.py deploy/local deploy/k8s
    ;;
*)
    package=services/$(echo "$service" | tr - _)
    [ -d "$from/$package" ] || { echo "there is no service $service" >&2; exit 2; }
    # The migrations are awaited by deploy/k8s/await_schema.py.
    take libs/reliability/src proto/gen services/__init__.py "$package" \
        deploy/__init__.py deploy/k8s/__init__.py deploy/k8s/await_schema.py
    ;;
esac
