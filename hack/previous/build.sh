#!/usr/bin/env bash
# Builds the operator and the agent of the version that the file beside this names, once, and prints their folder.
#
# Environment:
#   WORKERPOOL_CACHE   where built programs are kept (default: workerpool in the user's cache folder)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$(grep -v '^#' "$here/version")
cache=${WORKERPOOL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/workerpool}

commit=$(git -C "$here" rev-parse --verify --quiet "$version^{commit}") || {
  echo "previous: this clone does not have $version, which hack/previous/version names; if it is shallow: git fetch --unshallow --tags" >&2
  exit 1
}
folder=$cache/previous-$commit
if [[ ! -d $folder ]]; then
  mkdir -p "$cache"
  work=$(mktemp -d -p "$cache")
  trap 'rm -rf "$work"' EXIT
  echo "previous: building $version (usually 20 s)" >&2
  mkdir "$work/source" "$work/bin"
  git -C "$here/../.." archive --format=tar "$commit" | tar -x -C "$work/source"
  (cd "$work/source" && CGO_ENABLED=0 go build -buildvcs=false -trimpath -o "$work/bin/" ./cmd/manager ./cmd/agent) >&2
  # It appears when it is complete; another may have been quicker.
  mv -T "$work/bin" "$folder" 2>/dev/null || [[ -d $folder ]]
fi
printf '%s\n' "$folder"
