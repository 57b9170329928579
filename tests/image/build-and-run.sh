#!/usr/bin/env bash
# Builds the Dockerfile and runs what came out of it, without a container engine and without an image registry: buildah with plain folders as
# storage and chroot as isolation, on a base image made of Debian packages. Needs root, buildah and debootstrap. About three minutes.
#
# What this cannot show: memory limits, seccomp, dropped capabilities.
set -euo pipefail
cd "$(dirname "$0")/../.."
for program in buildah debootstrap; do
  command -v "$program" >/dev/null || { echo "$program is missing: apt-get install buildah debootstrap" >&2; exit 1; }
done
[ "$(id -u)" -eq 0 ] || { echo "root is needed: debootstrap and chroot isolation" >&2; exit 1; }

work=$(mktemp -d)
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
storage=(--root "$work/storage" --runroot "$work/run")
container=""
cleanup() {
  [ -z "$container" ] || buildah "${storage[@]}" rm "$container" >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap cleanup EXIT

say() { printf '\n== %s\n' "$*"; }
fail() { echo "test-image: $*" >&2; exit 1; }

say "a base image: Debian with Python"
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "${SUITE:-bookworm}" "$work/base" >"$work/debootstrap.log" 2>&1 \
  || { tail -20 "$work/debootstrap.log" >&2; fail "debootstrap failed"; }
# The authorities that this machine trusts: a package index may be behind one of its own.
cp /etc/ssl/certs/ca-certificates.crt "$work/base/etc/ssl/certs/ca-certificates.crt"
container=$(buildah "${storage[@]}" from scratch)
buildah "${storage[@]}" add --quiet "$container" "$work/base" / >/dev/null
buildah "${storage[@]}" commit --quiet "$container" localhost/base >/dev/null
buildah "${storage[@]}" rm "$container" >/dev/null
container=""
rm -rf "$work/base"

say "the image"
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
buildah "${storage[@]}" build --pull-never --layers=false --build-arg BASE=localhost/base --build-arg REVISION="$revision" \
  --build-arg VERSION=test --tag localhost/syncwatch .

say "what it says about itself"
buildah "${storage[@]}" inspect --type image localhost/syncwatch >"$work/image.json"
python3 - "$work/image.json" "$revision" <<'PY'
import json, sys
config = json.load(open(sys.argv[1]))["OCIv1"]["config"]
print(json.dumps(config, indent=1))
assert "65532:65532" == config["User"], config["User"]
assert (["syncwatch"], ["run"]) == (config["Entrypoint"], config["Cmd"])
assert {"10119/tcp"} == set(config["ExposedPorts"]), config["ExposedPorts"]
labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
assert ("syncwatch", "Apache-2.0", sys.argv[2], "test") == tuple(labels[name] for name in ("title", "licenses", "revision", "version")), labels
PY

container=$(buildah "${storage[@]}" from --pull-never localhost/syncwatch)
root=$(buildah "${storage[@]}" mount "$container")
inside() { buildah "${storage[@]}" run "$container" -- "$@"; }

say "who runs, and what is left"
inside python -c 'import os; assert (65532, 65532) == (os.getuid(), os.getgid()), (os.getuid(), os.getgid()); print("uid and gid 65532")'
inside syncwatch --version
for tool in pip pip3 gcc cc make git curl; do
  ! inside sh -c "command -v $tool" >/dev/null 2>&1 || fail "$tool is left in the image"
done
! inside python -m pip --version >/dev/null 2>&1 || fail "pip is left in the image"
! inside python -m ensurepip --version >/dev/null 2>&1 || fail "ensurepip is left in the image"
echo "no pip, no compiler, no make"
for tool in sh ls df wc cat findmnt head kill python3 sleep; do
  inside sh -c "command -v $tool" >/dev/null || fail "$tool is not in the image: the runbooks and the preStop hook need it"
done
! inside sh -c 'echo x > /opt/syncwatch/x' 2>/dev/null || fail "the program's own folder can be written to"
inside sh -c 'test "$(stat -c "%a %u" /var/lib/syncwatch)" = "700 65532"' || fail "/var/lib/syncwatch is not the user's alone"
du -sh "$root/opt/syncwatch" "$root" | sed "s#$root#image#"

say "a sidecar whose upstream is down, on a read-only root"
mkdir -p "$root/etc/syncwatch"
cat >"$root/etc/syncwatch/syncwatch.yaml" <<'YAML'
listen: 127.0.0.1:10919
local_listen: 127.0.0.1:10920
state_dir: /var/lib/syncwatch/state
connections:
  - name: cast
    protocol: relaycast
    url: http://127.0.0.1:9
    token_file: /etc/syncwatch/token
YAML
echo at_live_00000000000000000000000000000000 >"$root/etc/syncwatch/token"
chmod -R a+rX "$root/etc/syncwatch"
mkdir "$work/state"
chmod 0777 "$work/state"           # as the kubelet makes an emptyDir
cat >"$work/inside.sh" <<'SH'
  ! touch /opt/syncwatch/x /tmp/x /etc/x 2>/dev/null || { echo "the root can be written to"; exit 1; }
  syncwatch check config "$SYNCWATCH_CONFIG" || exit 1
  syncwatch run & pid=$!
  python -c '
import time, urllib.request, urllib.error
def ask(url):
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None
until = time.monotonic() + 30
while (health := ask("http://127.0.0.1:10919/healthz")) is None and time.monotonic() < until:
    time.sleep(0.1)
assert 200 == health, health
assert 503 == ask("http://127.0.0.1:10919/readyz")
assert 503 == ask("http://127.0.0.1:10920/gate")
assert 200 == ask("http://127.0.0.1:10920/")
assert 200 == ask("http://127.0.0.1:10919/metrics")
print("/healthz 200, /readyz 503, /gate 503, the page 200, /metrics 200")
'
  asked=$?
  syncwatch status --url http://127.0.0.1:10920 | head -5
  kill -TERM $pid; wait $pid; ended=$?
  echo "exit code after SIGTERM: $ended"
  [ $asked -eq 0 ] && [ $ended -eq 0 ]
SH
# chroot isolation knows no read-only root, so this much of a runtime is done by hand: the same root, user and environment.
root="$root" state="$work/state" chroot="$(command -v chroot)" unshare --mount bash -euo pipefail -c '
  mount --bind "$root" "$root"
  mount -o remount,bind,ro "$root"
  mount --bind "$state" "$root/var/lib/syncwatch"
  mount --bind /dev "$root/dev"
  exec env -i PATH=/opt/syncwatch/bin:/usr/local/bin:/usr/bin:/bin SYNCWATCH_CONFIG=/etc/syncwatch/syncwatch.yaml PYTHONDONTWRITEBYTECODE=1 \
    "$chroot" --userspec=65532:65532 "$root" sh -s' <"$work/inside.sh" || fail "the sidecar did not run as it should"
find "$work/state" -type f -printf '%m %U %P\n'
[ "$(stat -c '%a %u' "$work/state/state")" = "700 65532" ] || fail "the state directory is not the user's alone"

say "the image is as it should be"
