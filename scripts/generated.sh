#!/bin/sh
# Fails when generated files are not what "make generate" writes.
set -eu
before=$(git status --porcelain -- docs internal | sort)
go generate ./...
after=$(git status --porcelain -- docs internal | sort)
if [ "$before" != "$after" ]; then
	echo "generated files are stale; run make generate and commit:" >&2
	git --no-pager diff --stat -- docs internal >&2
	exit 1
fi
