# shellcheck shell=bash
# Messages, all on standard error, and waiting.

say() { printf 'cluster: %s\n' "$*" >&2; }

die() {
  printf 'cluster: %s\n' "$*" >&2
  exit 1
}

# poll SECONDS COMMAND...: runs the command every tenth of a second until it succeeds; fails after SECONDS.
poll() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.1
  done
}

# lock FILE SECONDS: holds the file's lock, on descriptor 9, until this program ends. Programs that are to outlive it
# must be started without that file, as start does.
lock() {
  exec 9>"$1" || die "cannot open the lock $1"
  flock --nonblock 9 && return
  say "another one is at work here; waiting up to $2 s for it"
  flock --timeout "$2" 9 || die "still locked after $2 s; 'fuser $1' shows by whom"
}

# needs COMMAND PACKAGE: remembers the Debian package if the command is missing; needs_met then says so.
missing_packages=()
needs() {
  command -v "$1" >/dev/null || [[ " ${missing_packages[*]} " == *" $2 "* ]] || missing_packages+=("$2")
}
needs_met() {
  ((${#missing_packages[@]} == 0)) || die "missing programs; on Debian: apt-get install --no-install-recommends ${missing_packages[*]}"
}
