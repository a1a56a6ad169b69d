#!/bin/sh
# Sends one commit of this repository to a machine and puts it to work there: `deploy/vps/deploy.sh [COMMIT]`, from the
# top of the repository. Everything it is told comes from the environment, and everything is looked at before the first
# connection. What is secret goes over standard input, never into a command line. The variables: docs/operations.md.
set -eu
umask 077
fail() {
    echo "deploy: $*" >&2
    exit 1
}
whole() { case $2 in '' | *[!0-9]* | ????????*) fail "$1 must be a whole number" ;; esac }

host=${RAY_DEPLOY_HOST:-}
login=${RAY_DEPLOY_SSH_USER:-root}
port=${RAY_DEPLOY_SSH_PORT:-22}
config=${RAY_CONFIG_PATH:-examples/config/ray.sub1b.public.json}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

case $host in '' | -* | *[!A-Za-z0-9.:_-]*) fail "RAY_DEPLOY_HOST must be the name or address of the machine" ;; esac
case $login in '' | [0-9-]* | *[!A-Za-z0-9_-]*) fail "RAY_DEPLOY_SSH_USER must be a name" ;; esac
whole RAY_DEPLOY_SSH_PORT "$port"
[ "$port" -ge 1 ] && [ "$port" -le 65535 ] || fail "RAY_DEPLOY_SSH_PORT must be from 1 to 65535"
whole RAY_DEPLOY_READY_TIMEOUT_SECONDS "${RAY_DEPLOY_READY_TIMEOUT_SECONDS:-120}"
[ "${RAY_DEPLOY_READY_TIMEOUT_SECONDS:-120}" -ge 1 ] && [ "${RAY_DEPLOY_READY_TIMEOUT_SECONDS:-120}" -le 999 ] ||
    fail "RAY_DEPLOY_READY_TIMEOUT_SECONDS must be from 1 to 999"
case ${RAY_DEPLOY_INSTALL_CADDY:-false} in
true | false) ;;
*) fail "RAY_DEPLOY_INSTALL_CADDY must be true or false" ;;
esac

[ -n "${RAY_DEPLOY_SSH_KEY:-}" ] || fail "RAY_DEPLOY_SSH_KEY is missing"
[ -n "${RAY_DEPLOY_KNOWN_HOSTS:-}" ] || fail "RAY_DEPLOY_KNOWN_HOSTS is missing"
printf '%s\n' "$RAY_DEPLOY_SSH_KEY" >"$work/key"
printf '%s\n' "$RAY_DEPLOY_KNOWN_HOSTS" >"$work/known_hosts"
ssh-keygen -y -P '' -f "$work/key" >/dev/null 2>&1 || fail "RAY_DEPLOY_SSH_KEY is no private key without a passphrase"
known=$host
if [ "$port" != 22 ]; then known="[$host]:$port"; fi
ssh-keygen -F "$known" -f "$work/known_hosts" >/dev/null || fail "RAY_DEPLOY_KNOWN_HOSTS does not have $known"

commit=$(git rev-parse --verify --quiet "${1:-HEAD}^{commit}") || fail "no such commit: ${1:-HEAD}"
mkdir "$work/sent" "$work/sent/release"
git archive "$commit" | tar -x -C "$work/sent/release"
if [ -n "${RAY_CONFIG_JSON:-}" ]; then
    printf '%s\n' "$RAY_CONFIG_JSON" >"$work/sent/ray.json"
else
    config=${config#./}
    case "/$config/" in
    //* | *\\* | */../* | */./* | /.git/* | /.github/* | /.ray/*)
        fail "RAY_CONFIG_PATH must lie in this repository" ;;
    esac
    [ -f "$work/sent/release/$config" ] || fail "RAY_CONFIG_PATH: no such file in this commit: $config"
    cp "$work/sent/release/$config" "$work/sent/ray.json"
fi

# Only what is set is sent, and the env file of the machine wins.
for name in RAY_DEPLOY_SERVICE_USER RAY_DEPLOY_DOMAIN RAY_DEPLOY_PROXY_ADDRESS RAY_DEPLOY_INSTALL_CADDY \
    RAY_DEPLOY_MEMORY_MIB RAY_DEPLOY_MIN_FREE_STORAGE_MIB RAY_DEPLOY_READY_TIMEOUT_SECONDS RAY_GATEWAY_RUNTIME_BINARY RAY_DEPLOY_CADDY_BINARY; do
    eval "value=\${$name:-}"
    case $value in
    '') ;;
    *[!][A-Za-z0-9.,/:_*-]*) fail "$name has a character that does not belong there" ;;
    *) echo "$name=$value" ;;
    esac
done >"$work/sent/settings.env"

# Judged here as it will be there: the env file first, and what it does not say from the settings.
cp "$work/sent/settings.env" "$work/judged.env"
if [ -n "${RAY_ENV_FILE_CONTENTS:-}" ]; then
    printf '%s\n' "$RAY_ENV_FILE_CONTENTS" >"$work/sent/ray.env"
    cat "$work/sent/ray.env" >>"$work/judged.env"
else
    # The keys are in the machine's own env file; doctor looks there.
    echo "RAY_API_KEYS=not-looked-at-here" >>"$work/judged.env"
fi
judge() { (cd "$work/sent/release" && env -i PATH="$PATH" HOME="$work" python3 -m ray.deploy validate --cwd /srv/ray \
    --config "$work/sent/ray.json" --env-file "$work/judged.env" "$@"); }
judge || fail "the config or the env file has errors; nothing was sent"
if grep -q '^RAY_DEPLOY_INSTALL_CADDY=true$' "$work/judged.env"; then
    judge --json >"$work/judgement"
    for code in auth_disabled caddy_site_address_local; do
        ! grep -q "\"$code\"" "$work/judgement" || fail "a public Caddy needs API keys and a public name: $code"
    done
fi

unset RAY_DEPLOY_SSH_KEY RAY_CONFIG_JSON RAY_ENV_FILE_CONTENTS
cp "$work/sent/release/deploy/vps/install.sh" "$work/sent/install.sh"
name=$(printf %s "$commit" | cut -c1-12)
sudo='sudo -n '
if [ "$login" = root ]; then sudo=; fi
remote="${sudo}sh -c 'umask 077; d=\$(mktemp -d /var/tmp/ray-deploy.XXXXXXXX) && trap \"rm -rf \$d\" EXIT &&
    tar -x -C \$d && chmod 0755 \$d && sh \$d/install.sh $name'"
tar -c -C "$work/sent" . | timeout 4500 ssh -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes \
    -o UserKnownHostsFile="$work/known_hosts" -o GlobalKnownHostsFile=/dev/null -o ConnectTimeout=15 \
    -o ServerAliveInterval=30 -o ServerAliveCountMax=3 -i "$work/key" -p "$port" "$login@$host" "$remote"
