#!/bin/sh
# Runs every fuzz target for a while, one on each processor: fuzz.sh [TIME]   (default 1m)
# A finding is kept below testdata/fuzz of its package and fails every later
# "go test" until it is mended.
set -eu
if [ "${1:-}" = --one ]; then
	out=$(mktemp)
	trap 'rm -f "$out"' EXIT
	# Inputs are made smaller by count: by time, a target whose coverage differs
	# from run to run would do nothing else. The end of the time may itself be told
	# as a failure, without any input that fails (https://go.dev/issue/48591): that
	# is no finding.
	if go test "./$3" -run '^$' -fuzz "^$4\$" -fuzztime "$2" -fuzzminimizetime 100x -parallel 1 >"$out" 2>&1 ||
		{ grep -q '^ *context deadline exceeded$' "$out" && ! grep -qE 'Failing input written|panic:|fuzz_test.go:|_test.go:[0-9]+:' "$out"; }; then
		echo "fuzzed $3 $4: $(grep -o 'execs: [0-9]*' "$out" | tail -n 1)"
		exit 0
	fi
	cat "$out"
	exit 1
fi
git ls-files '*_test.go' | xargs grep -l '^func Fuzz' | xargs -n 1 dirname | sort -u | while read -r dir; do
	cat "$dir"/*_test.go | sed -n "s|^func \(Fuzz[A-Za-z0-9_]*\)(.*|$dir \1|p" | sort -u
done | xargs -P "$(getconf _NPROCESSORS_ONLN)" -n 2 "$0" --one "${1:-1m}"
