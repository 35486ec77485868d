#!/usr/bin/env bash
# A Kubernetes cluster to try and test the operator on. Usage: cluster.sh COMMAND
#
#   up               start the cluster; quick if it runs, and clears what a crashed one left
#   down             stop it and remove all of it but the built programs
#   status           what runs, and where its logs are; fails unless it is healthy
#   env              print the shell line that selects it:  eval "$(cluster.sh env)"
#   provider         print which kind of cluster is taken: source, kind or current
#   audit-log        print the path of the API server's audit log (source only)
#   kill NAME        SIGKILL one of the cluster's daemons, as etcd or kubelet (source only)
#   restart NAME     end it if it runs, start it with the same flags, and wait until it serves (source only)
#   mend             start those that do not run (source only)
#   node2 VERB       what becomes of the second node: off, as if it lost power; on again; cut from the network; join it again
#                    (source only)
#   ctr ARG...       containerd's own client, on the cluster's containerd (source only)
#   load REF TAR     give an image archive to the cluster's node
#   program REF FILE make an image of one static program, load it, and print its reference, with a digest appended
#   load-folder REF FOLDER
#                    make an image of the folder, give it to the node, print its reference: REF and its digest
#   image [TAR]      build the operator's image (default dist/image.tar) and print its reference
#   deploy           build the operator's image, load it, install config/default, wait until it runs
#   undeploy         delete all worker pools, the operator and its CRDs
#   envtest-assets   print the folder that envtest needs in KUBEBUILDER_ASSETS
#   kwok             print the path of kwok, which plays nodes in the scale test
#
# Environment:
#   CLUSTER            current: the one your kubectl talks to; kind; source: built from Go modules, on this machine, as
#                      root. Unset: kind if Docker answers and kind is installed, else source
#   NODES              1 (the default) or 2: up sees to it that the cluster has so many nodes. Two only from source
#   IMAGE              the operator's image, if not the one that config/default names
#   WORKERPOOL_CACHE   where built programs are kept (default: workerpool in the user's cache folder)
#
# Results go to standard output, progress to standard error.
set -Eeuo pipefail
trap 'printf "cluster: failed at %s, line %s\n" "${BASH_SOURCE[0]}" "$LINENO" >&2' ERR

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
kubernetes_version=$(sed -n 's/^\tk8s\.io\/kubernetes \(v[0-9.]*\)$/\1/p' "$here/kubernetes/go.mod")
cache=${WORKERPOOL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/workerpool}
bin=$cache/kubernetes-$kubernetes_version/bin
readonly here root kubernetes_version cache bin

# There is one cluster from source per machine, whichever checkout started it, so its places are fixed.
readonly name_of_all=workerpool-cluster
readonly state=/var/lib/$name_of_all
readonly state_lock=/run/lock/$name_of_all.lock
readonly cgroup=$name_of_all
readonly cni_plugins=/usr/lib/cni
# 198.18.0.0/15 is set aside for tests of networks, so nobody's network has it.
readonly node_interface=workerpool0
readonly node_ip=198.18.0.1
readonly pod_cidr=198.18.0.0/16
readonly node_cidr=198.18.0.0/17
readonly first_pod=198.18.0.10
readonly service_cidr=198.19.0.0/16
readonly dns_ip=198.19.0.10

# shellcheck source-path=SCRIPTDIR
source "$here/lib/say.sh"
source "$here/lib/build.sh"
source "$here/lib/image.sh"
source "$here/lib/sweep.sh"
source "$here/lib/source.sh"
source "$here/lib/node2.sh"
source "$here/lib/kind.sh"
source "$here/lib/deploy.sh"

image=${IMAGE:-$default_image}
nodes=${NODES:-1}

# For what is not to outlive this program.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
readonly image nodes work
[[ $nodes == [12] ]] || die "NODES=$nodes: a cluster has 1 or 2"

# choose_provider sets $provider, and says which and why.
choose_provider() {
  case ${CLUSTER:-} in
    current | kind | source) provider=$CLUSTER reason='CLUSTER says so' ;;
    '') guess_provider ;;
    *) die "CLUSTER=$CLUSTER is not known; it may be current, kind or source" ;;
  esac
}

guess_provider() {
  provider=source
  if ! command -v kind >/dev/null; then
    reason='kind is not installed'
  elif ! timeout 10 docker info >/dev/null 2>&1; then
    reason='Docker does not answer'
  else
    provider=kind reason='Docker and kind are here'
  fi
}

# select_cluster makes kubectl, and all else that is started here, use the chosen cluster.
select_cluster() {
  case $provider in
    source) export KUBECONFIG=$state/kubeconfig PATH=$bin:$PATH:/usr/sbin:/sbin ;;
    kind) export KUBECONFIG=$cache/kind.kubeconfig ;;
    current) command -v kubectl >/dev/null || die 'missing kubectl, which CLUSTER=current needs' ;;
  esac
}

# shellcheck disable=SC2016 # $PATH is for the shell that reads it
print_env() {
  case $provider in
    source) printf 'export KUBECONFIG=%q PATH=%q:$PATH\n' "$KUBECONFIG" "$state/bin" ;;
    kind) printf 'export KUBECONFIG=%q PATH=$PATH\n' "$KUBECONFIG" ;;
    current) printf 'export KUBECONFIG=%q PATH=$PATH\n' "${KUBECONFIG:-$HOME/.kube/config}" ;;
  esac
}

current_up() {
  kubectl version >&2 || die 'your current cluster does not answer'
  say 'a cluster of yours is used as it is; it must be able to pull the images'
}
current_down() { say 'a cluster of yours is left alone'; }
current_status() { kubectl get nodes -o wide; }

main() {
  local command=${1:-}
  shift || true
  choose_provider
  select_cluster
  case $command in
    up | down | status)
      say "using CLUSTER=$provider: $reason"
      [[ $nodes == 1 || $provider == source ]] || die "only a cluster built from source can be given a second node: CLUSTER=source"
      "${provider}_$command"
      ;;
    env) print_env ;;
    provider) printf '%s\n' "$provider" ;;
    audit-log)
      [[ $provider == source ]] || die "only a cluster built from source has an audit log"
      printf '%s\n' "$state/log/audit.log"
      ;;
    kill) source_kill "${1:?NAME}" ;;
    restart) source_restart "${1:?NAME}" ;;
    mend) source_mend ;;
    node2) node2 "${1:?VERB}" ;;
    ctr)
      [[ $provider == source ]] || die "only a cluster built from source has a containerd of its own"
      ctr_k8s "$@"
      ;;
    load-folder) load_folder "${1:?REF}" "${2:?FOLDER}" ;;
    load) load_image "${1:?REF}" "${2:?TAR}" ;;
    program) program_image "${1:?REF}" "${2:?FILE}" ;;
    image)
      mkdir -p "$root/dist"
      operator_image "${1:-$root/dist/image.tar}" "$image"
      ;;
    deploy | undeploy) "$command" ;;
    envtest-assets) envtest_assets ;;
    kwok) kwok ;;
    *)
      sed -n '2,/^set -/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
      exit 2
      ;;
  esac
}

main "$@"
