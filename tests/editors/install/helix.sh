#!/bin/sh
# Helix for the tests of the editors, without touching the system: Debian's package of a newer suite, unpacked into a folder.
#
# Usage: sh tests/editors/install/helix.sh      prints the path of the program, then its version
# Folder: ${CODERL_EDITORS:-$HOME/.cache/coderl-editors}/helix. What is there already is kept; remove the folder to renew it.
# Exits 3 with one sentence where it cannot be done.
set -eu

NAME=Helix
SUITE=forky
FOLDER=${CODERL_EDITORS:-${HOME:-/tmp}/.cache/coderl-editors}/helix
PROGRAM=$FOLDER/hx

works() {
  [ -x "$PROGRAM" ] && "$PROGRAM" --version 2>/dev/null | grep -q '^helix '
}

tell() {
  echo "$PROGRAM"
  "$PROGRAM" --version | head -n 1
  exit 0
}

if [ -f "$FOLDER/.installed" ] && works; then
  tell
fi

. "$(dirname "$0")/debian_prefix.sh"
unpack hx
own_libraries "$FOLDER/prefix/usr/lib/hx/hx"
cat >"$PROGRAM" <<END
#!/bin/sh
export HELIX_RUNTIME='$FOLDER/prefix/usr/lib/hx/runtime'
exec '$FOLDER/prefix/usr/lib/hx/hx' "\$@"
END
chmod +x "$PROGRAM"
works || give_up "the unpacked program does not start"
touch "$FOLDER/.installed"
tell
