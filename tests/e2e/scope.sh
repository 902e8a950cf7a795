#!/bin/sh
# Runs inside scripts/test-host.sh, where a systemd of a user's own, and before it the system's, have cgroups to rule over. scope.sh SKERRY; test_scope.c
# reads what it prints.
set -eu
skerry=$1
recorded() { sed -n "s/^ *\"$1\": \([0-9]*\),*\$/\1/p" "$SKERRY_HOME/run/m/state.json"; }
cgroup() { cat "/proc/$(recorded "$1")/cgroup"; }

# await SOCKET LOG: a manager answers there.
await() {
	n=0
	until [ -S "$1" ]; do
		n=$((n + 1))
		[ $n -lt 3000 ] || { cat "$2" && exit 1; }
		sleep 0.1
	done
}

# await_end PID: it has given back what it had open.
await_end() {
	n=0
	while state=$(cut -d ' ' -f 3 "/proc/$1/stat" 2>/dev/null) && [ "$state" != Z ]; do
		n=$((n + 1))
		[ $n -lt 3000 ] || exit 1
		sleep 0.1
	done
}

# A manager removes a scope in its own time.
await_no_scope() {
	n=0
	while [ -n "$(find /sys/fs/cgroup -name 'skerry-*')" ]; do
		n=$((n + 1))
		[ $n -lt 3000 ] || { find /sys/fs/cgroup -name 'skerry-*' && exit 1; }
		sleep 0.1
	done
}

# The system's manager is the first process of a system: here, of namespaces.
case ${2-} in
first)
	echo 0 >/sys/fs/cgroup/system/cgroup.procs
	exec unshare --cgroup "$0" "$skerry" second
	;;
second)
	mount -t proc proc /proc
	mount -t tmpfs run /run
	umount /sys/fs/cgroup
	mount -t cgroup2 cgroup /sys/fs/cgroup
	mount -t tmpfs none /lib/systemd/system-generators
	mkdir -p /run/systemd/system /sys/fs/cgroup/session
	printf '[Unit]\nDefaultDependencies=no\n' >/run/systemd/system/nothing.target
	exec env container=test /lib/systemd/systemd --system --unit=nothing.target --log-target=console
	;;
root)
	echo 0 >/sys/fs/cgroup/session/cgroup.procs
	"$skerry" doctor | sed -n 's/^logout/root: &/p'
	"$skerry" create m --image tiny --memory 96M
	"$skerry" start m
	case $(cgroup monitor_pid) in *:/system.slice/skerry-m-*.scope) echo "root: the monitor is in a scope" ;; esac
	case $(cgroup engine_pid) in *.scope/skerry-*) echo "root: the engine is in a cgroup below" ;; esac
	"$skerry" delete --force -y m
	await_no_scope
	exit
	;;
esac
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
	mkdir /sys/fs/cgroup/system
	unshare --pid --fork --kill-child --mount "$0" "$skerry" first >"$home/system.log" 2>&1 &
	namespaces=$!
	until system=$(pgrep -P $namespaces); do
		[ -d /proc/$namespaces ] || { cat "$home/system.log" && exit 1; }
		sleep 0.1
	done
	await "/proc/$system/root/run/systemd/private" "$home/system.log"
	SKERRY_HOME="$home/skerry" nsenter -t "$system" --pid --mount --root --cgroup "$0" "$skerry" root || cat "$home/system.log"
	kill -9 "$system"
	: >/var/lib/systemd/linger/nobody
	chown -R nobody "$home" /sys/fs/cgroup/user /var/lib/systemd/linger
	chmod 700 "$home/runtime"
	echo $$ >/sys/fs/cgroup/user/cgroup.procs
	export HOME="$home" XDG_RUNTIME_DIR="$home/runtime" SKERRY_HOME="$home/skerry"
	exec setpriv --reuid=nobody --regid=nogroup --clear-groups "$0" "$skerry"
fi

unset DBUS_SESSION_BUS_ADDRESS
/lib/systemd/systemd --user >"$HOME/systemd.log" 2>&1 &
manager=$!
await "$XDG_RUNTIME_DIR/systemd/private" "$HOME/systemd.log"

"$skerry" doctor | grep '^logout' || true
"$skerry" create m --image tiny --memory 96M
"$skerry" start m
case $(cgroup monitor_pid) in *.slice/skerry-m-*.scope) echo "the monitor is in a scope" ;; esac
case $(cgroup engine_pid) in *.scope/skerry-*) echo "the engine is in a cgroup below" ;; esac
scope=$(cgroup monitor_pid)
monitor=$(recorded monitor_pid)
kill -9 "$monitor"
await_end "$monitor"
"$skerry" start m
case $(cgroup monitor_pid) in "$scope") ;; *.slice/skerry-m-*.scope) echo "the next monitor is in another" ;; esac
"$skerry" kill m
await_no_scope
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
