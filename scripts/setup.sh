#!/bin/sh
# Makes sure that the programs the tests talk to are there: git, the ssh client
# and gpg. Installs them where that can be done without asking.
set -eu
missing=
for c in git ssh gpg; do command -v "$c" >/dev/null 2>&1 || missing="$missing $c"; done
[ -z "$missing" ] && exit 0
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
	packages=
	for c in $missing; do
		case $c in ssh) packages="$packages openssh-client" ;; gpg) packages="$packages gnupg" ;; *) packages="$packages $c" ;; esac
	done
	# shellcheck disable=SC2086 # a list on purpose
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $packages; } >/dev/null && exit 0
fi
echo "these programs are missing:$missing" >&2
echo "install them (Debian: apt-get install git openssh-client gnupg) and run this again" >&2
exit 1
