#!/bin/sh
# Installs langfast2api as a systemd service, upgrades it, removes it.
set -eu

usage() {
    cat <<'END'
Installs langfast2api as a service that systemd starts at boot, or upgrades it. Asks no questions;
running it twice does no harm.

usage: scripts/install.sh [BINARY]             (default: target/release/langfast2api)
       scripts/install.sh --remove [--purge]   (--purge: settings, keys and session too)

It puts the program into /usr/local/bin, its units into /usr/local/lib/systemd/system, its manual page and
completions below /usr/local/share, and into /etc/langfast2api, for root alone, langfast2api.env (settings),
langfast2api.toml (the same, and all of them, if you like a file better) and api-keys (a new key, which it
shows). What is in /etc/langfast2api already stays as it is, and so do units of your own in
/etc/systemd/system; a unit that you have changed where it was installed is kept there.

With DESTDIR set, files are put below that directory, and nothing is started.
END
}

here=$(cd "$(dirname "$0")" && pwd)
destdir=${DESTDIR-}
bin=/usr/local/bin
units=/usr/local/lib/systemd/system
share=/usr/local/share
# Units of the administrator's, which go before those in $units.
own_units=/etc/systemd/system
etc=/etc/langfast2api
# The checksums of the units as they were installed.
sums=$share/langfast2api/units.sha256

say() { printf '%s\n' "$*"; }
fail() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

is_systemd_running() { [ -z "$destdir" ] && [ -d /run/systemd/system ]; }

# What scripts/files lists, of one kind: mode, file and place.
listed() { # KIND
    sed -n "s|^$1  *||p" "$here/files" | sed "s|BIN/|$bin/|; s|UNITS/|$units/|; s|SHARE/zsh/vendor-completions|$share/zsh/site-functions|; s|SHARE/|$share/|"
}

# Puts a file in its place in one step: whoever looks sees the old one or the new one.
put() { # FILE MODE PLACE
    mkdir -p "$destdir$(dirname "$3")"
    install -m "$2" "$1" "$destdir$3.new"
    mv -f "$destdir$3.new" "$destdir$3"
}

install_all() {
    binary=${1:-$here/../target/release/langfast2api}
    # A bare name is a file's, not a command's.
    case $binary in */*) ;; *) binary=./$binary ;; esac
    [ -f "$binary" ] || fail "there is no $binary; build it with: cargo build --release"
    version=$("$binary" -V) || fail "$binary does not run on this machine"

    listed program | while read -r mode _ place; do put "$binary" "$mode" "$place"; done
    install_units
    install_made "$binary"
    [ -d "$destdir$etc" ] || install -d -m 700 "$destdir$etc"
    listed settings | while read -r mode file place; do
        [ -e "$destdir$place" ] || put "$here/$file" "$mode" "$place"
    done
    [ -e "$destdir$etc/api-keys" ] || make_key
    start
    say "$version is installed"
}

# A unit that differs from the one that was installed is somebody's work, and goes on to count.
install_units() {
    mkdir -p "$destdir$(dirname "$sums")" "$destdir$own_units"
    listed unit | while read -r mode file place; do
        if is_changed "$place"; then
            if [ -e "$destdir$own_units/$file" ]; then
                mv "$destdir$place" "$destdir$own_units/$file.changed"
            else
                mv "$destdir$place" "$destdir$own_units/$file"
            fi
        fi
        put "$here/$file" "$mode" "$place"
        if [ -e "$destdir$own_units/$file" ]; then
            say "your own $own_units/$file goes before the new $place; if you have not changed it, remove it"
        fi
    done
    listed unit | while read -r _ _ place; do sum "$place"; done >"$destdir$sums"
}

sum() { (cd "$destdir/" && sha256sum ".$1"); }

is_changed() { # PLACE
    [ -e "$destdir$1" ] && [ -e "$destdir$sums" ] && ! grep -qxF "$(sum "$1")" "$destdir$sums"
}

install_made() { # BINARY
    listed made | while read -r mode what place; do
        mkdir -p "$destdir$(dirname "$place")"
        # shellcheck disable=SC2046 # two words
        "$1" $(echo "$what" | tr - ' ') >"$destdir$place.new"
        chmod "$mode" "$destdir$place.new"
        mv -f "$destdir$place.new" "$destdir$place"
    done
}

make_key() {
    key=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    [ ${#key} -eq 48 ] || fail 'no random numbers from /dev/urandom'
    (umask 077 && printf '%s  # first\n' "$key" >"$destdir$etc/api-keys.new")
    mv "$destdir$etc/api-keys.new" "$destdir$etc/api-keys"
    say "API key, for your clients: $key"
}

start() {
    if is_systemd_running; then
        systemctl daemon-reload
        systemctl enable --quiet langfast2api.service
        # It returns when the server is ready, or has failed.
        systemctl restart langfast2api.service || {
            # Its own words come first, then systemd's.
            journalctl -u langfast2api.service -n 5 --no-pager -o cat >&2
            fail 'it does not start; run this again when that is mended. More: journalctl -u langfast2api'
        }
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
    for link in "$destdir$own_units"/*.wants/langfast2api.* "$destdir$own_units"/*.wants/langfast2api@*; do
        rm -f "$link"
    done
    for kind in program unit made; do
        listed "$kind" | while read -r _ _ place; do rm -f "$destdir$place"; done
    done
    # Where units were installed formerly, and where changed ones are.
    listed unit | while read -r _ file _; do
        rm -f "$destdir$own_units/$file" "$destdir$own_units/$file.changed"
        [ "$1" = no ] || rm -rf "$destdir$own_units/$file.d"
    done
    rm -rf "$destdir$share/langfast2api"
    if is_systemd_running; then systemctl daemon-reload; fi
    if [ "$1" = yes ]; then
        # With DynamicUser the directories are in private, and links to them beside it.
        rm -rf "$destdir$etc" "$destdir/var/lib/langfast2api" "$destdir/var/lib/private/langfast2api"
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
