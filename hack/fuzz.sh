#!/usr/bin/env bash
# Runs each fuzz target of the module, one after the other, and says in the end how each went. It fails if one has failed.
#
# Environment:
#   FUZZTIME    how long each runs, as `go test -fuzztime` takes it (default: 30s)
#   FUZZTOTAL   how many seconds all run together, but each at least 60; it takes the place of FUZZTIME
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# packages prints those of the module that have a fuzz target. Others are not even started: some have a TestMain that
# wants an API server or a cluster.
packages() {
  local files='{{range .TestGoFiles}}{{$.ImportPath}} {{$.Dir}}/{{.}}{{"\n"}}{{end}}'
  go list -f "$files${files//TestGoFiles/XTestGoFiles}" ./... | while read -r package file; do
    if [[ -n $file ]] && grep -q '^func Fuzz' "$file"; then echo "$package"; fi
  done | sort -u
}

# targets prints the fuzz targets, each with its package.
targets() {
  local package name
  for package in $(packages); do
    for name in $(go test -vet=off -list '^Fuzz' "$package" | grep '^Fuzz'); do
      echo "$package $name"
    done
  done
}

found=$(targets)
if [[ -z $found ]]; then
  echo 'fuzz: there are no fuzz targets.' >&2
  exit 1
fi
mapfile -t all <<<"$found"
each=${FUZZTIME:-30s}
if [[ -n ${FUZZTOTAL:-} ]]; then
  seconds=$((FUZZTOTAL / ${#all[@]}))
  each=$((seconds < 60 ? 60 : seconds))s
fi

failed=0 summary=()
for target in "${all[@]}"; do
  read -r package name <<<"$target"
  printf '\n# %s of %s, for %s\n' "$name" "$package" "$each"
  if go test -run '^$' -fuzz "^$name\$" -fuzztime "$each" "$package"; then
    summary+=("ok    $name")
  else
    failed=$((failed + 1)) summary+=("FAIL  $name of $package")
  fi
done

printf '\n# %d fuzz targets, %d failed\n' "${#all[@]}" "$failed"
printf '%s\n' "${summary[@]}"
((failed == 0))
