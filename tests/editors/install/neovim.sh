#!/bin/sh
# Neovim 0.12 or newer for the tests of the editors, without touching the system: Debian's packages of a newer suite, with their
# own C library, are unpacked into a folder, and the program is pointed at them.
#
# Usage: sh tests/editors/install/neovim.sh      prints the path of the program, then its version
# Folder: ${CODERL_EDITORS:-$HOME/.cache/coderl-editors}/nvim. What is there already is kept; remove the folder to renew it.
# Needs Debian with apt, and patchelf (installed where apt may). Exits 3 with one sentence where it cannot be done.
set -eu

SUITE=forky
FOLDER=${CODERL_EDITORS:-${HOME:-/tmp}/.cache/coderl-editors}/nvim
PROGRAM=$FOLDER/nvim

give_up() {
  echo "Neovim cannot be installed here: $1." >&2
  exit 3
}

works() {
  [ -x "$PROGRAM" ] || return 1
  [ "$("$PROGRAM" --clean --headless -c 'lua io.stdout:write(vim.fn.has("nvim-0.12"))' -c 'qa!' 2>/dev/null)" = 1 ]
}

tell() {
  echo "$PROGRAM"
  "$PROGRAM" --version | head -n 1
  exit 0
}

if [ -f "$FOLDER/.installed" ] && works; then
  tell
fi

command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || give_up "apt-get and dpkg-deb are missing"
SOURCES=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null || true)
# The mirror this machine uses already: of a deb822 file, else of a one-line file.
MIRROR=$(echo "$SOURCES" | awk '$1 == "URIs:" { print $2; exit } $1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /^[a-z+]+:\/\//) { print $i; exit } }')
[ -n "$MIRROR" ] || give_up "apt names no mirror"
KEYS=/usr/share/keyrings/debian-archive-keyring.gpg
[ -f "$KEYS" ] || give_up "the keys of Debian's archive are missing"

if ! command -v patchelf >/dev/null; then
  apt-get install -y -qq --no-install-recommends patchelf >/dev/null 2>&1 \
    || { apt-get update -qq && apt-get install -y -qq --no-install-recommends patchelf; } >/dev/null 2>&1 \
    || give_up "patchelf is missing and apt may not install it"
fi

WORK=$FOLDER.part
rm -rf "$WORK"
mkdir -p "$WORK/apt/lists/partial" "$WORK/apt/cache/archives/partial" "$WORK/prefix"
trap 'rm -rf "$WORK"' EXIT
echo "deb [signed-by=$KEYS] $MIRROR $SUITE main" >"$WORK/apt/one.list"
: >"$WORK/apt/status"
# An empty status file: apt fetches everything that Neovim needs, down to the C library.
newer() {
  apt-get -qq -o Dir::Etc::sourcelist="$WORK/apt/one.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$WORK/apt/lists" \
    -o Dir::Cache="$WORK/apt/cache" -o Dir::State::status="$WORK/apt/status" -o APT::Keep-Downloaded-Packages=true \
    -o APT::Sandbox::User="$(id -un)" "$@" >"$WORK/apt.log" 2>&1
}
newer update || give_up "apt cannot read the suite $SUITE of $MIRROR ($(tail -n 1 "$WORK/apt.log"))"
newer -y --download-only --no-install-recommends install neovim || give_up "apt cannot fetch neovim ($(tail -n 1 "$WORK/apt.log"))"
for PACKAGE in "$WORK"/apt/cache/archives/*.deb; do
  dpkg-deb -x "$PACKAGE" "$WORK/prefix"
done

rm -rf "$FOLDER"
mkdir -p "$FOLDER"
mv "$WORK/prefix" "$FOLDER/prefix"
set -- "$FOLDER"/prefix/usr/lib/*/ld-linux*.so.* "$FOLDER"/prefix/lib*/ld-linux*.so.*
for LOADER in "$@"; do
  [ -f "$LOADER" ] && break
done
[ -f "$LOADER" ] || give_up "the package of the C library has no loader"
LIBRARIES=$(dirname "$(find "$FOLDER/prefix/usr/lib" -name 'libc.so.6' | head -n 1)")
patchelf --set-interpreter "$LOADER" --force-rpath --set-rpath "$LIBRARIES" "$FOLDER/prefix/usr/bin/nvim"
cat >"$PROGRAM" <<END
#!/bin/sh
export VIMRUNTIME='$FOLDER/prefix/usr/share/nvim/runtime'
exec '$FOLDER/prefix/usr/bin/nvim' "\$@"
END
chmod +x "$PROGRAM"
works || give_up "the unpacked program does not start, or is older than 0.12"
touch "$FOLDER/.installed"
tell
