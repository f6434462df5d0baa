#!/bin/sh
# Installs langfast2api as a systemd service, upgrades it, removes it.
set -eu

usage() {
    cat <<'END'
Installs langfast2api as a service that systemd starts at boot, or upgrades it. Asks no questions;
running it twice does no harm.

usage: scripts/install.sh [BINARY]             (default: target/release/langfast2api)
       scripts/install.sh --remove [--purge]   (--purge: settings, keys and session too)

It puts the program into /usr/local/bin, its units into /etc/systemd/system, and into
/etc/langfast2api, for root alone, langfast2api.env (settings), langfast2api.toml (the same, and all
of them, if you like a file better) and api-keys (a new key, which it shows). What is in /etc/langfast2api already stays as it is.

With DESTDIR set, files are put below that directory, and nothing is started.
END
}

here=$(cd "$(dirname "$0")" && pwd)
destdir=${DESTDIR-}
bin=$destdir/usr/local/bin
units=$destdir/etc/systemd/system
etc=$destdir/etc/langfast2api

say() { printf '%s\n' "$*"; }
fail() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

is_systemd_running() { [ -z "$destdir" ] && [ -d /run/systemd/system ]; }

# Puts a file in its place in one step: whoever looks sees the old one or the new one.
put() { # FILE MODE PLACE
    install -m "$2" "$1" "$3.new"
    mv -f "$3.new" "$3"
}

install_all() {
    binary=${1:-$here/../target/release/langfast2api}
    [ -f "$binary" ] || fail "there is no $binary; build it with: cargo build --release"
    version=$("$binary" --version) || fail "$binary does not run on this machine"

    mkdir -p "$bin" "$units"
    put "$binary" 755 "$bin/langfast2api"
    for unit in langfast2api.service langfast2api@.service langfast2api.socket; do
        put "$here/$unit" 644 "$units/$unit"
    done
    [ -d "$etc" ] || install -d -m 700 "$etc"
    [ -e "$etc/langfast2api.env" ] || put "$here/langfast2api.env" 600 "$etc/langfast2api.env"
    [ -e "$etc/langfast2api.toml" ] || put "$here/langfast2api.toml" 600 "$etc/langfast2api.toml"
    [ -e "$etc/api-keys" ] || make_key
    start
    say "$version is installed"
}

make_key() {
    key=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    [ ${#key} -eq 48 ] || fail 'no random numbers from /dev/urandom'
    (umask 077 && printf '%s\n' "$key" >"$etc/api-keys.new")
    mv "$etc/api-keys.new" "$etc/api-keys"
    say "API key, for your clients: $key"
}

start() {
    if is_systemd_running; then
        systemctl daemon-reload
        systemctl enable --quiet langfast2api.service
        # It returns when the server is ready, or has failed.
        systemctl restart langfast2api.service ||
            fail 'it does not start; see: journalctl -u langfast2api'
        systemctl try-restart 'langfast2api@*.service'
    elif [ -z "$destdir" ] && command -v systemctl >/dev/null; then
        systemctl enable --quiet langfast2api.service
    fi
}

remove_all() {
    if is_systemd_running; then
        systemctl disable --quiet --now langfast2api.socket langfast2api.service 2>/dev/null || true
        systemctl stop 'langfast2api@*.service' || true
    fi
    for link in "$units"/*.wants/langfast2api.* "$units"/*.wants/langfast2api@*; do
        rm -f "$link"
    done
    rm -f "$units/langfast2api.service" "$units/langfast2api@.service" "$units/langfast2api.socket" \
        "$bin/langfast2api"
    if is_systemd_running; then systemctl daemon-reload; fi
    if [ "$1" = yes ]; then
        # With DynamicUser the directories are in private, and links to them beside it.
        rm -rf "$etc" "$destdir/var/lib/langfast2api" "$destdir/var/lib/private/langfast2api"
        rm -rf "$destdir"/var/lib/langfast2api-* "$destdir"/var/lib/private/langfast2api-*
        say 'langfast2api is removed, with its settings, keys and session'
    else
        say "langfast2api is removed; settings, keys and session stay (--purge removes them too)"
    fi
}

action=install purge=no binary=''
for argument in "$@"; do
    case $argument in
        --help | -h) usage && exit ;;
        --remove) action=remove ;;
        --purge) purge=yes ;;
        -*) usage >&2 && exit 2 ;;
        *) [ -z "$binary" ] || { usage >&2 && exit 2; } && binary=$argument ;;
    esac
done
[ "$action$purge" != installyes ] || { usage >&2 && exit 2; }
[ -n "$destdir" ] || [ "$(id -u)" = 0 ] || fail 'only root can do this: sudo scripts/install.sh'

case $action in
    install) install_all "$binary" ;;
    remove) remove_all "$purge" ;;
esac
