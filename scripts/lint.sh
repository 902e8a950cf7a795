#!/bin/sh
# What compilers do not check: `scripts/lint.sh` runs every tool and prints TAP, `scripts/lint.sh fmt` formats the sources.
# The rules of the house themselves are tests/lint/rules.c.
set -u
cd "$(dirname "$0")/.." || exit 1
build=${SKERRY_LINT_BUILD:-build}

sources=$(find src tests bench -name '*.[ch]' 2>/dev/null | sort)
shells=$(find run check .ci scripts kernel tests images deploy -type f -size -64k -exec grep -lE '^#!/bin/(ba)?sh' {} + 2>/dev/null)
units=$(sed -n 's/^ *"file": "\.\.\/\(src\/.*\.c\)",$/\1/p' "$build/compile_commands.json" | sort -u)

if [ "${1:-}" = fmt ]; then
	# shellcheck disable=SC2086 # lists of words, here and below
	exec clang-format -i $sources
fi

n=0 failed=0
tool() {
	name=$1 what=$2
	shift 2
	n=$((n + 1))
	if output=$("$@" 2>&1); then
		echo "ok $n - $name: $what"
	else
		failed=$((failed + 1))
		echo "$output" | sed 's/^/# /'
		echo "not ok $n - $name: $what"
	fi
}

# Writable data outside functions and inside: only what tests/lint/globals lists with a reason.
globals() {
	find "$build/src" -name '*.o' | sort | xargs nm -f sysv --defined-only |
		awk -F'|' 'FNR == NR { if ($0 !~ /^#/ && $0 != "") { split($0, w, " "); allowed[w[1] " " w[2]] = 1 } next }
			/^Symbols from/ || /:$/ { file = $0; sub(/.*\//, "", file); sub(/\.o.*/, "", file); next }
			$7 ~ /\.(data|bss|tdata|tbss|ldata|lbss)($|[. ])/ && $7 !~ /data\.rel\.ro/ {
				name = $1; gsub(/ /, "", name); sub(/\.[0-9]+$/, "", name)
				if (!((file " " name) in allowed)) { print file ": writable: " name; bad = 1 } }
			END { exit bad }' tests/lint/globals -
}

tidy() {
	echo "$units" | xargs -P "$(nproc)" -n 4 clang-tidy -p "$build" --quiet --warnings-as-errors='*' >build/tidy.log 2>/dev/null ||
		{ cat build/tidy.log && return 1; }
}

echo 1..6
# shellcheck disable=SC2086
tool clang-format "the one format" clang-format --dry-run -Werror $sources
tool clang-tidy "the short list" tidy
# shellcheck disable=SC2086
tool cppcheck "nothing found" cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,portability -j "$(nproc)" \
	--inline-suppr --suppressions-list=tests/lint/cppcheck -I src -D_GNU_SOURCE src
tool codespell "words are spelled right" codespell -q 3 -S './build*,./.git' -I tests/lint/spelling
# shellcheck disable=SC2086
tool shellcheck "scripts" shellcheck $shells
tool globals "no mutable globals" globals
[ "$failed" -eq 0 ]
