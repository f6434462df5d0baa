#!/bin/sh
# Gets langfast2api from its newest release, and installs it: see usage.
set -eu

repository='@REPOSITORY@'
# The key that releases are signed with (minisign), if their maker has one.
public_key='@MINISIGN_KEY@'

usage() {
    cat <<'END'
Gets langfast2api for this machine from its newest release, and installs it. Running it again upgrades.

usage: get.sh [--version VERSION] [--dir DIRECTORY]    for you alone; no root is needed
       get.sh [--version VERSION] --service            as a service that systemd starts (asks for root)
       get.sh --uninstall [--dir DIRECTORY]            yours; your settings and session stay
       get.sh --uninstall --service [--purge]          the service's (--purge: its settings and keys too)

DIRECTORY is where the program goes [default: ~/.local/bin]. LANGFAST2API_RELEASES names another place
for releases than the repository's own, a folder of the same files.

What is fetched is compared with the release's checksums, and these with their signature, where minisign
is installed and the release is signed.
END
}

say() { printf '%s\n' "$*"; }
fail() {
    printf 'get.sh: %s\n' "$*" >&2
    exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

# The name of this machine's kind, as releases have it.
kind() {
    [ "$(uname -s)" = Linux ] || fail "there is no release for $(uname -s): build it from source, as the README says"
    case $(uname -m) in
        x86_64 | amd64) echo x86_64 ;;
        aarch64 | arm64) echo aarch64 ;;
        armv7* | armv8l) echo armv7 ;;
        riscv64) echo riscv64gc ;;
        *) fail "there is no release for $(uname -m): build it from source, as the README says" ;;
    esac
}

fetch() { # URL FILE
    if has curl; then
        curl --fail --silent --show-error --location --output "$2" "$1"
    elif has wget; then
        wget -q -O "$2" "$1"
    else
        fail 'neither curl nor wget is there'
    fi
}

sum() { # FILE
    if has sha256sum; then
        sha256sum <"$1"
    elif has shasum; then
        shasum -a 256 <"$1"
    else
        openssl dgst -sha256 -r <"$1"
    fi | cut -c 1-64
}

check_signature() { # URL OF THE RELEASE
    if [ -z "$public_key" ]; then
        say 'The release is not signed: its checksums alone were compared.'
    elif has minisign; then
        fetch "$1/SHA256SUMS.minisig" "$files/SHA256SUMS.minisig" || fail 'the signature of the release is not there'
        minisign -V -q -P "$public_key" -m "$files/SHA256SUMS" || fail 'the signature of the release is wrong: nothing was installed'
    else
        say 'minisign is not installed: the checksums were compared, their signature was not.'
    fi
}

# Fetches the release into $files, and unpacks it.
get() {
    kind=$(kind)
    archive=langfast2api-linux-$kind.tar.gz
    url=${LANGFAST2API_RELEASES:-$repository/releases}
    if [ -n "$version" ]; then url=$url/download/v${version#v}; else url=$url/latest/download; fi
    fetch "$url/SHA256SUMS" "$files/SHA256SUMS" || fail "there is no release at $url"
    check_signature "$url"
    fetch "$url/$archive" "$files/$archive" || fail "the release has no $archive"
    wanted=$(sed -n "s/^\([0-9a-f]\{64\}\) [ *]$archive\$/\1/p" "$files/SHA256SUMS")
    [ -n "$wanted" ] || fail "the release's checksums do not name $archive"
    [ "$(sum "$files/$archive")" = "$wanted" ] || fail "$archive is not what the release's checksums say: nothing was installed"
    tar -xzf "$files/$archive" -C "$files"
    new=$("$files/langfast2api" -V) || fail "the program for $kind does not run on this machine"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        fail 'only root can do this, and sudo is not there'
    fi
}

install_program() {
    mkdir -p "$directory"
    if cmp -s "$files/langfast2api" "$directory/langfast2api"; then
        say "$new is in $directory already"
    else
        cp "$files/langfast2api" "$directory/langfast2api.new"
        chmod 755 "$directory/langfast2api.new"
        mv -f "$directory/langfast2api.new" "$directory/langfast2api"
        say "$new is in $directory now"
    fi
    case :$PATH: in
        *:"$directory":*) say 'Start it: langfast2api' ;;
        *) say "Start it: $directory/langfast2api (the directory is not in your PATH)" ;;
    esac
}

remove_program() {
    [ -e "$directory/langfast2api" ] || fail "there is no $directory/langfast2api"
    rm -f "$directory/langfast2api"
    say "$directory/langfast2api is removed; settings and session stay where \`langfast2api whoami\` has said"
}

main() {
    version='' directory='' service=no action=install purge=''
    while [ $# -gt 0 ]; do
        case $1 in
            --help | -h) usage && exit ;;
            --service) service=yes ;;
            --uninstall) action=remove ;;
            --purge) purge=--purge ;;
            --version | --dir)
                [ $# -gt 1 ] || { usage >&2 && exit 2; }
                if [ "$1" = --dir ]; then directory=$2; else version=$2; fi
                shift
                ;;
            *) usage >&2 && exit 2 ;;
        esac
        shift
    done
    [ -z "$purge" ] || [ "$action$service" = removeyes ] || { usage >&2 && exit 2; }
    # A service has no home: where machines are set up, the variable may not be there.
    if [ "$service" = no ] && [ -z "$directory" ]; then
        [ -n "${HOME-}" ] || fail 'HOME is not set: name a directory (--dir)'
        directory=$HOME/.local/bin
    fi

    files=$(mktemp -d)
    trap 'rm -rf "$files"' EXIT
    trap 'exit 1' HUP INT TERM
    case $action$service in
        installno) get && install_program ;;
        installyes) get && as_root "$files/scripts/install.sh" "$files/langfast2api" ;;
        removeno) remove_program ;;
        removeyes) get && as_root "$files/scripts/install.sh" --remove ${purge:+"$purge"} ;;
    esac
}

# At the end, so that nothing is done if the script itself has come in part.
main "$@"
