#!/usr/bin/env bash
# Installs the pinned tools of the template's checks, of the deployed test and of the query test below target/tools, each set in an
# environment of its own, because they pin different versions of the same libraries. Does nothing the second time.
#
#   tests/deployed/setup.sh [sam|ministack|aws|checkov|deny|query]...     all of them by default
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tools=$(cd "$here/../.." && pwd)/target/tools
mkdir -p "$tools"

for name in "${@:-sam ministack aws checkov deny query}"; do
  for tool in $name; do
    wanted=$here/requirements-$tool.txt
    if [ ! -f "$wanted" ]; then
      echo "setup.sh: no such tool: $tool (known: sam, ministack, aws, checkov, deny, query)" >&2
      exit 2
    fi
    if cmp -s "$wanted" "$tools/$tool/installed.txt"; then
      continue
    fi
    echo "setup.sh: installing $tool" >&2
    rm -rf "${tools:?}/$tool"
    python3 -m venv "$tools/$tool"
    "$tools/$tool/bin/pip" install --quiet --disable-pip-version-check --no-input -r "$wanted"
    cp "$wanted" "$tools/$tool/installed.txt"
  done
done
