#!/bin/sh
# Puts the containerd runtime on a node and takes it away again: `install.sh install`, `remove`, or `run`, which is both: what the DaemonSet's container
# does, until it is told to end. Each may be done any number of times. The environment says where, for what is not as usual:
#
#   HOST            where the node's root file system is mounted (/host; empty: this is it)
#   PAYLOAD         what is installed: bin/, libexec/, kernels/ (/payload)
#   PREFIX          where to on the node (/opt/skerry)
#   LINKS           directory of containerd's PATH (/usr/local/bin)
#   DATA            kernels' home (/var/lib/skerry)
#   ETC             containerd's configuration (/etc/containerd)
#   RUN             where shims that live are named (/run/skerry)
#   RESTART         what has containerd read its configuration again, run on the node ("systemctl restart containerd"; empty: nothing)
#   NODE_NAME       with kubectl here: the node that gets the label skerry.io/runtime=true
set -eu
: "${HOST=/host}" "${PAYLOAD:=/payload}" "${PREFIX:=/opt/skerry}" "${LINKS:=/usr/local/bin}" "${DATA:=/var/lib/skerry}" "${ETC:=/etc/containerd}"
: "${RUN:=/run/skerry}" "${RESTART=systemctl restart containerd}"
shim=containerd-shim-skerry-v1 label=skerry.io/runtime
begin='# skerry: begin' end='# skerry: end'
config=$HOST$ETC/config.toml dropin=$ETC/conf.d/skerry.toml
# There while containerd has not read what was written.
unread=$HOST$PREFIX.unread

say() { echo "skerry-installer: $*" >&2; }

on_host() {
	if [ -n "$HOST" ]; then chroot "$HOST" "$@"; else "$@"; fi
}

# 2 for containerd 1.x, 3 for 2.x: its configuration tells, else it does itself.
config_version() {
	version=$(sed -n 's/^version *= *\([0-9]*\).*/\1/p' "$config" 2>/dev/null | head -n 1)
	if [ -z "$version" ]; then
		case $(on_host containerd --version 2>/dev/null) in *" v2."* | *" 2."*) version=3 ;; *) version=2 ;; esac
	fi
	echo "$version"
}

# replace FILE: standard input takes its place at once, with its mode.
replace() {
	[ ! -e "$1" ] || cp -p "$1" "$1.skerry"
	cat >"$1.skerry"
	mv "$1.skerry" "$1"
}

# The configuration without what is ours.
plain() {
	[ ! -e "$config" ] || sed "/^$begin\$/,/^$end\$/d; s|\"$dropin\", ||; s|\"$dropin\"||" "$config"
}

# In our part where there is no configuration but ours: so it goes with it.
version() {
	plain | grep -q '[^[:space:]]' || echo "version = $1"
}

# containerd 1.x takes a file that does not tell for one of version 1, in which our tables mean nothing. Of version 2 it is as well where it has no
# name of a plugin in it.
is_mute() {
	plain | grep -q '[^[:space:]]' && ! plain | grep -q '^version *='
}

check_config() {
	[ "$(config_version)" -lt 3 ] || return 0
	plain | grep -q '^version *= *1 *\(#.*\)\?$' ||
		{ is_mute && plain | grep -q -e '^ *\[plugins' -e '^ *\(disabled\|required\)_plugins *= *\[ *[^] ]' -e '^ *\(disabled\|required\)_plugins *= *\[ *$'; } ||
		return 0
	say "$ETC/config.toml is of version 1 (which it is without a line \"version = 2\") and names plugins as that version does: \
bring it to version 2 first (containerd config default shows one)"
	exit 78
}

runtime() {
	cat <<END
[plugins.'$1'.containerd.runtimes.skerry]
  runtime_type = "io.containerd.skerry.v1"
  pod_annotations = ["io.skerry.*"]
  container_annotations = ["io.skerry.*"]
END
	[ "$2" = alone ] || cat <<END
[plugins.'$1'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
END
}

# A file that is imported replaces a plugin's whole section in containerd 1.x: there, what is added goes into the file itself, and runc's runtime with it,
# unless the file names runtimes already.
configure() {
	mkdir -p "$HOST$ETC/conf.d"
	if [ "$(config_version)" -ge 3 ]; then
		{ echo 'version = 3' && runtime io.containerd.cri.v1.runtime alone; } | replace "$HOST$dropin"
		if plain | grep -q "^imports *=.*conf\.d/\*\.toml"; then
			: # it reads the directory as it is
		elif plain | grep -q '^imports *= *\['; then
			plain | sed "s|^imports *= *\[|&\"$dropin\", |" | replace "$config"
		else
			{ echo "$begin" && version 3 && echo "imports = [\"$dropin\"]" && echo "$end" && plain; } | replace "$config"
		fi
	else
		also=with-runc
		! plain | grep -q '^ *\[plugins\..*containerd\.runtimes\.' || also=alone
		{
			! is_mute || printf '%s\nversion = 2\n%s\n' "$begin" "$end"
			plain && echo "$begin" && version 2 && runtime io.containerd.grpc.v1.cri $also && echo "$end"
		} | replace "$config"
	fi
}

# Restarted only when something is to be read: pods run on, but nobody likes it.
reread() {
	[ -n "$RESTART" ] || return 0
	# shellcheck disable=SC2086 # words
	on_host $RESTART
}

written() {
	cat "$config" "$HOST$dropin" 2>/dev/null || :
}

# write_and_reread COMMAND: and when containerd did not read what an earlier one wrote, it does now.
write_and_reread() {
	before=$(written)
	[ ! -e "$unread" ] || before="and unread: $before"
	mkdir -p "${unread%/*}"
	: >"$unread"
	"$1"
	[ "$before" = "$(written)" ] || reread
	rm -f "$unread"
}

label_node() {
	[ -n "${NODE_NAME:-}" ] || return 0
	if command -v kubectl >/dev/null; then
		kubectl label node "$NODE_NAME" --overwrite "$1"
	else
		say "no kubectl here: the node's label $1 is somebody else's to set"
	fi
}

# What is copied is whole, and runs here, before it takes the place of what is there: a shim that runs keeps its own.
copy() {
	rm -rf "$HOST$PREFIX.new" "$HOST$PREFIX.old"
	mkdir -p "$HOST$PREFIX.new"
	cp -a "$PAYLOAD/bin" "$PAYLOAD/libexec" "$HOST$PREFIX.new/"
	on_host "$PREFIX.new/bin/$shim" -v >/dev/null || {
		say "the shim does not run on this node: a library of Debian's is missing (see above)"
		rm -rf "$HOST$PREFIX.new"
		exit 69
	}
	mkdir -p "$HOST$LINKS" "$HOST$DATA/kernels"
	[ ! -e "$HOST$PREFIX" ] || mv "$HOST$PREFIX" "$HOST$PREFIX.old"
	mv "$HOST$PREFIX.new" "$HOST$PREFIX"
	rm -rf "$HOST$PREFIX.old"
	ln -sfn "$PREFIX/bin/$shim" "$HOST$LINKS/$shim"
	for kernel in "$PAYLOAD"/kernels/*/; do
		name=$(basename "$kernel")
		if [ ! -d "$kernel" ] || [ -e "$HOST$DATA/kernels/$name" ]; then continue; fi
		rm -rf "$HOST$DATA/kernels/.tmp-$name"
		cp -a "$kernel" "$HOST$DATA/kernels/.tmp-$name"
		mv "$HOST$DATA/kernels/.tmp-$name" "$HOST$DATA/kernels/$name"
	done
}

# What the runtime executes and this does not bring.
check() {
	missing=
	for program in qemu-system-x86_64 crun; do
		on_host sh -c "command -v $program" >/dev/null 2>&1 || missing="$missing $program"
	done
	[ -e "$HOST/usr/libexec/virtiofsd" ] || [ -e "$HOST/usr/lib/qemu/virtiofsd" ] || [ -e "$HOST/usr/lib/virtiofsd" ] ||
		missing="$missing virtiofsd"
	[ -z "$missing" ] || { say "the node lacks$missing (Debian: apt-get install qemu-system-x86 qemu-system-common crun)"; exit 69; }
}

install() {
	[ -e "$PAYLOAD/bin/$shim" ] || { say "$PAYLOAD: nothing to install"; exit 66; }
	check
	check_config
	copy
	write_and_reread configure
	label_node "$label=true"
	say "installed in $PREFIX"
}

unconfigure() {
	if [ -e "$config" ]; then
		plain | sed '/^imports *= *\[ *\]/d' | replace "$config"
		[ -s "$config" ] || rm -f "$config"
	fi
	rm -f "$HOST$dropin"
	rmdir "$HOST$ETC/conf.d" 2>/dev/null || :
}

# How many shims live: each is named by a link to its bundle, where its record is.
living() {
	n=0
	for link in "$HOST$RUN"/.shims/*; do
		bundle=$(readlink "$link") || continue
		pid=$(sed -n 's/.*"shim_pid": *\([0-9]*\).*/\1/p' "$HOST$bundle/skerry.json" 2>/dev/null | head -n 1)
		if [ -n "$pid" ] && [ "$(cat "$HOST/proc/$pid/comm" 2>/dev/null)" = skerry-shim ]; then n=$((n + 1)); fi
	done
	echo $n
}

# A containerd that starts and does not find the shim's program forgets the pods that it has by it, and they run on beside those that follow them.
remove() {
	label_node "$label-" || :
	write_and_reread unconfigure
	living=$(living)
	if [ "$living" -gt 0 ]; then
		say "$living of its machines run: $PREFIX and $LINKS/$shim stay; remove again when they have ended"
		return 0
	fi
	rm -rf "$HOST$PREFIX" "$HOST$PREFIX.new" "$HOST$PREFIX.old"
	[ "$(readlink "$HOST$LINKS/$shim" 2>/dev/null)" != "$PREFIX/bin/$shim" ] || rm -f "$HOST$LINKS/$shim"
	say "removed"
}

case ${1:-} in
install | remove) "$1" ;;
run)
	waiting=
	trap 'kill "$waiting" 2>/dev/null || :; remove; exit 0' TERM INT
	install
	while :; do
		sleep 86400 &
		waiting=$!
		wait "$waiting" || :
	done
	;;
*)
	echo "usage: install.sh install|remove|run" >&2
	exit 64
	;;
esac
