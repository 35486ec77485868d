# shellcheck shell=bash
# The cluster built from source: one node, on this machine, with all of its state below $state. A second one is in node2.sh.

readonly node_name=node1

source_up() {
  local start=$SECONDS
  [[ $(uname -s) == Linux ]] || die 'a cluster built from source needs Linux; elsewhere use kind, or CLUSTER=current'
  ((EUID == 0)) || die 'a cluster built from source needs root: become root, or use kind, or CLUSTER=current'
  check_tools
  build_programs
  lock "$state_lock" 900
  if source_healthy; then
    is_ours || say "it was made from other files than this checkout has: 'make cluster-down' first would renew it"
    say "already up, with Kubernetes $(cat "$state/version")"
    has_nodes
    return
  fi
  clear_remnants
  check_machine
  start=$SECONDS
  say 'starting (usually 10 to 15 s)'
  prepare
  start_all
  say "up after $((SECONDS - start)) s, with Kubernetes $kubernetes_version"
  has_nodes
}

# has_nodes: that there are as many as NODES says.
has_nodes() {
  case $nodes in
    1) [[ ! -e $node2_state ]] || node2_remove ;;
    2) node2_up ;;
  esac
}

source_down() {
  ((EUID == 0)) || die "cluster-down needs root, as cluster-up did"
  lock "$state_lock" 900
  [[ -n $(leftovers) ]] || { say 'nothing is left of a cluster'; return; }
  say 'stopping (usually 5 s)'
  sweep
  say "down; nothing is left but the programs in $bin"
}

clear_remnants() {
  [[ -z $(leftovers) ]] || { say 'clearing away what an earlier cluster left'; sweep; }
}

check_tools() {
  needs containerd containerd
  needs ctr containerd
  needs runc runc
  needs nft nftables
  needs ip iproute2
  needs findmnt util-linux
  needs sysctl procps
  needs busybox busybox-static
  [[ -x $cni_plugins/ptp ]] || missing_packages+=(containernetworking-plugins)
  needs_met
}

# check_machine: that nobody else has the addresses and ports.
check_machine() {
  local taken
  taken=$(ip -o address show to 198.18.0.0/15)
  [[ -z $taken ]] || die "an interface has an address in 198.18.0.0/15, the cluster's range: $taken"
  local port filter=
  for port in 2379 2380 6443 10248 10249 10250 10256 10257 10259; do filter+="${filter:+ or }sport = :$port"; done
  taken=$(ss -Hltnp "( $filter )")
  [[ -z $taken ]] || die "these ports are in use, perhaps by another Kubernetes: $taken"
}

# prepare: folders, configuration, cgroups and the node's interface.
prepare() {
  mkdir -p "$state"/{log,etcd,cni,containerd,images,kubelet,pod-logs,manifests}
  chmod 700 "$state/etcd" "$state/containerd"
  printf '%s\n' "$kubernetes_version" >"$state/version"
  configuration_fingerprint >"$state/made-from"
  ln -s "$bin" "$state/bin"
  save_kernel_settings
  prepare_cgroups
  prepare_network
  local template
  for template in "$here"/source/*; do render "$template" >"$state/$(basename "$template")"; done
  mv "$state"/*.conflist "$state/cni/"
  mv "$state"/{coredns,kubelet-api}.yaml "$state/manifests/"
}

configuration_fingerprint() { cat "$here"/{source,lib,kubernetes,coredns,node2}/*.* | sha256sum; }
is_ours() { [[ $(configuration_fingerprint) == "$(cat "$state/made-from")" ]]; }

# render FILE [FLAG...] fills in a template for the first node; sed's flags come before that.
#
# cgroup v1 needs kubelet's consent; without CAP_SYS_RESOURCE (bit 24) neither kubelet nor containerd may lower an
# oom_score_adj or raise limits.
render() {
  local cgroup_v1=false restricted=false snapshotter=overlayfs
  [[ $(stat -fc %T /sys/fs/cgroup) == cgroup2fs ]] || cgroup_v1=true
  (((0x$(awk '/^CapEff/ { print $2 }' /proc/self/status) >> 24) & 1)) || restricted=true
  [[ $(stat -fc %T "$state") != overlayfs ]] || snapshotter=native
  sed "${@:2}" -e "s|@STATE@|$state|g" -e "s|@NAME@|$name_of_all|g" -e "s|@NODE_IP@|$node_ip|g" -e "s|@NODE_NAME@|$node_name|g" \
    -e "s|@NODE_CIDR@|$node_cidr|g" -e "s|@FIRST_POD@|$first_pod|g" -e "s|@POD_CIDR@|$pod_cidr|g" -e "s|@SERVICE_CIDR@|$service_cidr|g" -e "s|@DNS_IP@|$dns_ip|g" \
    -e "s|@VERSION@|$kubernetes_version|g" -e "s|@CNI_PLUGINS@|$cni_plugins|g" -e "s|@CGROUP@|$cgroup|g" \
    -e "s|@FAIL_CGROUP_V1@|$([[ $cgroup_v1 == true ]] && echo false || echo true)|g" \
    -e "s|@RESTRICTED@|$restricted|g" -e "s|@SNAPSHOTTER@|$snapshotter|g" \
    -e "s|@PAUSE_IMAGE@|$pause_image|g" -e "s|@COREDNS_IMAGE@|$coredns_image|g" "$1"
}

# Pods live in cgroups below one of our own, so that they can be told from all others.
prepare_cgroups() {
  local mount controller
  for mount in $(findmnt -rno TARGET -t cgroup,cgroup2); do
    if [[ -f $mount/cgroup.subtree_control ]]; then
      for controller in $(<"$mount/cgroup.controllers"); do
        echo "+$controller" 2>/dev/null >"$mount/cgroup.subtree_control" || true
      done
    fi
    mkdir -p "$mount/$cgroup"
  done
}

prepare_network() {
  # A bridge without ports: all that is wanted is an interface that has the node's address.
  ip link add "$node_interface" type bridge
  ip address add "$node_ip/32" dev "$node_interface"
  ip link set "$node_interface" up
  sysctl -q -w net.ipv4.ip_forward=1
  # Docker makes the machine forward nothing but its own.
  if nft list chain ip filter FORWARD 2>/dev/null | grep -q 'policy drop'; then
    nft insert rule ip filter FORWARD ip saddr "$pod_cidr" accept comment "\"$name_of_all\""
    nft insert rule ip filter FORWARD ip daddr "$pod_cidr" accept comment "\"$name_of_all\""
  fi
}

# start NAME FLAG...: starts a daemon that outlives this program, its lock and its terminal. It gets none of the files that
# are open here: one may be a lock of whoever called, which would be held for as long as the cluster runs.
start() {
  local name=$1 program
  shift
  program=$(PATH=$bin:$PATH command -v "$name")
  (cd "$state" && close_files && exec setsid nohup "$program" "$@" </dev/null >>"$state/log/$name.log" 2>&1) &
}

close_files() {
  local file
  for file in /proc/"$BASHPID"/fd/*; do
    file=${file##*/}
    ((file <= 2)) || eval "exec $file>&-"
  done
}

# ready NAME SECONDS COMMAND...: waits until the command succeeds; if that takes too long, shows the end of the daemon's log.
ready() {
  local name=$1 seconds=$2
  shift 2
  poll "$seconds" "$@" >/dev/null 2>&1 && return
  tail -n 5 "$state/log/$name.log" >&2
  die "$name is not ready after $seconds s; its log is $state/log/$name.log; 'make cluster-down' cleans up"
}

start_all() {
  start_containerd
  start_etcd
  (import_base_images) &
  local images=$!
  make_certificates
  start_kube_apiserver
  ready kube-apiserver 60 api_answers
  start_kube_controller_manager
  start_kube_scheduler
  ready containerd 30 ctr_k8s version
  wait "$images" || die 'the base images could not be loaded, see above'
  start_kubelet
  start_kube_proxy
  kubectl apply --server-side -f "$state/manifests" >/dev/null
  ready kubelet 60 node_is_ready
  ready kubelet 60 dns_is_available
}

start_containerd() { start containerd --config "$state/containerd.toml"; }
start_etcd() { start etcd --config-file "$state/etcd.yaml"; }

make_certificates() {
  {
    kubeadm init phase certs all --config "$state/kubeadm.yaml"
    kubeadm init phase kubeconfig all --config "$state/kubeadm.yaml" --kubeconfig-dir "$state"
    kubeadm kubeconfig user --config "$state/kubeadm.yaml" --client-name system:kube-proxy >"$state/kube-proxy.conf"
  } >"$state/log/kubeadm.log" 2>&1 || die "kubeadm failed: see $state/log/kubeadm.log"
  cp "$state/super-admin.conf" "$KUBECONFIG"
  [[ -z ${SUDO_UID:-} ]] || chown "$SUDO_UID" "$KUBECONFIG"
}

start_kube_apiserver() {
  local pki=$state/pki
  start kube-apiserver \
    --etcd-servers=http://127.0.0.1:2379 \
    --bind-address="$node_ip" --advertise-address="$node_ip" --secure-port=6443 \
    --service-cluster-ip-range="$service_cidr" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged \
    --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
    --kubelet-preferred-address-types=InternalIP --kubelet-certificate-authority= \
    --kubelet-client-certificate="$pki/apiserver-kubelet-client.crt" --kubelet-client-key="$pki/apiserver-kubelet-client.key" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
    --requestheader-client-ca-file="$pki/front-proxy-ca.crt" --requestheader-allowed-names=front-proxy-client \
    --requestheader-extra-headers-prefix=X-Remote-Extra- --requestheader-group-headers=X-Remote-Group \
    --requestheader-username-headers=X-Remote-User \
    --proxy-client-cert-file="$pki/front-proxy-client.crt" --proxy-client-key-file="$pki/front-proxy-client.key" \
    --audit-policy-file="$state/audit-policy.yaml" --audit-log-path="$state/log/audit.log" \
    --audit-log-maxsize=100 --audit-log-maxbackup=5
}

start_kube_controller_manager() {
  local pki=$state/pki
  start kube-controller-manager --kubeconfig="$state/controller-manager.conf" --bind-address=127.0.0.1 \
    --leader-elect=false --use-service-account-credentials \
    --authentication-kubeconfig="$state/controller-manager.conf" --authorization-kubeconfig="$state/controller-manager.conf" \
    --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
    --root-ca-file="$pki/ca.crt" --service-account-private-key-file="$pki/sa.key"
}

start_kube_scheduler() {
  start kube-scheduler --kubeconfig="$state/scheduler.conf" --bind-address=127.0.0.1 --leader-elect=false \
    --authentication-kubeconfig="$state/scheduler.conf" --authorization-kubeconfig="$state/scheduler.conf"
}

start_kubelet() {
  start kubelet --kubeconfig="$state/kubelet.conf" --config="$state/kubelet.yaml" --root-dir="$state/kubelet" \
    --cert-dir="$state/kubelet/pki" --node-ip="$node_ip" --hostname-override="$node_name" \
    --node-labels=topology.kubernetes.io/zone=zone-1
}

start_kube_proxy() { start kube-proxy --config="$state/kube-proxy.yaml"; }

api_answers() { [[ $(kubectl get --raw /readyz --request-timeout=5s) == ok ]]; }
etcd_answers() { [[ $(kubectl get --raw /livez/etcd --request-timeout=5s) == ok ]]; }

# known_daemon NAME: fails unless the cluster runs and has a daemon of this name.
known_daemon() {
  [[ $provider == source ]] || die 'only the daemons of a cluster built from source can be ended one by one'
  [[ " $daemons " == *" $1 "* ]] || die "no daemon is called $1: there are $daemons"
  [[ -r $KUBECONFIG ]] || die "no cluster runs; 'make cluster-up' starts it"
}

# source_kill NAME: SIGKILL. It returns once the daemon is gone, and does not start it again.
source_kill() {
  local pids
  known_daemon "$1"
  pids=$(pids_of "$1")
  [[ -n $pids ]] || die "$1 does not run"
  # shellcheck disable=SC2086 # a list of numbers
  kill -KILL $pids
  poll 5 has_ended "$1" || die "$1 does not end"
}

# source_restart NAME: ends the daemon if it runs, and starts it as source_up does. It returns once it serves; etcd is
# asked through kube-apiserver, if that runs.
source_restart() {
  known_daemon "$1"
  lock "$state_lock" 900
  stop "$1"
  # The kernel closes the files of a process some time after it has taken its command line.
  poll 30 ports_are_free "$1" || die "somebody has a port of $1"
  "start_${1//-/_}"
  case $1 in
    containerd) ready containerd 30 ctr_k8s version ;;
    etcd) has_ended kube-apiserver || ready etcd 60 etcd_answers ;;
    kube-apiserver) ready kube-apiserver 60 api_answers ;;
    kubelet) ready kubelet 60 kubelet_answers ;;
  esac
}

ports_are_free() {
  local port ports
  case $1 in
    etcd) ports='2379 2380' ;;
    kube-apiserver) ports=6443 ;;
    kubelet) ports='10248 10250' ;;
    *) return ;;
  esac
  for port in $ports; do [[ -z $(ss -Hltn "sport = :$port") ]] || return 1; done
}

# kubelet_answers [NAME]
kubelet_answers() { [[ $(kubectl get --raw "/api/v1/nodes/${1:-$node_name}/proxy/healthz" --request-timeout=5s) == ok ]]; }

# source_mend starts what does not run: servers before their clients.
source_mend() {
  local name
  [[ -r $KUBECONFIG ]] || die "no cluster runs; 'make cluster-up' starts it"
  for name in containerd etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy; do
    if has_ended "$name"; then source_restart "$name"; fi
  done
  [[ -e $node2_state/kubelet.conf ]] || return 0
  lock "$state_lock" 900
  node2_mend
}

ctr_k8s() { ctr --address "$state/containerd/containerd.sock" --namespace k8s.io "$@"; }

# A second node that is off gets its images when it is on again.
import_image() {
  [[ -z $(node2_pids) ]] || import_into node2_ctr "$1" "$2"
  import_into ctr_k8s "$1" "$2"
}

# import_into CLIENT REF TAR
import_into() {
  [[ $("$1" images ls -q "name==$2") != "$2" ]] || return 0
  "$1" images import "$3" >/dev/null || die "containerd did not take the image $2"
}

import_base_images() {
  local images=$state/images
  program_archive "$images/pause.tar" "$pause_image" 65535:65535 "$bin/pause"
  program_archive "$images/coredns.tar" "$coredns_image" 65532:65532 "$bin/coredns"
  busybox_archive "$images/busybox.tar"
  ready containerd 30 ctr_k8s version
  import_image "$pause_image" "$images/pause.tar"
  import_image "$coredns_image" "$images/coredns.tar"
  import_image "$busybox_image" "$images/busybox.tar"
  rm -rf "$images"
}

# node_is_ready [NAME]
node_is_ready() {
  [[ $(kubectl get node "${1:-$node_name}" -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}') == True ]]
}

dns_is_available() {
  [[ $(kubectl -n kube-system get deployment coredns -o jsonpath='{.status.availableReplicas}') == 1 ]]
}

# source_healthy: every daemon runs, the API server answers, the node is ready and DNS is available.
source_healthy() {
  local name
  [[ -r $KUBECONFIG ]] || return 1
  for name in $daemons; do [[ -n $(pids_of "$name") ]] || return 1; done
  api_answers 2>/dev/null || return 1
  etcd_answers 2>/dev/null || return 1
  poll 10 node_is_ready 2>/dev/null && poll 10 dns_is_available 2>/dev/null
}

source_status() {
  local name pids
  [[ -e $state ]] || { say "not running; 'make cluster-up' starts it"; return 1; }
  printf '%-24s %s\n' 'kubernetes' "$(cat "$state/version" 2>/dev/null)"
  for name in $daemons; do
    pids=$(pids_of "$name" | xargs)
    printf '%-24s %s\n' "$name" "$([[ -n $pids ]] && echo "running, pid $pids" || echo "not running")"
  done
  [[ ! -e $node2_state ]] || printf '%-24s %s\n' "$node2_name" "$(node2_status)"
  printf '%-24s %s\n' 'logs' "$state/log/*.log" 'audit log' "$state/log/audit.log" 'kubeconfig' "$KUBECONFIG" 'programs' "$state/bin"
  source_healthy || { say "not healthy; 'make cluster-up' makes it anew"; return 1; }
  kubectl get nodes -o wide
  kubectl get deployments -A
}
