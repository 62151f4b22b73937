#!/usr/bin/env bash
# Runs the queries of docs/QUERY.md on an archive: the one named, or a fresh demo.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
archive=${1:-}
if [[ -z $archive ]]; then
  archive=$work/archive
  cargo run --quiet --bin insights-archive -- demo --weeks 2 --archive "$archive"
fi
venv=${QUERY_VENV:-$work/venv}
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/query/requirements.txt
"$venv/bin/python" tests/query/query.py "$archive"
