# shellcheck shell=bash
# Ends the cluster built from source and removes what it left: after a crash or a kill -9 just as after a good life.
# Nothing is found by a remembered pid or id: what is ours is known by its name, or by the state folder in its command line.

readonly daemons='kube-proxy kubelet kube-scheduler kube-controller-manager kube-apiserver etcd containerd'

# pids_of NAME: the processes whose program has that name and whose command line names the state folder.
pids_of() {
  local file argv0
  for file in $(grep -lszF -- "$state/" /proc/[0-9]*/cmdline || true); do
    IFS= read -rd '' argv0 2>/dev/null <"$file" || continue
    [[ ${argv0##*/} != "$1" ]] || basename "${file%/cmdline}"
  done
}

has_ended() { [[ -z $(pids_of "$1") ]]; }

# stop NAME: SIGTERM, and SIGKILL for what is still there after five seconds.
stop() {
  local pids
  pids=$(pids_of "$1")
  [[ -n $pids ]] || return 0
  # shellcheck disable=SC2086 # a list of numbers
  kill -TERM $pids 2>/dev/null || true
  poll 5 has_ended "$1" && return
  pids=$(pids_of "$1")
  # shellcheck disable=SC2086
  [[ -z $pids ]] || kill -KILL $pids 2>/dev/null || true
  poll 5 has_ended "$1" || die "$1 (pid $pids) does not end, not even by SIGKILL"
}

# Clients before their servers: kube-apiserver hangs in its shutdown when etcd has gone first.
stop_daemons() {
  local name
  for name in $daemons; do stop "$name"; done
}

# The top folders of the cluster's own cgroups: one with cgroup v2, one per controller with v1.
cgroups() {
  local mount
  for mount in $(findmnt -rno TARGET -t cgroup,cgroup2); do
    [[ ! -d $mount/$cgroup ]] || printf '%s\n' "$mount/$cgroup"
  done
}

# pod_pids: all processes of the cluster's pods.
pod_pids() {
  local folder
  for folder in $(cgroups); do
    find "$folder" -name cgroup.procs -exec cat {} + 2>/dev/null || true
  done | sort -u
}

kill_pods() {
  local pids
  pids=$(pod_pids)
  # shellcheck disable=SC2086
  [[ -z $pids ]] || kill -KILL $pids 2>/dev/null || true
  [[ -z $(pod_pids) ]]
}

remove_cgroups() {
  local folder
  for folder in $(cgroups); do
    find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
  [[ -z $(cgroups) ]]
}

mounts() { awk -v under="$state/" 'index($5, under) == 1 { print $5 }' /proc/self/mountinfo | sort -ru; }

unmount() {
  local mount
  for mount in $(mounts); do
    umount "$mount" 2>/dev/null || umount --lazy "$mount" 2>/dev/null || true
  done
  [[ -z $(mounts) ]]
}

# Our own interface, and the node's ends of the pods': ptp gives each the node's address.
interfaces() { ip -o address show to "$node_ip/32" | awk '{ print $2 }'; }

remove_interfaces() {
  local interface
  for interface in $(interfaces); do ip link delete "$interface" 2>/dev/null || true; done
  ip link delete "$node_interface" 2>/dev/null || true
  [[ -z $(interfaces) ]]
}

# The rules by which pods pass a firewall that forwards nothing, as "family table chain handle N".
forward_rules() {
  { nft -a list chain ip filter FORWARD 2>/dev/null || true; } |
    sed -n "s/.*comment \"$name_of_all\".* handle \([0-9]*\)$/ip filter FORWARD handle \1/p"
}

proxy_tables() { nft list tables 2>/dev/null | sed -n 's/^table \(ip6\? kube-proxy\)$/\1/p'; }

remove_nftables() {
  local object
  # shellcheck disable=SC2086 # each is several words
  while read -r object; do nft delete table $object; done < <(proxy_tables)
  # shellcheck disable=SC2086
  while read -r object; do nft delete rule $object; done < <(forward_rules)
}

# Files that the container runtime and kubelet put at fixed places outside of the state folder.
outside_files() {
  {
    grep -lrsF "$state/" /var/lib/cni/results
    find /var/log/containers -lname "$state/*"
    shim_sockets
    [[ ! -e $state ]] || find /var/lib/kubelet/device-plugins -name kubelet.sock
  } 2>/dev/null || true
}

# shim_sockets: each container's folder names the socket of its shim.
shim_sockets() {
  local file
  find "$state/containerd/state" -name address -exec sed 's|^unix://\(.*\)|\1\n|' {} + |
    while read -r file; do [[ ! -S $file ]] || printf '%s\n' "$file"; done
}

remove_outside_files() {
  local folder
  outside_files | xargs -r rm -f
  for folder in /var/lib/cni/results /var/log/containers /run/containerd/s /var/lib/kubelet/device-plugins; do
    rmdir --ignore-fail-on-non-empty -p "$folder" 2>/dev/null || true
  done
}

# kubelet sets these for the whole machine. (ip_forward, which it sets too, others may rely on by now.)
readonly kernel_settings='vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops'

save_kernel_settings() {
  # shellcheck disable=SC2086
  sysctl $kernel_settings >"$state/kernel-settings"
}

restore_kernel_settings() {
  [[ ! -s $state/kernel-settings ]] || sysctl -q -p "$state/kernel-settings" || say 'could not restore the kernel settings'
}

# leftovers prints a line for each thing of the cluster that exists.
leftovers() {
  local name
  for name in $daemons containerd-shim-runc-v2; do pids_of "$name" | sed "s/^/process $name /"; done
  node2_remnants
  pod_pids | sed 's/^/process of a pod /'
  mounts | sed 's/^/mount /'
  interfaces | sed 's/^/interface /'
  cgroups | sed 's/^/cgroup /'
  { proxy_tables; forward_rules; } | sed 's/^/nftables /'
  outside_files | sed 's/^/file /'
  [[ ! -e $node2_state ]] || printf 'folder %s\n' "$node2_state"
  [[ ! -e $state ]] || printf 'folder %s\n' "$state"
}

# sweep: afterwards nothing of the cluster is left, or it says what is and fails.
sweep() {
  # If this is cut off, nobody is to take what still runs for a healthy cluster.
  rm -f "$state/kubeconfig"
  node2_kill
  node2_forget
  stop_daemons
  poll 10 kill_pods || die "processes of pods do not end: $(pod_pids | xargs)"
  stop containerd-shim-runc-v2
  poll 5 unmount || die "cannot unmount: $(mounts | xargs)"
  poll 5 remove_interfaces || die "cannot remove: $(interfaces | xargs)"
  poll 10 remove_cgroups || die "cannot remove: $(cgroups | xargs)"
  remove_nftables
  restore_kernel_settings
  remove_outside_files
  rm -rf --one-file-system "$state"
  local left
  left=$(leftovers)
  [[ -z $left ]] || die "this is left: $left"
}
