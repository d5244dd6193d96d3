#!/bin/sh
# Runs every fuzz target for a while: fuzz.sh [TIME]   (default 1m)
# A finding is kept below testdata/fuzz of its package and fails every later
# "go test" until it is mended.
set -eu
time=${1:-1m}
found=0
for dir in $(git ls-files '*_test.go' | xargs grep -l '^func Fuzz' | xargs -n 1 dirname | sort -u); do
	for target in $(cat "$dir"/*_test.go | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' | sort -u); do
		echo "fuzz $dir $target for $time"
		go test "./$dir" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 10s >"${TMPDIR:-/tmp}/belay-fuzz.$$" 2>&1 || {
			cat "${TMPDIR:-/tmp}/belay-fuzz.$$"
			found=1
		}
		rm -f "${TMPDIR:-/tmp}/belay-fuzz.$$"
	done
done
exit $found
