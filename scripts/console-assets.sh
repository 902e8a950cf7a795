#!/bin/sh
# Makes what the console's page has of others: `scripts/console-assets.sh TREE OUT`, from the unpacked packages node-xterm and novnc in TREE, writes
# OUT/xterm/{xterm.js,xterm.css} and OUT/novnc/. xterm.js is in its package as modules that a browser cannot load: here they are one file.
set -eu
[ $# -eq 2 ] || { echo "usage: scripts/console-assets.sh TREE OUT" >&2; exit 64; }
tree=$1 out=$2
LC_ALL=C
export LC_ALL

mkdir -p "$out/xterm" "$out/novnc"
lib=$tree/usr/share/nodejs/xterm/lib
{
	echo '(function () { var modules = {}, made = {};'
	(cd "$lib" && find . -name '*.js' ! -name '*.test.js' ! -path './addons/*' | sort) | while read -r file; do
		name=${file#.}
		printf 'modules["%s"] = function (require, module, exports) {\n' "${name%.js}"
		grep -v '^//# sourceMappingURL=' "$lib/$file" || [ $? -eq 1 ]
		echo '};'
	done
	cat <<'END'
function load(name) {
	if (!made[name]) {
		var module = made[name] = { exports: {} }, here = name.split("/").slice(0, -1);
		modules[name](function (relative) {
			var parts = here.slice();
			relative.split("/").forEach(function (part) { if (part === "..") parts.pop(); else if (part !== ".") parts.push(part); });
			return load(parts.join("/"));
		}, module, module.exports);
	}
	return made[name].exports;
}
window.Terminal = load("/public/Terminal").Terminal; })();
END
} >"$out/xterm/xterm.js"
cp "$lib/xterm.css" "$out/xterm/"
for part in core vendor; do
	(cd "$tree/usr/share/novnc" && find $part -name '*.js' | sort) | while read -r file; do
		mkdir -p "$out/novnc/${file%/*}"
		cp "$tree/usr/share/novnc/$file" "$out/novnc/$file"
	done
done
