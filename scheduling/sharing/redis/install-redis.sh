#!/usr/bin/env bash
# Prints where redis-server is, which the tests of this module start. Where it is not on
# PATH, it is unpacked from Debian's packages, without installing them and without being root:
#   ${XDG_CACHE_HOME:-~/.cache}/inferpick-redis/redis-server
# What has been unpacked once is used again. apt checks what it downloads.
set -euo pipefail

if command -v redis-server; then
	exit
fi
folder=${XDG_CACHE_HOME:-$HOME/.cache}/inferpick-redis
program=$folder/redis-server
runs() { "$program" --version 2>&1 | grep -q 'Redis server v='; }

if [ -x "$program" ] && runs; then
	echo "$program"
	exit
fi
for tool in apt-get dpkg-deb; do
	command -v "$tool" >/dev/null || { echo "install-redis: redis-server is not on PATH, and there is no $tool to get it with" >&2; exit 1; }
done

mkdir -p "$folder"
exec 9>"$folder/lock" # who comes meanwhile waits
flock 9
if ! { [ -x "$program" ] && runs; }; then
	root=$folder/root
	rm -rf "$root" "$folder/packages"
	mkdir -p "$root" "$folder/packages"
	chmod 755 "$folder" "$folder/packages" # apt downloads as a user of its own if it can
	download() { (cd "$folder/packages" && apt-get download redis-server redis-tools liblzf1 libjemalloc2 libatomic1) >"$folder/log" 2>&1; }
	# The lists of packages may be missing, or old.
	download || { [ "$(id -u)" = 0 ] && apt-get update >/dev/null 2>&1 && download; } || {
		cat "$folder/log" >&2
		echo "install-redis: the packages cannot be downloaded" >&2
		exit 1
	}
	for package in "$folder"/packages/*.deb; do
		dpkg-deb -x "$package" "$root"
	done
	rm -rf "$folder/packages"
	libraries=$(find "$root" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
	cat >"$program.new" <<-END
		#!/bin/sh
		export LD_LIBRARY_PATH='$libraries'
		exec '$root/usr/bin/redis-server' "\$@"
	END
	chmod +x "$program.new"
	mv "$program.new" "$program"
fi
runs || { "$program" --version >&2 || true; echo "install-redis: $program does not run here" >&2; exit 1; }
echo "$program"
