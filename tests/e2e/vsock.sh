#!/bin/sh
# Runs inside scripts/test-host.sh, where /dev/vhost-vsock is. vsock.sh SKERRY UNIT-TEST; test_vsock.c reads what it prints.
set -eu
skerry=$1
$2
SKERRY_HOME=$(mktemp -d /tmp/vsock-XXXXXX)
export SKERRY_HOME
"$skerry" version >/dev/null
cp -a "$SKERRY_TEST_STORE/images" "$SKERRY_TEST_STORE/kernels" "$SKERRY_HOME/"

# recorded NAME KEY: a number of its record.
recorded() { sed -n "s/^ *\"$2\": \([0-9]*\),*\$/\1/p" "$SKERRY_HOME/run/$1/state.json"; }

# await_end PID: it has given back what it had open.
await_end() {
	n=0
	while state=$(cut -d ' ' -f 3 "/proc/$1/stat" 2>/dev/null) && [ "$state" != Z ]; do
		n=$((n + 1))
		[ $n -lt 3000 ] || exit 1
		sleep 0.1
	done
}

"$skerry" doctor | grep '^vsock'
"$skerry" create first --image tiny --memory 96M
mkdir "$SKERRY_HOME/machines/second"
cp "$SKERRY_HOME"/machines/first/* "$SKERRY_HOME/machines/second/" 2>/dev/null || true
sed -i 's/"name": "first"/"name": "second"/' "$SKERRY_HOME/machines/second/machine.json"

"$skerry" start first
"$skerry" wait --for agent --timeout 400 first
[ ! -e "$SKERRY_HOME/run/first/agent.sock" ] && [ "$(recorded first vsock_cid)" -gt 65535 ] && echo "reached over vsock"
"$skerry" exec first echo "hello from the guest"
"$skerry" exec first dd if=/dev/zero bs=1M count=4 2>/dev/null | wc -c

# Its own cgroup, of version 2 here; none is left below.
find /sys/fs/cgroup -name 'skerry-*' -exec cat {}/cgroup.procs \; | grep -x "$(recorded first engine_pid)" >/dev/null && echo "in a cgroup of its own"

# One that wants the same address: their ids are equal, as no two that skerry makes are.
"$skerry" start second
[ "$(recorded first vsock_cid)" != "$(recorded second vsock_cid)" ] && echo "another address for the second"
"$skerry" kill second

monitor=$(recorded first monitor_pid)
kill -9 "$monitor"
await_end "$monitor"
"$skerry" exec first echo "hello to a new monitor"
"$skerry" stop first
[ ! -e "$SKERRY_HOME/run/first" ] && [ -z "$(find /sys/fs/cgroup -name 'skerry-*')" ] && echo "stopped"
