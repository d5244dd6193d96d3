#!/bin/sh
# Fetches the Debian packages that the image needs, for one architecture, and unpacks
# each to a tar: packages.sh ARCH DIR
#
# Needs apt-get and dpkg-deb, no root, and nothing of the machine's own package state.
# apt checks the signatures. Mirrors are those that the machine's own apt uses; MIRROR and
# SECURITY_MIRROR change them, and a mirror of dated snapshots makes the image the same forever.
set -eu
arch=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
suite=${SUITE:-bookworm}
keyring=${KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}
for tool in apt-get dpkg-deb; do
	command -v $tool >/dev/null || { echo "packages.sh: $tool is missing; on another system name a base with BASE=DIR (see docs/guides/install.md)" >&2; exit 1; }
done
# mirror_of SUITE is where the machine's apt finds it.
mirror_of() {
	apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Identifier: Packages' |
		awk -v suite="$1" '$2 == suite && $3 == "main" { print $1; exit }'
}
mirror=${MIRROR:-$(mirror_of "$suite")} security=${SECURITY_MIRROR:-$(mirror_of "$suite-security")}
if [ -z "$mirror" ] || [ -z "$security" ]; then
	echo "packages.sh: apt of this machine knows no mirror of $suite; set SUITE, or MIRROR and SECURITY_MIRROR" >&2
	exit 1
fi
state=$dir/apt
mkdir -p "$state/lists/partial" "$state/archives/partial" "$dir/tars"
: >"$state/status"
cat >"$state/sources.list" <<SOURCES
deb [arch=$arch signed-by=$keyring] $mirror $suite main
deb [arch=$arch signed-by=$keyring] $security $suite-security main
SOURCES
apt() {
	apt-get -qq -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::parts=/dev/null \
		-o Dir::State="$state" -o Dir::State::lists="$state/lists" -o Dir::State::status="$state/status" -o Dir::Cache="$state" \
		-o APT::Architecture="$arch" -o APT::Architectures="$arch" -o APT::Install-Recommends=false -o Debug::NoLocking=1 \
		-o APT::Sandbox::User="$(id -un)" "$@"
}
apt update
# git calls a shell for ssh and for credential helpers; tini reaps what git leaves.
apt install -y --download-only git openssh-client ca-certificates tini dash netbase

# What only package scripts, or parts of git that Belay does not use, would need.
skip='perl|perl-base|perl-modules-.*|libperl5.*|liberror-perl|git-man|dpkg|tar|adduser|passwd|debconf|openssl|libpam.*|libaudit.*|libcap-ng0|libsemanage.*|libsepol.*|libdb5.*|libgdbm.*|libsasl2-modules-db|gcc-.*-base|libacl1|libbz2-.*|liblzma5|debianutils'
rm -f "$dir"/tars/*
for deb in "$state"/archives/*.deb; do
	name=$(dpkg-deb -f "$deb" Package)
	if echo "$name" | grep -Eqx "$skip"; then continue; fi
	dpkg-deb --fsys-tarfile "$deb" >"$dir/tars/$name.tar"
	dpkg-deb -f "$deb" Package Version Architecture | tr '\n' ' ' | sed 's/Package: //; s/Version: //; s/Architecture: //'
	echo
done | sort >"$dir/packages.txt"
