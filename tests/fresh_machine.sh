#!/usr/bin/env bash
# The README's two commands on a machine made from nothing: Debian in a folder, an ordinary user, and no network
# after the installation.
#
#   sudo tests/fresh_machine.sh [release] [folder to make it in]
#
# Needs root, debootstrap and a Debian mirror; about 3 GB, and half an hour. The release is trixie, which has
# Python 3.13, if none is given. What leads to a package registry (/etc/pip.conf, PIP_*, UV_*, SSL_CERT_*) is
# taken along for the installation.
set -euo pipefail

[ "$(id -u)" = 0 ] || { echo "run it as root: it makes a system in a folder" >&2; exit 2; }
command -v debootstrap >/dev/null || { echo "debootstrap is not installed" >&2; exit 2; }

release=${1:-trixie}
place=${2:-$(mktemp -d)}
project=$(cd "$(dirname "$0")/.." && pwd)
machine=$place/machine
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null \
  | sed -nE 's/^(deb|URIs:) *(\[[^]]*\] *)?(https?:[^ ]*debian\/?)( .*|$)/\3/p' | head -n 1 || true)
mkdir -p "$place"
echo "A new $release in $machine"

# One process tree with mounts and, later, a network of its own; all of it ends with this script.
step() { printf '\n=== %s (%s)\n' "$1" "$(date +%T)"; }

step "debootstrap $release"
debootstrap --variant=minbase --include=python3,python3-venv,make,git,curl,ca-certificates,procps,iproute2 \
  "$release" "$machine" "${mirror:-http://deb.debian.org/debian}" >"$place/debootstrap.log" 2>&1 \
  || { tail -n 20 "$place/debootstrap.log" >&2; exit 1; }
mkdir -p "$machine/etc/ssl/certs"
cp -L /etc/ssl/certs/ca-certificates.crt "$machine/etc/ssl/certs/"
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf; do
  [ ! -e "$file" ] || cp -L "$file" "$machine$file"
done
chroot "$machine" useradd --create-home --shell /bin/bash host
git clone --quiet "$project" "$machine/home/host/vroom"
chroot "$machine" chown -R host: /home/host

# Inside: pivot_root and not chroot, which would forbid user namespaces; `unshare --net` leaves only loopback.
inside() {
  local network=$1 script=$2
  local flags=(--mount --pid --fork --kill-child)
  [ "$network" = online ] || flags+=(--net)
  unshare "${flags[@]}" bash -euc '
    mount --make-rprivate /
    mount --bind "$1" "$1"
    cd "$1"
    mount -t proc proc proc
    mount --rbind /sys sys
    mount --rbind /dev dev
    mkdir -p dev/shm
    mount -t tmpfs -o mode=1777 tmpfs dev/shm
    mkdir -p outside
    pivot_root . outside
    cd /
    umount --lazy /outside
    if [ "$2" = offline ]; then ip link set lo up; fi
    exec env --ignore-environment PATH=/usr/local/bin:/usr/bin:/bin HOME=/home/host USER=host LOGNAME=host LANG=C.UTF-8 \
      "${@:4}" setpriv --reuid=host --regid=host --init-groups bash -euo pipefail -c "cd ~/vroom; $3"
  ' inside "$machine" "$network" "$script" $([ "$network" = offline ] || env | grep -E '^(PIP|UV|SSL_CERT)_[A-Z_]+=[^ ]*$')
}

step "the installation, the only part with a network"
inside online 'python3 --version; make --silent .venv/.installed; du -sh .venv'

step "make run: four champions and a prediction"
inside offline '
  make run >run.log 2>&1 &
  champions() {
    .venv/bin/python - <<"SCRIPT"
import json, sys, urllib.request
try:
    with urllib.request.urlopen("http://127.0.0.1:8000/forecasts", timeout=5) as answer:
        served = {one["name"]: one["model_version"] for one in json.load(answer)}
except OSError:
    sys.exit(1)
print(served)
sys.exit(0 if len(served) == 4 and all(served.values()) else 1)
SCRIPT
  }
  began=$SECONDS
  until champions >served 2>&1; do
    [ $((SECONDS - began)) -lt 600 ] || { echo "no four champions in 600 s"; tail -n 40 run.log; exit 1; }
    sleep 2
  done
  echo "four champions after $((SECONDS - began)) s: $(cat served)"
  grep -A 12 "Vroom is ready" run.log
  asked=$(sed -n "s/^ *\(curl .*\)/\1/p" run.log | head -n 1)
  echo "$asked"
  .venv/bin/python - <<"SCRIPT"
import json, re, shlex, urllib.request
line = next(line.strip() for line in open("run.log") if line.strip().startswith("curl "))
words = shlex.split(line)
body = words[words.index("-d") + 1].encode()
address = next(word for word in words if word.startswith("http"))
asked = urllib.request.Request(address, body, {"content-type": "application/json"})
print(json.dumps(json.load(urllib.request.urlopen(asked)), indent=1))
pages = re.findall(r"^  (?:Dagster|Service|MLflow) +(http://[^\s#]+)", open("run.log").read(), re.MULTILINE)
assert len(pages) == 3, pages
for page in pages:
    print(page, urllib.request.urlopen(page).status)
SCRIPT
  pkill -TERM -fx ".venv/bin/python -m vroom_assets"
  wait || true
  echo "Python processes left running: $(pgrep -c python || true)"
'

step "make test"
inside offline 'make test'
step "done"
