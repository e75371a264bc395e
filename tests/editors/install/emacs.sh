#!/bin/sh
# Emacs (without windows) and its eglot for the tests of the editors, without touching the system: Debian's package of a newer
# suite, unpacked into a folder.
#
# Usage: sh tests/editors/install/emacs.sh      prints the path of the program, then the versions of Emacs and eglot
# Folder: ${CODERL_EDITORS:-$HOME/.cache/coderl-editors}/emacs. What is there already is kept; remove the folder to renew it.
# Exits 3 with one sentence where it cannot be done.
set -eu

NAME=Emacs
SUITE=forky
FOLDER=${CODERL_EDITORS:-${HOME:-/tmp}/.cache/coderl-editors}/emacs
PROGRAM=$FOLDER/emacs

versions() {
  "$PROGRAM" --batch -Q --eval "(progn (require 'eglot) (require 'package)
    (princ (format \"GNU Emacs %s, eglot %s\n\" emacs-version
      (mapconcat #'number-to-string (alist-get 'eglot package--builtin-versions) \".\"))))" 2>/dev/null
}

works() {
  [ -x "$PROGRAM" ] && versions | grep -q '^GNU Emacs [3-9][0-9]\.'
}

tell() {
  echo "$PROGRAM"
  versions
  exit 0
}

if [ -f "$FOLDER/.installed" ] && works; then
  tell
fi

. "$(dirname "$0")/debian_prefix.sh"
unpack emacs-nox
PREFIX=$FOLDER/prefix
own_libraries "$PREFIX/usr/bin/emacs-nox"
SHARE=$(echo "$PREFIX"/usr/share/emacs/[0-9]*)
LIBEXEC=$(echo "$PREFIX"/usr/libexec/emacs/[0-9]*/*)
DUMP=$(echo "$LIBEXEC"/*.pdmp)
[ -d "$SHARE" ] && [ -f "$DUMP" ] || give_up "the package does not look as expected"
# Emacs has its folders compiled in; these variables and the dump's place overrule them.
cat >"$PROGRAM" <<END
#!/bin/sh
export EMACSLOADPATH='$SHARE/lisp' EMACSDATA='$SHARE/etc' EMACSDOC='$SHARE/etc' EMACSPATH='$LIBEXEC'
exec '$PREFIX/usr/bin/emacs-nox' --dump-file '$DUMP' "\$@"
END
chmod +x "$PROGRAM"
works || give_up "the unpacked program does not start, or is older than 30"
touch "$FOLDER/.installed"
tell
