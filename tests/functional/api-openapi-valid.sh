#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The OpenAPI document passes a validator that is not ours, and a broken one does not.
set -u
command -v npm >/dev/null || { echo "skipped: npm is not installed"; exit 77; }
dir=$(mktemp -d) || exit 1
daemon=$(find "$ORION_BUILD" -name oriond -type f -perm -u+x | head -1)
pid=
trap '[ -n "$pid" ] && kill "$pid" && wait "$pid"; rm -rf "$dir"' EXIT
cd "$dir" || exit 1
timeout 60 npm install --no-audit --no-fund --silent @seriousme/openapi-schema-validator@2 >/dev/null 2>&1
validate=$dir/node_modules/.bin/validate-api
[ -x "$validate" ] || { echo "skipped: npm cannot fetch the validator"; exit 77; }

"$daemon" --foreground --state-dir "$dir/state" --api "unix:$dir/api" 2>"$dir/log" &
pid=$!
for _ in $(seq 200); do
    curl -sf --unix-socket "$dir/api" http://x/readyz >/dev/null && break
    sleep 0.05
done
curl -sf --unix-socket "$dir/api" http://x/openapi.json >"$dir/openapi.json" || exit 1
"$validate" "$dir/openapi.json" >"$dir/out" 2>&1
good=$?
cat "$dir/out"
sed 's/"responses"/"answers"/' "$dir/openapi.json" >"$dir/broken.json"
"$validate" "$dir/broken.json" >"$dir/out2" 2>&1 && { echo "FAILED: it takes a broken document"; exit 1; }
exit $good
