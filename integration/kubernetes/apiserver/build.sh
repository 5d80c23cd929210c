#!/usr/bin/env bash
# Builds the API server of the tests, where it is not there yet, and prints where it is:
#   ${INFERPICK_APISERVER:-~/.cache/inferpick-apiserver}/KEY/kube-apiserver
# A build takes 5 to 10 minutes on 2 cores the first time, as a log on stderr says; who
# comes meanwhile waits for it. -path only prints where it is or would be.
set -euo pipefail
cd "$(dirname "$0")"
export GOWORK=off

key=$(cat go.mod go.sum ./*.go | sha256sum | cut -c1-16)-$(go env GOVERSION)
folder=${INFERPICK_APISERVER:-$HOME/.cache/inferpick-apiserver}/$key
program=$folder/kube-apiserver

if [ "${1:-}" != -path ] && [ ! -x "$program" ]; then
	mkdir -p "$folder"
	exec 9>"$folder/lock"
	flock 9
	if [ ! -x "$program" ]; then
		if ! go mod download >&2; then
			echo "the API server's modules cannot be downloaded: tests that need it are skipped" >&2
			exit
		fi
		echo "building $program" >&2
		nice go vet -trimpath . >&2
		version=$(awk '$1 == "k8s.io/kubernetes" { print $2 }' go.mod)
		nice go build -trimpath -ldflags="-s -w -X k8s.io/component-base/version.gitVersion=$version" -o "$program.new" . >&2
		mv "$program.new" "$program"
		echo "built in $SECONDS s" >&2
	fi
fi
echo "$program"
