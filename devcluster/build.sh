#!/bin/sh
# Builds devcluster:  devcluster/build.sh [OUTPUT]   (default bin/devcluster)
#
# The first build compiles Kubernetes and takes minutes, so it shows how far it
# is. Later ones do nothing unless a source, a module or the Go version changed:
# even a link of this size takes longer than to see that.
set -eu

output=${1:-bin/devcluster}
case $output in
/*) ;;
*) output=$PWD/$output ;;
esac
cd "$(dirname "$0")"

CGO_ENABLED=0
GOFLAGS="${GOFLAGS:-} -trimpath -buildvcs=false"
GOWORK=off
export CGO_ENABLED GOFLAGS GOWORK

# What the binary depends on, in one line.
fingerprint() {
	{
		go env GOVERSION GOOS GOARCH
		find . -type f \( -name '*.go' -o -name '*.yaml' -o -name 'go.*' -o -name build.sh \) ! -name '*_test.go' | LC_ALL=C sort |
			while read -r file; do
				echo "$file"
				cat "$file"
			done
	} | git hash-object --stdin
}

stamp=$(dirname "$output")/.$(basename "$output").built-from
built_from=$(fingerprint)
if [ -x "$output" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$built_from" ]; then
	exit 0
fi

mkdir -p "$(dirname "$output")"
work=$(mktemp -d "$(dirname "$output")/.devcluster-build.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

terminal=
if [ -t 2 ]; then terminal=1; fi

# Counts the lines of its input that are progress, on a terminal in place, else
# now and then, and keeps the other lines for the case of an error. progress
# WHAT OF; the shell reads, because not every awk does so line by line.
progress() {
	n=0
	while IFS= read -r line; do
		case $line in
		'go: downloading '*) ;;
		*[\ :\#]* | '')
			printf '%s\n' "$line" >>"$work/errors"
			continue
			;;
		esac
		n=$((n + 1))
		if [ -n "$terminal" ]; then
			printf '\rdevcluster: %s %d%s' "$1" "$n" "$2"
		elif [ $((n % 250)) -eq 0 ]; then
			printf 'devcluster: %s %d%s\n' "$1" "$n" "$2"
		fi
	done >&2
	if [ -n "$terminal" ] && [ "$n" -gt 0 ]; then echo >&2; fi
}

fail() {
	cat "$work/errors" >&2
	echo "devcluster: $1" >&2
	exit 1
}

# The exit code of a pipe's first command has no other way out in POSIX sh.
: >"$work/errors"
{
	go list -deps . 2>&1 >"$work/packages" || echo >"$work/failed"
} | progress 'downloading module' ''
if [ -e "$work/failed" ]; then fail "the list of packages could not be made"; fi
packages=$(($(wc -l <"$work/packages")))

version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${version#v1.}
minor=${minor%%.*}
base=k8s.io/component-base/version
ldflags="-s -w -X $base.gitVersion=$version -X $base.gitMajor=1 -X $base.gitMinor=$minor"
ldflags="$ldflags -X $base.gitTreeState=clean -X k8s.io/client-go/pkg/version.gitVersion=$version"

echo "devcluster: building Kubernetes $version: minutes the first time, seconds later" >&2
: >"$work/errors"
{
	go build -v -ldflags "$ldflags" -o "$work/devcluster" . 2>&1 || echo >"$work/failed"
} | progress 'compiled' " of at most $packages packages"
if [ -e "$work/failed" ]; then fail "the build failed"; fi

mv "$work/devcluster" "$output"
echo "$built_from" >"$stamp"
echo "devcluster: built $output" >&2
