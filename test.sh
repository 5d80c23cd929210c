#!/usr/bin/env bash
# Checks and tests every module of the tree: ./test.sh
# The root module is tested once more without the workspace, so that it stands alone.
set -euo pipefail
cd "$(dirname "$0")"

staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2

step() { printf '\n== %s\n' "$*"; }

step gofmt
unformatted=$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l)
if [ -n "$unformatted" ]; then
	printf 'not formatted, run gofmt -w:\n%s\n' "$unformatted" >&2
	exit 1
fi

while read -r mod; do
	dir=$(dirname "$mod")
	step "$dir: vet, staticcheck"
	(cd "$dir" && go vet ./... && go run "$staticcheck" ./...)
	# Modules beside the root drive programs of the tree, which the test cache does
	# not see change.
	count=()
	[ "$dir" = . ] || count=(-count=1)
	step "$dir: tests"
	(cd "$dir" && go test "${count[@]}" ./...)
	step "$dir: tests with the race detector"
	(cd "$dir" && go test -race "${count[@]}" ./...)
done < <(git ls-files -co --exclude-standard 'go.mod' '*/go.mod')

step "root module without the workspace"
GOWORK=off go test ./...

step "all passed"
