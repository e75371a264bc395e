# Read by the scripts beside it: unpacks a package of a newer Debian suite, with all it needs down to the C library, into a folder.
#
# The caller sets NAME (said in messages), FOLDER (where the program goes) and SUITE. Needs Debian with apt, and patchelf
# (installed where apt may). `give_up` says one sentence and ends with 3.

give_up() {
  echo "$NAME cannot be installed here: $1." >&2
  exit 3
}

# The mirror this machine uses already: of a deb822 file, else of a one-line file.
mirror() {
  cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null |
    awk '$1 == "URIs:" { print $2; exit } $1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /^[a-z+]+:\/\//) { print $i; exit } }'
}

need_patchelf() {
  command -v patchelf >/dev/null && return
  apt-get install -y -qq --no-install-recommends patchelf >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends patchelf; } >/dev/null 2>&1 ||
    give_up "patchelf is missing and apt may not install it"
}

# unpack PACKAGE: what was in FOLDER is replaced by FOLDER/prefix. An empty status file makes apt fetch everything needed.
unpack() {
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || give_up "apt-get and dpkg-deb are missing"
  MIRROR=$(mirror || true)
  [ -n "$MIRROR" ] || give_up "apt names no mirror"
  KEYS=/usr/share/keyrings/debian-archive-keyring.gpg
  [ -f "$KEYS" ] || give_up "the keys of Debian's archive are missing"
  need_patchelf
  WORK=$FOLDER.part
  rm -rf "$WORK"
  mkdir -p "$WORK/apt/lists/partial" "$WORK/apt/cache/archives/partial" "$WORK/prefix"
  trap 'rm -rf "$WORK"' EXIT
  echo "deb [signed-by=$KEYS] $MIRROR $SUITE main" >"$WORK/apt/one.list"
  : >"$WORK/apt/status"
  newer update || give_up "apt cannot read the suite $SUITE of $MIRROR ($(tail -n 1 "$WORK/apt.log"))"
  newer -y --download-only --no-install-recommends install "$1" ||
    give_up "apt cannot fetch $1 ($(tail -n 1 "$WORK/apt.log"))"
  for DEB in "$WORK"/apt/cache/archives/*.deb; do
    dpkg-deb -x "$DEB" "$WORK/prefix"
  done
  rm -rf "$FOLDER"
  mkdir -p "$FOLDER"
  mv "$WORK/prefix" "$FOLDER/prefix"
}

newer() {
  apt-get -qq -o Dir::Etc::sourcelist="$WORK/apt/one.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$WORK/apt/lists" \
    -o Dir::Cache="$WORK/apt/cache" -o Dir::State::status="$WORK/apt/status" -o APT::Keep-Downloaded-Packages=true \
    -o APT::Sandbox::User="$(id -un)" "$@" >"$WORK/apt.log" 2>&1
}

# own_libraries PROGRAM…: the programs load the unpacked C library and its neighbours, not the system's.
own_libraries() {
  LOADER=
  for FOUND in "$FOLDER"/prefix/usr/lib/*/ld-linux*.so.* "$FOLDER"/prefix/lib*/ld-linux*.so.*; do
    if [ -f "$FOUND" ]; then
      LOADER=$FOUND
      break
    fi
  done
  [ -n "$LOADER" ] || give_up "the package of the C library has no loader"
  LIBRARIES=$(dirname "$(find "$FOLDER/prefix/usr/lib" -name libc.so.6 | head -n 1)")
  for PROGRAM_FILE in "$@"; do
    patchelf --set-interpreter "$LOADER" --force-rpath --set-rpath "$LIBRARIES" "$PROGRAM_FILE"
  done
}
