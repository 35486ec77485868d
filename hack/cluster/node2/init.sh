#!/usr/bin/env bash
# The first process of the second node: all that the node runs ends with it, as with a machine that loses power. It is
# started in namespaces of its own; see lib/node2.sh. Usage: init.sh STATE BIN IP GATEWAY FIRST_NODES_STATE
set -Eeuo pipefail
readonly state=$1 bin=$2 ip=$3 gateway=$4 first=$5
export PATH=$bin:$PATH:/usr/sbin:/sbin

printf 'node2\n' >/proc/sys/kernel/hostname

# The first node's mounts were copied with the namespace. They would be held here for as long as this node runs.
while read -r mount; do umount --lazy "$mount"; done \
  < <(awk -v under="$first/" 'index($5, under) == 1 { print $5 }' /proc/self/mountinfo | sort -ru)

# What a machine forgets when it loses power, and what the first node has at the same fixed places.
for folder in /run /var/lib/cni /var/log/containers /var/lib/kubelet "$state/containerd/state"; do
  mount -t tmpfs -o mode=755 tmpfs "$folder"
done

# keep NAME FLAG...: starts a daemon, and again whenever it ends.
keep() {
  local name=$1
  while true; do
    "$@" >>"$state/log/$name.log" 2>&1 || true
    sleep 1
  done
}

# The other side of this node plugs in the cable.
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip link set lo up
ip address add "$ip/32" dev eth0
ip link set eth0 up
ip route add "$gateway" dev eth0
ip route add default via "$gateway"
sysctl -q -w net.ipv4.ip_forward=1

keep containerd --config "$state/containerd.toml" &
# A node that runs for the first time has no images until it is given some.
until [[ -e $state/has-images && -S $state/containerd/containerd.sock ]]; do sleep 0.05; done
keep kubelet --kubeconfig="$state/kubelet.conf" --config="$state/kubelet.yaml" --root-dir="$state/kubelet" \
  --cert-dir="$state/kubelet/pki" --node-ip="$ip" --hostname-override=node2 --node-labels=topology.kubernetes.io/zone=zone-2 &
keep kube-proxy --config="$state/kube-proxy.yaml" &

# As the first process it also takes leave of all others whose parents have ended; while it waits, bash does that.
wait
