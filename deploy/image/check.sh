#!/bin/sh
# Runs the image in a chroot, without a container runtime: check.sh [IMAGE]
# Needs root, and tries the architecture of this machine. What runs has no root, no
# capabilities and no way to new privileges, as in a restricted pod.
set -eu
image=${1:-bin/belay-image.tar} go=${GO:-go}
cd "$(dirname "$0")/../.."
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
$go run ./deploy/image --unpack "$($go env GOHOSTARCH)" --to "$root/fs" "$image"
mkdir -p "$root/fs/work"
git init -q --initial-branch=main "$root/fs/work/repo"
mkdir -p "$root/fs/work/repo/app/templates"
cat >"$root/fs/work/repo/app/Chart.yaml" <<CHART
{apiVersion: v2, name: app, version: 1.0.0}
CHART
cat >"$root/fs/work/repo/app/templates/a.yaml" <<TEMPLATE
apiVersion: v1
kind: ConfigMap
metadata: {name: rendered-{{ .Release.Name }}}
TEMPLATE
mkdir -p "$root/fs/work/repo/belay"
cat >"$root/fs/work/repo/belay/app.yaml" <<APP
apiVersion: belay.dev/v1alpha1
kind: Application
metadata: {name: app}
spec: {source: {path: app}, destination: {namespace: app}}
APP
git -C "$root/fs/work/repo" add -A
git -C "$root/fs/work/repo" -c user.name=check -c user.email=check@example.com commit -qm "One application"
chown -R 65532:65532 "$root/fs/work"
# A pod has these.
trap 'umount "$root/fs/proc" || true; for d in null zero urandom random; do umount "$root/fs/dev/$d" || true; done; rm -rf --one-file-system "$root"' EXIT
mount -t proc proc "$root/fs/proc"
for d in null zero urandom random; do
	: >"$root/fs/dev/$d"
	mount --bind "/dev/$d" "$root/fs/dev/$d"
done
# Changing to that user leaves no capability, and none can be gained again.
inside() { env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/bin HOME=/home/belay setpriv --no-new-privs chroot --userspec=65532:65532 "$root/fs" "$@"; }
want() { grep -q -- "$1" "$root/out" || { echo "check.sh: no \"$1\" in:" >&2; cat "$root/out" >&2; exit 1; }; }

inside /usr/bin/tini -s -- /usr/local/bin/belay version --client >"$root/out"; want "belay:"
inside /usr/bin/git clone -q file:///work/repo /tmp/clone
inside /bin/sh -c 'cd /tmp/clone && git log --oneline' >"$root/out"; want "One application"
inside /usr/bin/ssh -V 2>"$root/out"; want OpenSSH
inside /usr/bin/git ls-remote https://127.0.0.1:1/x 2>"$root/out" || true; want "127.0.0.1"
inside /bin/sh -c 'test -s /etc/ssl/certs/ca-certificates.crt'
# Worker processes of belay lock themselves down, which must work without privileges.
inside /usr/local/bin/belay render --dir /work/repo app >"$root/out"; want "name: rendered-app"
inside /usr/local/bin/belay serve --repo /work/repo --data /var/lib/belay --listen 127.0.0.1:0 >"$root/out" 2>&1 &
server=$!
for _ in $(seq 60); do grep -q "One application" "$root/out" && break; sleep 1; done
kill $server 2>/dev/null || true
wait $server 2>/dev/null || true
want "msg=serving"; want "Landlock"; want "seccomp"; want "One application"
echo "the image works: $(sed -n 's/.*sandbox="\([^"]*\)".*/\1/p' "$root/out")"
