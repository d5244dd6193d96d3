#!/bin/sh
# Builds the container image: build.sh [OUTPUT]. Variables:
#   ARCHS   architectures (default: amd64 arm64)
#   BASE    directory with ARCH.tar of root file systems to build on, instead of
#           Debian packages
set -eu
out=${1:-bin/belay-image.tar} archs=${ARCHS:-amd64 arm64} go=${GO:-go}
cd "$(dirname "$0")/../.."
version=$(git describe --tags --always --dirty 2>/dev/null || echo devel)
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
stamp=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ 2>/dev/null || date -u -r "$epoch" +%Y-%m-%dT%H:%M:%SZ)
set --
for arch in $archs; do
	dir=bin/image/$arch
	mkdir -p "$dir/tars"
	if [ -n "${BASE:-}" ]; then
		rm -f "$dir"/tars/* "$dir/packages.txt"
		cp "$BASE/$arch.tar" "$dir/tars/base.tar"
	else
		echo "packages for $arch" >&2
		deploy/image/packages.sh "$arch" "$dir"
	fi
	echo "belay for linux/$arch" >&2
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch $go build -trimpath -buildvcs=auto -ldflags=-s -o "$dir/belay" ./cmd/belay
	set -- "$@" "$arch=$dir"
done
$go run ./deploy/image --out "$out" --version "$version" --time "$stamp" "$@"
