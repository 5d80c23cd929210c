#!/usr/bin/env bash
# Checks and tests the tree.
#   ./test.sh          every module, and in short with the race detector where there are goroutines
#                      of ours; one that has a build.sh of its own is built by that instead;
#                      those of integration run beside the others and are printed after them;
#                      the root module is checked without the workspace, and tested on 32 bits
#   ./test.sh -short   the root module alone, without its long tests: for while you work
set -euo pipefail
cd "$(dirname "$0")"

staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2

step() { printf '\n== %s\n' "$*"; }

# concurrent lists the packages of the module here that start goroutines or lock, or whose
# tests do; without simulations, of which each is one goroutine and takes minutes with the
# detector: what they share, the traces, is tested apart.
concurrent() {
	git grep -lE '"sync(/atomic)?"|"golang.org/x/sync/|"net/http|^\s*go [a-z]|\.Go\(' -- '*.go' | xargs -n1 dirname | sort -u | sed 's|^|./|; s|^\./\.$|.|' |
		grep -xFf <(go list -f '{{.Dir}}' ./... | sed "s|^$PWD|.|") | grep -vxE '\./internal/house|\./scheduling/simulation' || true
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

# check checks and tests the module in a folder.
check() {
	local dir=$1
	if [ -x "$dir/build.sh" ]; then
		step "$dir: build"
		"$dir/build.sh"
		return
	fi
	step "$dir: vet, staticcheck"
	(cd "$dir" && go vet ./... && go run "$staticcheck" ./...)
	# Modules beside the root drive programs of the tree, which the test cache does
	# not see change.
	local count=()
	[ "$dir" = . ] || count=(-count=1)
	step "$dir: tests"
	(cd "$dir" && go test "${count[@]}" ./...)
	# These drive programs, guests or single threads, in which it sees nothing; or they are little more than
	# a client's library, which takes minutes to build with it.
	case $dir in integration/* | examples/caddy | examples/simulator | examples/wasm | scheduling/sharing/*) return ;; esac
	step "$dir: short tests with the race detector"
	(cd "$dir" && concurrent | xargs -r go test -race -short "${count[@]}")
	[ "$dir" != . ] || go test -race -short -run Trace ./scheduling/simulation
}

# modules are the folders of all modules but the root.
modules() { git ls-files -co --exclude-standard '*/go.mod' | xargs -n1 dirname; }

# The root comes first: what is wrong there is wrong everywhere.
check .

# Those of integration mostly wait for programs that they drive: they run beside the others, and
# what they say comes after them.
said=$(mktemp)
(
	for dir in $(modules | grep '^integration/'); do check "$dir"; done
) >"$said" 2>&1 &
integration=$!
trap 'kill "$integration" 2>/dev/null || true; rm -f "$said"' EXIT
for dir in $(modules | grep -v '^integration/'); do check "$dir"; done
wait $integration || failed=$?
cat "$said"
[ -z "${failed:-}" ] || exit "$failed"

step "root module without the workspace"
GOWORK=off go vet ./...

step "root module on 32 bits"
GOWORK=off GOARCH=386 go vet ./...
GOWORK=off GOARCH=386 CGO_ENABLED=0 go test -short ./types/... ./openai/... ./internal/... ./plugins ./datastore ./datastore/rollout \
	./scheduling ./scheduling/admission ./scheduling/autoscale ./scheduling/director ./scheduling/telemetry

step "all passed"
