# shellcheck shell=bash
# Builds the cluster's programs from Go modules into $bin, once per version.

# name, module below hack/cluster, package, how long it usually takes on two cores with an empty build cache
readonly programs='
etcd                     kubernetes  go.etcd.io/etcd/server/v3                   50 s
kube-apiserver           kubernetes  k8s.io/kubernetes/cmd/kube-apiserver           5 to 7 min
kubectl                  kubernetes  k8s.io/kubernetes/cmd/kubectl                  30 s
kubelet                  kubernetes  k8s.io/kubernetes/cmd/kubelet                  90 s
kube-controller-manager  kubernetes  k8s.io/kubernetes/cmd/kube-controller-manager  45 s
kube-scheduler           kubernetes  k8s.io/kubernetes/cmd/kube-scheduler           10 s
kube-proxy               kubernetes  k8s.io/kubernetes/cmd/kube-proxy               15 s
kubeadm                  kubernetes  k8s.io/kubernetes/cmd/kubeadm                  20 s
coredns                  coredns     .                                           60 s
pause                    image       ./pause                                     5 s
image                    image       .                                           5 s
'

readonly build_needs_gib=6

# build_programs [NAME...]: builds those that are missing or whose module changed; without names, all.
build_programs() {
  local name module package usually
  while read -r name module package usually; do
    [[ -n $name ]] || continue
    (($# == 0)) || [[ " $* " == *" $name "* ]] || continue
    is_built "$name" "$module" || build_program "$name" "$module" "$package" "$usually"
  done <<<"$programs"
}

is_built() { [[ -x $bin/$1 && "$(cat "$bin/.$1.built-from" 2>/dev/null)" == "$(fingerprint "$2")" ]]; }

# are_built NAME...: whether all of these, of the Kubernetes module, need no build.
are_built() {
  local name
  for name in "$@"; do is_built "$name" kubernetes || return 1; done
}

fingerprint() { (cd "$here/$1" && find . -name '*.go' -o -name 'go.*' | LC_ALL=C sort | xargs sha256sum | sha256sum); }

# A program appears under its name only when it is complete, and is remembered as built only then: a build that is
# interrupted goes on where it was, from Go's build cache.
build_program() {
  local name=$1 module=$2 package=$3 usually=$4 start=$SECONDS
  prepare_build
  say "building $name (usually $usually on 2 cores, seconds if it was built before)"
  (cd "$here/$module" && CGO_ENABLED=0 go build -trimpath -ldflags "$(link_flags "$module")" -o "$bin/.$name.new" "$package") >&2 9>&- ||
    die "building $name failed, see above; 'make cluster-up' goes on from here"
  mv "$bin/.$name.new" "$bin/$name"
  fingerprint "$module" >"$bin/.$name.built-from"
  say "built $name in $((SECONDS - start)) s"
}

build_prepared=no
prepare_build() {
  [[ $build_prepared == no ]] || return 0
  command -v go >/dev/null || die "missing Go 1.26 or later, which builds the cluster: https://go.dev/dl"
  mkdir -p "$bin" || die "cannot make $bin; set WORKERPOOL_CACHE to a folder that can be written"
  has_room "$bin"
  has_room "$(go env GOCACHE)"
  lock "$cache/build.lock" 3600
  build_prepared=yes
}

has_room() {
  local free
  mkdir -p "$1"
  free=$(df --output=avail --block-size=1G "$1" | tail -1)
  ((free >= build_needs_gib)) ||
    die "building needs $build_needs_gib GiB free at $1, which has $((free)): make room, or set WORKERPOOL_CACHE and GOCACHE to another disk"
}

# Without its version Kubernetes calls itself v0.0.0, and clients refuse to work with that.
link_flags() {
  local x=k8s.io/component-base/version minor
  printf -- '-s -w'
  [[ $1 == kubernetes ]] || return 0
  minor=${kubernetes_version#v1.}
  printf -- ' -X %s.gitVersion=%s -X %s.gitMajor=1 -X %s.gitMinor=%s -X %s.gitTreeState=clean' \
    "$x" "$kubernetes_version" "$x" "$x" "${minor%%.*}" "$x"
}

# kwok prints the path of the program that plays nodes in the scale test. No cluster needs it, so it is not among the
# programs above.
kwok() {
  is_built kwok kwok || build_program kwok kwok sigs.k8s.io/kwok/cmd/kwok '90 s'
  printf '%s\n' "$bin/kwok"
}

# envtest_assets prints the folder with the etcd, kube-apiserver and kubectl that envtest starts: what is here already,
# else what setup-envtest can download, else what it builds.
envtest_assets() {
  local folder
  if ! are_built etcd kube-apiserver kubectl; then
    if folder=$(downloaded_assets); then
      printf '%s\n' "$folder"
      return
    fi
    say 'setup-envtest cannot download here; building etcd, kube-apiserver and kubectl instead'
    build_programs etcd kube-apiserver kubectl
  fi
  printf '%s\n' "$bin"
}

downloaded_assets() {
  local minor=${kubernetes_version#v}
  local tool=(go tool -modfile="$root/hack/tools/go.mod" setup-envtest)
  cd "$root" && [[ -f hack/tools/go.mod ]] || return 1
  say 'asking setup-envtest (building it takes a minute the first time)'
  "${tool[@]}" version >/dev/null 2>&1 || return 1
  timeout 300 "${tool[@]}" use "${minor%.*}.x" -p path --bin-dir "$cache/envtest" 2>/dev/null
}
