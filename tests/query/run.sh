#!/usr/bin/env bash
# Runs the queries of docs/QUERY.md on an archive: the one named, or a fresh demo's.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
archive=${1:-}
if [[ -z $archive ]]; then
  archive=$work/archive
  # The command line as `cargo test` builds it: built by itself, its libraries would be compiled once more.
  cargo test --quiet --locked --no-run --test local
  target/debug/insights-archive demo --weeks 2 --archive "$archive" >"$work/demo.log" 2>&1 ||
    { cat "$work/demo.log" >&2; exit 1; }
fi
tests/deployed/setup.sh query
target/tools/query/bin/python tests/query/query.py "$archive"
