#!/bin/sh
# Builds a Go package and shows how far it is: progress.sh OUTPUT PACKAGE
# Quiet when there is nothing to compile.
set -eu
out=$1 pkg=$2
total=$(go list -deps "$pkg" | wc -l | tr -d ' ')
go build -buildvcs=auto -v -trimpath -o "$out" "$pkg" 2>&1 | awk -v total="$total" -v out="$out" -v tty="$([ -t 2 ] && echo 1 || echo 0)" '
	/^go: downloading/ { d++; if (tty) printf "\r\033[Kdownloading modules: %d", d > "/dev/stderr"; next }
	/^[a-zA-Z0-9_.\-]+(\/[^ :]*)?$/ {
		n++
		if (tty) printf "\r\033[Kbuilding %s: %d packages (of %d at most)", out, n, total > "/dev/stderr"
		else if (n % 200 == 0) printf "building %s: %d packages (of %d at most)\n", out, n, total > "/dev/stderr"
		next
	}
	{ if (tty && (n || d)) printf "\r\033[K" > "/dev/stderr"; print > "/dev/stderr" }
	END { if (tty && (n || d)) printf "\r\033[K" > "/dev/stderr" }'
[ -x "$out" ] && go build -buildvcs=auto -trimpath -o "$out" "$pkg"
