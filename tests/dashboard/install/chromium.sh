#!/usr/bin/env bash
# Chromium for `make test-dashboard`, by apt where it is missing. Safe to run again. Ends with 3 and one sentence where it cannot be
# done; the tests that need it then skip.
set -euo pipefail

cannot() {
	echo "Chromium cannot be installed here: $1" >&2
	exit 3
}

if ! command -v chromium >/dev/null; then
	command -v apt-get >/dev/null || cannot "apt-get is missing."
	[ "$(id -u)" = 0 ] || cannot "only root may install it (apt-get install chromium)."
	log=$(mktemp)
	# The lists may be fresh enough where another apt is at work on them; for the installation itself we wait.
	apt-get update -qq >"$log" 2>&1 || true
	apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 chromium >>"$log" 2>&1 ||
		cannot "apt-get failed (see $log)."
	rm -f "$log"
fi
chromium --version 2>/dev/null | head -n 1
