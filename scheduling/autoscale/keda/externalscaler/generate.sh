#!/usr/bin/env bash
# Makes the Go files here of externalscaler.proto. What it needs is pinned by ../generate/go.mod.
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
cd ../generate
GOWORK=off go run . "$here" externalscaler.proto
