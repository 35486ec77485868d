# shellcheck shell=bash
# Images that are made here: the operator's, the samples' busybox, and for the cluster from source pause and CoreDNS.

readonly pause_image=localhost/workerpool/pause:1
readonly coredns_image=localhost/workerpool/coredns:1
readonly busybox_image=localhost/workerpool/busybox:1

# The image that config/default names.
readonly default_image=localhost/workerpool/manager:dev

# write_image TAR REF FOLDER [FLAG...] [-- ENTRYPOINT...]: makes an image of the folder and prints its reference.
write_image() {
  local tar=$1 ref=$2 folder=$3
  shift 3
  "$bin/image" -o "$tar" -ref "$ref" -root "$folder" "$@"
}

# operator_image TAR REF: builds manager and agent and makes their image. The tag of the default reference gets the
# content's digest appended, so that a changed tree is rolled out by 'kubectl apply' and an unchanged one is not.
operator_image() {
  local tar=$1 ref=$2 folder flags=(-user 65532:65532)
  command -v go >/dev/null || die "missing Go 1.26 or later: https://go.dev/dl"
  build_programs image
  folder=$(mktemp -d -p "$work")
  say 'building the operator (usually 5 s, a few minutes the first time)'
  (cd "$root" && CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags '-s -w' -o "$folder/" ./cmd/manager ./cmd/agent) >&2 ||
    die 'building the operator failed, see above'
  [[ $ref != "$default_image" ]] || flags+=(-digest-tag)
  write_image "$tar" "$ref" "$folder" "${flags[@]}" -- /manager
}

# busybox_archive TAR: a worker image with a shell and the usual small programs.
busybox_archive() {
  local folder
  folder=$(mktemp -d -p "$work")
  mkdir -p "$folder"/{bin,etc,root} "$folder/tmp"
  chmod 1777 "$folder/tmp"
  cp -L "$(command -v busybox)" "$folder/bin/busybox"
  "$folder/bin/busybox" --list | grep -vx busybox | (cd "$folder/bin" && xargs -n 1 ln -sf busybox)
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/false\n' >"$folder/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$folder/etc/group"
  write_image "$1" "$busybox_image" "$folder" -env PATH=/bin -- /bin/sh >/dev/null
}

# program_archive TAR REF USER PROGRAM: an image of one static program.
program_archive() {
  local folder
  folder=$(mktemp -d -p "$work")
  cp "$4" "$folder/"
  write_image "$1" "$2" "$folder" -user "$3" -- "/${4##*/}" >/dev/null
}

# program_image REF FILE: gives the cluster an image of one static program. The content's digest is appended to the tag,
# so that a changed program is another image.
program_image() {
  local folder ref
  build_programs image
  folder=$(mktemp -d -p "$work")
  cp "$2" "$folder/"
  ref=$(write_image "$work/program.tar" "$1" "$folder" -user 65532:65532 -digest-tag -- "/${2##*/}")
  load_image "$ref" "$work/program.tar"
  printf '%s\n' "$ref"
}

# load_image REF TAR: gives the archive's image to the cluster's node, unless it has it.
load_image() {
  case $provider in
    source) import_image "$1" "$2" ;;
    kind) kind load image-archive "$2" --name "$kind_name" >&2 ;;
    current) die "images cannot be loaded into a cluster of yours: push one where it can pull, and name it: make deploy CLUSTER=current IMAGE=..." ;;
  esac
}

# load_folder REF FOLDER: makes an image of the folder, gives it to the cluster's node and prints its reference.
load_folder() {
  local ref
  build_programs image
  ref=$(write_image "$work/folder.tar" "$1" "$2" -digest-tag -env PATH=/bin)
  load_image "$ref" "$work/folder.tar"
  printf '%s\n' "$ref"
}
