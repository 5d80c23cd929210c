#!/usr/bin/env bash
# Checks and tests the tree.
#   ./test.sh          every module, and in short with the race detector where there are goroutines
#                      of ours; one that has a build.sh of its own is built by that instead;
#                      the root module is checked without the workspace, and tested on 32 bits
#   ./test.sh -short   the root module alone, without its long tests: for while you work
set -euo pipefail
cd "$(dirname "$0")"

staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2

step() { printf '\n== %s\n' "$*"; }

# concurrent lists the packages of the module here that start goroutines or lock, or whose
# tests do.
concurrent() {
	git grep -lE '"sync(/atomic)?"|"golang.org/x/sync/|"net/http|^\s*go [a-z]|\.Go\(' -- '*.go' | xargs -n1 dirname | sort -u | sed 's|^|./|; s|^\./\.$|.|' |
		grep -xFf <(go list -f '{{.Dir}}' ./... | sed "s|^$PWD|.|") | grep -vx ./internal/house || true
}

case "${1:-}" in
'' | -short) ;;
*)
	echo "usage: $0 [-short]" >&2
	exit 2
	;;
esac

step gofmt
unformatted=$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l)
if [ -n "$unformatted" ]; then
	printf 'not formatted, run gofmt -w:\n%s\n' "$unformatted" >&2
	exit 1
fi

if [ "${1:-}" = -short ]; then
	step "vet, short tests"
	go vet ./...
	go test -short ./...
	step "passed; ./test.sh tests all"
	exit
fi

# The root comes first: what is wrong there is wrong everywhere.
while read -r mod; do
	dir=$(dirname "$mod")
	if [ -x "$dir/build.sh" ]; then
		step "$dir: build"
		"$dir/build.sh"
		continue
	fi
	step "$dir: vet, staticcheck"
	(cd "$dir" && go vet ./... && go run "$staticcheck" ./...)
	# Modules beside the root drive programs of the tree, which the test cache does
	# not see change.
	count=()
	[ "$dir" = . ] || count=(-count=1)
	step "$dir: tests"
	(cd "$dir" && go test "${count[@]}" ./...)
	# These drive programs, guests or single threads, in which it sees nothing; or they are little more than
	# a client's library, which takes minutes to build with it.
	case $dir in integration/* | examples/simulator | examples/wasm | scheduling/sharing/*) continue ;; esac
	step "$dir: short tests with the race detector"
	(cd "$dir" && concurrent | xargs -r go test -race -short "${count[@]}")
done < <(echo go.mod && git ls-files -co --exclude-standard '*/go.mod')

step "root module without the workspace"
GOWORK=off go vet ./...

step "root module on 32 bits"
GOWORK=off GOARCH=386 go vet ./...
GOWORK=off GOARCH=386 CGO_ENABLED=0 go test -short ./types/... ./openai/... ./internal/... ./plugins/... ./datastore/... \
	./scheduling ./scheduling/admission/... ./scheduling/director ./scheduling/telemetry

step "all passed"
