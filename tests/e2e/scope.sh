#!/bin/sh
# Runs inside scripts/test-host.sh, where a systemd of a user's own has cgroups to rule over. scope.sh SKERRY; test_scope.c reads what it prints.
set -eu
skerry=$1
if [ "$(id -u)" -eq 0 ]; then
	home=$(mktemp -d /tmp/scope-XXXXXX)
	mkdir -p /run/systemd/system /var/lib/systemd/linger "$home/runtime" "$home/skerry" /sys/fs/cgroup/user
	cp -a "$SKERRY_TEST_STORE/images" "$SKERRY_TEST_STORE/kernels" "$home/skerry/"
	# The user need not see where the tests are: nothing of this is written to the disk.
	for d in "$0" "$skerry" "$(dirname "$skerry")"/../*/skerry-*; do
		until [ "$d" = / ]; do
			[ -L "$d" ] || chmod o+rx "$d"
			d=$(dirname "$d")
		done
	done
	: >/var/lib/systemd/linger/nobody
	chown -R nobody "$home" /sys/fs/cgroup/user /var/lib/systemd/linger
	chmod 700 "$home/runtime"
	echo $$ >/sys/fs/cgroup/user/cgroup.procs
	export HOME="$home" XDG_RUNTIME_DIR="$home/runtime" SKERRY_HOME="$home/skerry"
	exec setpriv --reuid=nobody --regid=nogroup --clear-groups "$0" "$skerry"
fi

recorded() { sed -n "s/^ *\"$1\": \([0-9]*\),*\$/\1/p" "$SKERRY_HOME/run/m/state.json"; }
cgroup() { cat "/proc/$(recorded "$1")/cgroup"; }

unset DBUS_SESSION_BUS_ADDRESS
/lib/systemd/systemd --user >"$HOME/systemd.log" 2>&1 &
manager=$!
n=0
until [ -S "$XDG_RUNTIME_DIR/systemd/private" ]; do
	n=$((n + 1))
	[ $n -lt 600 ] || { cat "$HOME/systemd.log" && exit 1; }
	sleep 0.1
done

"$skerry" doctor | grep '^logout' || true
"$skerry" create m --image tiny --memory 96M
"$skerry" start m
case $(cgroup monitor_pid) in *.slice/skerry-m-*.scope) echo "the monitor is in a scope" ;; esac
case $(cgroup engine_pid) in *.scope/skerry-*) echo "the engine is in a cgroup below" ;; esac
scope=$(cgroup monitor_pid)
kill -9 "$(recorded monitor_pid)"
"$skerry" start m
case $(cgroup monitor_pid) in "$scope") ;; *.slice/skerry-m-*.scope) echo "the next monitor is in another" ;; esac
"$skerry" kill m
n=0
while [ -n "$(find /sys/fs/cgroup -name 'skerry-*')" ]; do
	n=$((n + 1))
	[ $n -lt 300 ] || { find /sys/fs/cgroup -name 'skerry-*' && exit 1; }
	sleep 0.1
done
echo "no scope is left"

rm /var/lib/systemd/linger/nobody
"$skerry" doctor | grep '^logout' || true
"$skerry" start m
case $(cgroup monitor_pid) in *skerry-m*) ;; *) echo "a manager that does not stay is not used" ;; esac
"$skerry" kill m

# Its socket is there, and nobody answers.
: >/var/lib/systemd/linger/nobody
kill -9 $manager
wait $manager 2>/dev/null || true
"$skerry" start m
case $(cgroup monitor_pid) in *skerry-m*) ;; *) echo "a manager that is gone is done without" ;; esac
"$skerry" delete --force -y m
