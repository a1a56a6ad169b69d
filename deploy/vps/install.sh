#!/bin/sh
# Puts a release to work on this machine: as root, in the directory that deploy.sh has sent. Not meant to be typed.
#   release/      the repository at one commit
#   ray.json      the config
#   ray.env       the env file; absent: the machine keeps its own
#   settings.env  what the env file gets where it says nothing of it
# $1: the name of the release. What does not become ready is taken back: link, config, env file and units.
set -eu
umask 022
here=$(cd "$(dirname "$0")" && pwd)
name=$1
units=/etc/systemd/system
kept="ray-gateway.service ray-gateway.socket ray-llama-cpp.service"

say() { echo "== $*"; }
fail() {
    echo "install: $*" >&2
    exit 1
}
setting() { sed -n "s/^$1=//p" "$here/new.env" | tail -n 1; }
deploy() { (cd "/srv/ray/releases/$name" && timeout "$@"); }
ray_deploy() {
    limit=$1 command=$2
    shift 2
    deploy "$limit" python3 -m ray.deploy "$command" --env-file "$here/new.env" "$@"
}
ready() {
    curl --silent --show-error --fail --connect-timeout 2 --max-time 5 --retry "$2" --retry-delay "$3" \
        --retry-max-time "$4" --retry-all-errors "http://$address$1"
    echo
}
restart() {
    timeout 60 systemctl daemon-reload
    if [ -e "$units/ray-llama-cpp.service" ]; then
        timeout 60 systemctl enable ray-llama-cpp.service
        timeout 60 systemctl restart ray-llama-cpp.service
    fi
    timeout 60 systemctl enable ray-gateway.socket ray-gateway.service
    # A socket cannot be started anew under a running gateway; stopping it stops both.
    if [ -n "${listen_changed:-}" ]; then timeout 90 systemctl stop ray-gateway.socket ray-gateway.service; fi
    timeout 60 systemctl start ray-gateway.socket
    timeout 90 systemctl restart ray-gateway.service
}
report() {
    for unit in ray-gateway.service ray-llama-cpp.service; do
        timeout 30 systemctl --no-pager --lines 0 status "$unit" || true
        timeout 30 journalctl --no-pager --lines 120 --unit "$unit" || true
    done
}
take_back() {
    say "not ready: what was there before comes back"
    report
    for file in $kept; do
        rm -f "$units/$file"
        if [ -e "$here/before/$file" ]; then cp -p "$here/before/$file" "$units/$file"; fi
    done
    for file in ray.json ray.env; do
        if [ -e "$here/before/$file" ]; then cp -p "$here/before/$file" "/etc/ray/$file"; fi
    done
    if [ -z "$before" ]; then
        timeout 90 systemctl stop ray-gateway.socket ray-gateway.service ray-llama-cpp.service || true
        fail "the first release did not become ready; the services are stopped"
    fi
    ln -sfn "$before" /srv/ray/ray.next
    mv -T /srv/ray/ray.next /srv/ray/ray
    restart
    fail "release $name did not become ready; ${before%/ray} is at work again"
}

say "packages"
missing=
command -v python3 >/dev/null || missing="$missing python3"
command -v curl >/dev/null || missing="$missing curl ca-certificates"
# llama-server needs it, and the smallest images do without.
ls /usr/lib/*/libgomp.so.1 >/dev/null 2>&1 || missing="$missing libgomp1"
if grep -q '^RAY_DEPLOY_INSTALL_CADDY=true$' "$here/settings.env" && ! command -v caddy >/dev/null; then
    missing="$missing caddy"
fi
if [ -n "$missing" ]; then
    timeout 300 apt-get -o Acquire::Retries=3 -o DPkg::Lock::Timeout=60 update
    # shellcheck disable=SC2086 # a list of words
    timeout 300 apt-get -o Acquire::Retries=3 -o DPkg::Lock::Timeout=60 install --yes --no-install-recommends $missing
fi
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Ray needs Python 3.11 or newer"

say "release $name"
install -d -m 0755 /srv/ray /srv/ray/releases /etc/ray
before=$(readlink /srv/ray/ray || true)
if [ ! -e "/srv/ray/releases/$name" ]; then
    chown -R root:root "$here/release"
    chmod -R u=rwX,go=rX "$here/release"
    python3 -m compileall -q "$here/release/ray"
    mv "$here/release" "/srv/ray/releases/$name"
fi

say "env file"
env=$here/new.env
(umask 077 && : >"$env")
if [ -e "$here/ray.env" ]; then
    cat "$here/ray.env" >"$env"
elif [ -e /etc/ray/ray.env ]; then
    cat /etc/ray/ray.env >"$env"
fi
if [ -s "$env" ]; then echo >>"$env"; fi
while IFS= read -r line; do
    grep -q "^${line%%=*}=" "$env" || printf '%s\n' "$line" >>"$env"
done <"$here/settings.env"
user=$(setting RAY_DEPLOY_SERVICE_USER)
user=${user:-ray}
timeout_s=$(setting RAY_DEPLOY_READY_TIMEOUT_SECONDS)
timeout_s=${timeout_s:-120}
ray_deploy 60 storage

say "account $user"
case $user in
*[!0-9]*) id "$user" >/dev/null 2>&1 ||
    useradd --system --user-group --home-dir /srv/ray --shell /usr/sbin/nologin "$user" ;;
*) getent passwd "$user" >/dev/null || fail "no account has the number $user: create it first" ;;
esac
group=$(id -g "$user")
install -d -m 0750 -o "$user" -g "$group" /var/lib/ray /var/lib/ray/models

say "config"
mkdir "$here/before"
for file in ray.json ray.env; do
    if [ -e "/etc/ray/$file" ]; then cp -p "/etc/ray/$file" "$here/before/$file"; fi
done
for file in $kept; do
    if [ -e "$units/$file" ]; then cp -p "$units/$file" "$here/before/$file"; fi
done
install -m 0640 -g "$group" "$here/ray.json" /etc/ray/ray.json
install -m 0600 "$env" /etc/ray/ray.env

say "model"
if [ -n "$(setting RAY_LLAMA_CPP_BINARY_SOURCE_PATH)" ] && [ -n "$(setting RAY_MODEL_SOURCE_PATH)" ]; then
    ray_deploy 1800 model-stage --config /etc/ray/ray.json --apply
elif [ -n "$(setting RAY_LLAMA_CPP_BINARY_SOURCE_PATH)$(setting RAY_MODEL_SOURCE_PATH)" ]; then
    echo "nothing is installed: RAY_LLAMA_CPP_BINARY_SOURCE_PATH and RAY_MODEL_SOURCE_PATH have to be set both"
fi

say "doctor"
# The link is what the services run: doctor looks at it, so it is switched first, and goes back with the rest.
ln -sfn "releases/$name/ray" /srv/ray/ray.next
mv -T /srv/ray/ray.next /srv/ray/ray
look() {
    limit=$1 command=$2
    shift 2
    deploy "$limit" python3 -m ray.deploy "$command" --cwd /srv/ray --config /etc/ray/ray.json \
        --env-file /etc/ray/ray.env "$@"
}
no_caddy=--no-caddy
if [ "$(setting RAY_DEPLOY_INSTALL_CADDY)" = true ]; then no_caddy=; fi
# shellcheck disable=SC2086 # no word at all when it is empty
look 180 doctor $no_caddy || take_back
look 120 render --output-dir "$here/rendered" || take_back

say "units"
for file in $kept; do
    if [ -e "$here/rendered/$file" ]; then
        install -m 0644 "$here/rendered/$file" "$units/$file"
    elif [ -e "$units/$file" ]; then
        timeout 60 systemctl disable --now "$file"
        rm "$units/$file"
    fi
done
if [ -e "$here/before/ray-gateway.socket" ]; then
    cmp -s "$here/before/ray-gateway.socket" "$units/ray-gateway.socket" || listen_changed=yes
fi
address=$(sed -n 's/^ListenStream=//p' "$units/ray-gateway.socket")
restart || take_back
say "live, ready"
ready /livez 30 1 30 || take_back
ready /readyz "$timeout_s" 2 "$timeout_s" || take_back

if [ "$(setting RAY_DEPLOY_INSTALL_CADDY)" = true ]; then
    say "caddy"
    timeout 30 caddy validate --adapter caddyfile --config "$here/rendered/Caddyfile"
    install -m 0644 "$here/rendered/Caddyfile" /etc/caddy/Caddyfile
    timeout 60 systemctl enable caddy.service
    timeout 60 systemctl reload-or-restart caddy.service
fi
# The five newest stay, and the one before this.
# shellcheck disable=SC2012 # names of releases have no odd characters
ls -1t /srv/ray/releases | tail -n +6 | while IFS= read -r old; do
    case releases/$old/ray in
    "releases/$name/ray" | "$before") ;;
    *) rm -rf "/srv/ray/releases/$old" ;;
    esac
done
say "release $name is at work"
