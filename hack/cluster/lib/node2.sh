# shellcheck shell=bash
# The second node of the cluster built from source, so that it can be seen what becomes of a node that loses power or its
# network. It is kubelet, containerd and kube-proxy in a mount, network, process and host name namespace. Its state is
# beside that of the first node, not below it: so nothing that is meant for the first node's daemons hits these.

readonly node2_name=node2
readonly node2_state=$state-$node2_name
readonly node2_ip=198.18.128.1
readonly node2_cidr=198.18.128.0/17
readonly node2_first_pod=198.18.128.10
# The node's cable: a port of the first node's bridge.
readonly node2_cable=workerpool2
readonly node2_cgroup=$cgroup/$node2_name

# node2 VERB: what can happen to a node.
node2() {
  [[ $provider == source ]] || die 'only a cluster built from source has a second node'
  [[ -e $node2_state ]] || die "there is no second node; 'make cluster-up NODES=2' makes it"
  lock "$state_lock" 900
  case $1 in
    off) node2_kill ;;
    on) node2_on ;;
    cut) node2_unplug ;;
    join) node2_plug ;;
    *) die "a node has no $1: it is off, on, cut or join" ;;
  esac
}

# node2_up makes the node, or mends the one that is there.
node2_up() {
  local start=$SECONDS
  if node2_healthy; then return; fi
  say 'starting the second node (usually 5 to 10 s)'
  [[ -e $node2_state/kubelet.conf ]] || node2_prepare
  node2_mend
  say "the second node is up after $((SECONDS - start)) s"
}

# node2_mend has the node run and reach the cluster.
node2_mend() {
  if node2_is_whole; then
    node2_plug
  else
    node2_kill
    node2_on
  fi
  poll 60 node2_is_ready || die "the second node is not ready; its logs are in $node2_state/log"
}

# node2_remove takes the node out of a cluster that goes on. What is left of its pods goes by force: no kubelet will
# say that they have ended.
node2_remove() {
  say 'removing the second node'
  kubectl delete node "$node2_name" --ignore-not-found >/dev/null
  node2_kill
  kubectl delete pods -A --field-selector "spec.nodeName=$node2_name" --force --grace-period=0 >/dev/null 2>&1
  node2_forget
}

node2_prepare() {
  local template
  mkdir -p "$node2_state"/{log,cni,containerd/state,kubelet,pod-logs,pki}
  chmod 700 "$node2_state/containerd"
  cp "$state/pki/ca.crt" "$node2_state/pki/"
  for template in 10-pods.conflist containerd.toml kube-proxy.yaml kubelet.yaml resolv.conf; do
    render "$here/source/$template" -e "s|@STATE@|$node2_state|g" -e "s|@NODE_IP@|$node2_ip|g" -e "s|@NODE_NAME@|$node2_name|g" \
      -e "s|@NODE_CIDR@|$node2_cidr|g" -e "s|@FIRST_POD@|$node2_first_pod|g" -e "s|@CGROUP@|$node2_cgroup|g" >"$node2_state/$template"
  done
  mv "$node2_state"/*.conflist "$node2_state/cni/"
  cp "$state/kube-proxy.conf" "$node2_state/"
  # The last file: without it the node is not complete.
  kubeadm kubeconfig user --config "$state/kubeadm.yaml" --client-name "system:node:$node2_name" --org system:nodes \
    >"$node2_state/kubelet.conf.new" 2>"$node2_state/log/kubeadm.log" || die "kubeadm failed: see $node2_state/log/kubeadm.log"
  mv "$node2_state/kubelet.conf.new" "$node2_state/kubelet.conf"
}

# node2_on starts the node. It returns once the node has all images of the first one.
node2_on() {
  local mount
  [[ -z $(node2_pids) ]] || die 'the second node is on'
  for mount in $(findmnt -rno TARGET -t cgroup,cgroup2); do mkdir -p "$mount/$node2_cgroup"; done
  mkdir -p /var/lib/cni/results /var/log/containers /var/lib/kubelet/device-plugins
  rm -f "$node2_state/has-images" "$node2_state/containerd/containerd.sock"
  (cd "$node2_state" && close_files && exec setsid nohup \
    unshare --mount --net --uts --pid --fork --kill-child --mount-proc \
    bash "$here/node2/init.sh" "$node2_state" "$bin" "$node2_ip" "$node_ip" "$state" </dev/null >>"$node2_state/log/init.log" 2>&1) &
  poll 10 has_own_network $! || die "the second node does not start; its log is $node2_state/log/init.log"
  ip link add "$node2_cable" type veth peer name eth0 netns $!
  node2_plug
  ip route replace "$node2_ip/32" dev "$node_interface" src "$node_ip"
  ip route replace "$node2_cidr" via "$node2_ip" dev "$node_interface" src "$node_ip" onlink
  poll 30 node2_ctr version >/dev/null 2>&1 || die "containerd does not answer; its log is $node2_state/log/containerd.log"
  node2_copy_images
  touch "$node2_state/has-images"
}

# node2_is_whole: the node is on, and whoever started it has brought that to its end.
node2_is_whole() { [[ -n $(node2_pids) && -e $node2_state/has-images ]] && ip link show "$node2_cable" >/dev/null 2>&1; }

has_own_network() { [[ $(readlink "/proc/$1/ns/net") != "$(readlink /proc/self/ns/net)" ]]; }

node2_plug() { ip link set "$node2_cable" master "$node_interface" up; }
node2_unplug() { ip link set "$node2_cable" down; }

# node2_copy_images gives the node all that the first one has.
node2_copy_images() {
  local all
  all=$(comm -23 <(ctr_k8s images ls -q 'name~=^localhost/' | sort) <(node2_ctr images ls -q | sort))
  [[ -n $all ]] || return 0
  # shellcheck disable=SC2086 # a list of names
  ctr_k8s images export "$work/images.tar" $all
  node2_ctr images import "$work/images.tar" >/dev/null
  rm "$work/images.tar"
}

node2_ctr() { ctr --address "$node2_state/containerd/containerd.sock" --namespace k8s.io "$@"; }

# node2_pids are the node's first process, what makes its namespaces, and what keeps its daemons. All others end with these.
node2_pids() {
  local file
  for file in $(grep -lszFx -- "$node2_state" /proc/[0-9]*/cmdline || true); do
    ! grep -qsz '/node2/init\.sh$' "$file" || basename "${file%/cmdline}"
  done
}

# node2_kill ends all of the node at once, and its mounts go with its processes. Its network would stay until the kernel has
# given up the last connection, so the cable goes first; nobody is told of an end.
node2_kill() {
  local pids
  ip link delete "$node2_cable" 2>/dev/null || true
  pids=$(node2_pids)
  # shellcheck disable=SC2086 # a list of numbers
  [[ -z $pids ]] || kill -KILL $pids 2>/dev/null || true
  poll 10 node2_is_off || die "the second node does not end: $(node2_remnants | xargs)"
}

# node2_is_off also removes the node's cgroups, which the kernel allows some time after the last process has ended.
node2_is_off() {
  local folder
  for folder in $(node2_cgroups); do find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null || true; done
  [[ -z $(node2_remnants) ]]
}

node2_cgroups() {
  local folder
  for folder in $(cgroups); do
    [[ ! -d $folder/$node2_name ]] || printf '%s\n' "$folder/$node2_name"
  done
}

# node2_remnants is a line for each thing that a node has while it is on.
node2_remnants() {
  node2_pids | sed 's/^/process of the second node /'
  { ip -o link show "$node2_cable" 2>/dev/null || true; } | sed 's/^/interface of the second node /'
  node2_cgroups | sed 's/^/cgroup of the second node /'
}

# node2_forget removes the node's state, once it is off.
node2_forget() {
  ip route delete "$node2_cidr" dev "$node_interface" 2>/dev/null || true
  ip route delete "$node2_ip/32" dev "$node_interface" 2>/dev/null || true
  rm -rf --one-file-system "$node2_state"
}

node2_healthy() {
  [[ -e $node2_state/kubelet.conf && -n $(node2_pids) ]] || return 1
  [[ $(cat "/sys/class/net/$node2_cable/operstate" 2>/dev/null) == up ]] && poll 10 node2_is_ready
}

# node2_is_ready asks the kubelet too: the API server says for a while what it was before.
node2_is_ready() { kubelet_answers "$node2_name" 2>/dev/null && node_is_ready "$node2_name" 2>/dev/null; }

node2_status() {
  if [[ -z $(node2_pids) ]]; then
    printf 'off'
  else
    printf 'on, cable %s' "$(cat "/sys/class/net/$node2_cable/operstate")"
  fi
  printf ', logs %s\n' "$node2_state/log/*.log"
}
