#!/usr/bin/env bash
# Checks and tests the tree.
#   ./test.sh          every module, and in short with the race detector where there are goroutines
#                      of ours; one that has a build.sh of its own is built by that instead;
#                      the root module is checked without the workspace and on 32 bits
#   ./test.sh -short   the root module alone, without its long tests: for while you work
set -euo pipefail
cd "$(dirname "$0")"

staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2

step() { printf '\n== %s\n' "$*"; }

# concurrent lists those of the packages that start goroutines or lock, or whose tests do;
# without simulations, of which each is one goroutine and takes minutes with the detector: what
# they share, the traces, is tested apart.
concurrent() {
	git grep -lE '"sync(/atomic)?"|"golang.org/x/sync/|"net/http|^\s*go [a-z]|\.Go\(' -- '*.go' | xargs -n1 dirname | sort -u | sed 's|^|./|; s|^\./\.$|.|' |
		grep -xFf <(go list -f '{{.Dir}}' "$@" | sed "s|^$PWD|.|") | grep -vxE '\./internal/house|\./scheduling/simulation' || true
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
	go test -vet=off -short ./...
	step "passed; ./test.sh tests all"
	exit
fi

# Of the modules beside the root, by the patterns of their packages: all that go by go's commands,
# those that are tested with the race detector too, and folders of those with a build.sh.
beside=() raced=() built=()
for dir in $(git ls-files -co --exclude-standard '*/go.mod' | xargs -n1 dirname); do
	if [ -x "$dir/build.sh" ]; then
		built+=("$dir")
		continue
	fi
	beside+=("./$dir/...")
	# These drive programs, guests or single threads, in which it sees nothing; or they are little more than
	# a client's library, which takes minutes to build with it.
	case $dir in integration/* | examples/caddy | examples/simulator | examples/wasm | scheduling/sharing/*) continue ;; esac
	raced+=("./$dir/...")
done

# One command takes all modules, so that what they share is loaded and checked once. It makes
# much garbage, and there is room for that.
step "vet, staticcheck"
GOGC=300 go vet ./... "${beside[@]}"
GOGC=300 go run "$staticcheck" ./... "${beside[@]}"

# tests is go test. Vet has been run. Many tests wait more than they work, so that more run at a
# time than there are processors; those that wait longest are named first, so that nothing waits
# for them in the end.
tests() { go test -vet=off -p 4 "$@"; }

# The root comes first: what is wrong there is wrong everywhere.
step "root module: tests"
tests ./scheduling/director/directortest ./examples/quickstart ./scheduling/sharing/mesh ./...

step "root module: short tests with the race detector"
mapfile -t packages < <(concurrent ./...)
tests -race -short ./scheduling/director/directortest "${packages[@]}"
tests -race -short -run Trace ./scheduling/simulation

for dir in "${built[@]}"; do
	step "$dir: build"
	"$dir/build.sh"
done

# Modules beside the root drive programs of the tree, which the test cache does not see change.
step "other modules: tests"
tests -count=1 ./examples/envoy/e2e "${beside[@]}"

step "other modules: short tests with the race detector"
mapfile -t packages < <(concurrent "${raced[@]}")
tests -count=1 -race -short "${packages[@]}"

# Without the workspace, as others build it. Vet of 32 bits is that of all but a few files.
export GOWORK=off GOARCH=386 CGO_ENABLED=0

step "root module without the workspace, on 32 bits"
go vet ./...
tests -short ./types/... ./openai/... ./internal/... ./plugins ./datastore ./datastore/rollout \
	./scheduling ./scheduling/admission ./scheduling/autoscale ./scheduling/director ./scheduling/telemetry

step "all passed"
