#!/bin/sh
# mypy does not follow the editable finder: it sees the package through a link called bolid, whatever the checkout is called.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
seen=$(mktemp -d)
trap 'rm -rf "$seen"' EXIT
ln -s "$root" "$seen/bolid"
cd "$seen"
"${VENV:-$root/.venv}/bin/mypy" --config-file "$root/pyproject.toml" --cache-dir "$root/.mypy_cache" -p bolid
