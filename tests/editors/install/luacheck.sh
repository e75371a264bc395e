#!/bin/sh
# luacheck, a linter for the Lua of editors/nvim, without touching the system: Debian's package of a newer suite, unpacked into a
# folder.
#
# Usage: sh tests/editors/install/luacheck.sh      prints the path of the program, then its version
# Folder: ${CODERL_EDITORS:-$HOME/.cache/coderl-editors}/luacheck. What is there already is kept; remove the folder to renew it.
# Exits 3 with one sentence where it cannot be done.
set -eu

NAME=luacheck
SUITE=forky
FOLDER=${CODERL_EDITORS:-${HOME:-/tmp}/.cache/coderl-editors}/luacheck
PROGRAM=$FOLDER/luacheck

works() {
  [ -x "$PROGRAM" ] && "$PROGRAM" --version 2>/dev/null | grep -q '^Luacheck: '
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
unpack lua-check
PREFIX=$FOLDER/prefix
own_libraries "$PREFIX/usr/bin/lua5.1"
LIBRARY=$(find "$PREFIX/usr/lib" -name lfs.so -path '*/5.1/*' | head -n 1)
[ -n "$LIBRARY" ] || give_up "the package does not look as expected"
cat >"$PROGRAM" <<END
#!/bin/sh
export LUA_PATH='$PREFIX/usr/share/lua/5.1/?.lua;$PREFIX/usr/share/lua/5.1/?/init.lua'
export LUA_CPATH='$(dirname "$LIBRARY")/?.so'
exec '$PREFIX/usr/bin/lua5.1' '$PREFIX/usr/bin/luacheck' "\$@"
END
chmod +x "$PROGRAM"
works || give_up "the unpacked program does not start"
touch "$FOLDER/.installed"
tell
