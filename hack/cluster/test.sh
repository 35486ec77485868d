#!/usr/bin/env bash
# Tests the cluster built from source: what a pod can do in it, and that it comes up again after every way to end badly.
# It takes the machine's cluster down several times and leaves it up. Usage, as root: hack/cluster/test.sh
# shellcheck disable=SC2317 # check calls the functions by their names
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

export CLUSTER=source
readonly state=/var/lib/workerpool-cluster
failed=0

fail() { printf 'FAIL  %s\n' "$*"; failed=1; }

# check NAME COMMAND...: the command must succeed.
check() {
  local name=$1 start=$SECONDS
  shift
  if "$@" >/tmp/cluster-test.out 2>&1; then
    printf 'ok    %s (%d s)\n' "$name" $((SECONDS - start))
  else
    fail "$name"
    sed 's/^/      /' /tmp/cluster-test.out
  fi
}

cluster_pids() { pgrep -f "$state(/|-node2)"; }

kill_all() {
  local pids
  pids=$(cluster_pids)
  # shellcheck disable=SC2086
  kill -KILL $pids
}

in_pod() { kubectl exec client -- "$@"; }

pods() {
  kubectl apply -f - <<'PODS'
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec:
  containers:
    - name: server
      image: localhost/workerpool/busybox:1
      args: [-c, 'echo served >/tmp/index.html; echo started; exec httpd -f -p 8080 -h /tmp']
      resources: {limits: {memory: 32Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: client
      image: localhost/workerpool/busybox:1
      args: [-c, 'exec sleep 100000']
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  selector: {app: server}
  ports: [{port: 80, targetPort: 8080}]
PODS
  kubectl wait --for=condition=Ready pod/server pod/client --timeout=60s
}

has_started_line() { [[ $(kubectl logs server) == started ]]; }
resolves() { in_pod nslookup -type=a server.default.svc.cluster.local | grep -q "$(kubectl get service server -o jsonpath='{.spec.clusterIP}')"; }
unknown_name_is_unknown() { [[ $(timeout 3 kubectl exec client -- nslookup no-such.example 2>&1) == *NXDOMAIN* ]]; }
serves() { [[ $(in_pod timeout 5 wget -qO- "http://$1") == served ]]; }
serves_itself() { [[ $(kubectl exec server -- timeout 5 wget -qO- http://server.default.svc) == served ]]; }
forwards_a_port() {
  kubectl port-forward pod/server 18080:8080 >/dev/null &
  local forward=$! answer
  for _ in {1..50}; do
    sleep 0.1
    if answer=$(busybox wget -qO- http://127.0.0.1:18080 2>/dev/null); then break; fi
  done
  kill "$forward"
  [[ $answer == served ]]
}
memory_limit_binds() { ! kubectl exec server -- sh -c 'head -c 100m /dev/zero | tail -c 99m >/dev/null'; }
audit_log_has_exec() { grep -q '"resource":"pods","namespace":"default","name":"client".*"subresource":"exec"' "$(./cluster.sh audit-log)"; }

nothing_left() {
  local left
  left=$(
    cluster_pids || true
    grep -F "$state" /proc/self/mountinfo || true
    ip -o address show to 198.18.0.0/15
    ip netns list
    nft list tables | grep kube || true
    find /sys/fs/cgroup -name 'workerpool-cluster*' -o -name 'kubepods*'
    ls -d "$state" /var/lib/cni /run/containerd /var/log/containers /var/log/pods /var/lib/kubelet /opt/containerd 2>/dev/null || true
  )
  [[ -z $left ]] || { printf 'left: %s\n' "$left"; return 1; }
}

quick_second_up() {
  local start=$EPOCHREALTIME
  ./cluster.sh up
  local took=$(((${EPOCHREALTIME/./} - ${start/./}) / 1000))
  printf '%d ms\n' "$took"
  ((took < 3000))
}

two_ups_at_once() {
  ./cluster.sh up &
  local first=$!
  ./cluster.sh up
  wait "$first"
}

half_down() {
  ./cluster.sh down &
  local down=$!
  sleep "$1"
  kill -KILL "$down"
  wait "$down" 2>/dev/null || true
}

# fails_with TEXT COMMAND...: the command must fail, and its last line must have the text.
fails_with() {
  local text=$1 output
  shift
  if output=$("$@" 2>&1); then return 1; fi
  printf '%s\n' "$output"
  [[ $(tail -n 1 <<<"$output") == *"$text"* ]]
}

a_taken_port_is_named() {
  busybox nc -l -p 10250 >/dev/null 2>&1 &
  local listener=$! status=0
  sleep 0.2
  fails_with 10250 ./cluster.sh up || status=1
  kill "$listener"
  return "$status"
}

too_little_room_is_named() {
  local folder status=0
  folder=$(mktemp -d)
  mount -t tmpfs -o size=1m tmpfs "$folder"
  WORKERPOOL_CACHE=$folder/cache fails_with 'needs 6 GiB free' ./cluster.sh up || status=1
  umount "$folder"
  rmdir "$folder"
  return "$status"
}

# Docker makes such a table.
forward_nothing() {
  nft add table ip filter
  nft add chain ip filter FORWARD '{ type filter hook forward priority 0; policy drop; }'
}
our_forward_rules_are_gone() { ! nft list chain ip filter FORWARD | grep workerpool; }

nodes_ready() { [[ $(kubectl get nodes -o jsonpath='{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}') == "$* " ]]; }

pods_on_node2() {
  kubectl apply -f - <<'PODS'
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: far}}
spec:
  nodeName: node2
  containers:
    - name: server
      image: localhost/workerpool/busybox:1
      args: [-c, 'echo served >/tmp/index.html; exec httpd -f -p 8080 -h /tmp']
      readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: far}
spec:
  selector: {app: far}
  ports: [{port: 80, targetPort: 8080}]
PODS
  kubectl wait --for=condition=Ready pod/far --timeout=60s
}
in_far_pod() { kubectl exec far -- "$@"; }
far_is_up_again() { kubectl wait --for=jsonpath='{.status.containerStatuses[0].restartCount}'=1 --for=condition=Ready pod/far --timeout=60s; }
image_is_on_both() {
  local ref
  ref=$(./cluster.sh program localhost/workerpool/test:1 "$(command -v busybox)")
  kubectl run other --image="$ref" --image-pull-policy=Never --overrides='{"spec":{"nodeName":"node2"}}' --restart=Never --command -- /busybox true
  kubectl wait --for=jsonpath='{.status.phase}'=Succeeded pod/other --timeout=60s
}
zones() { [[ $(kubectl get nodes -o jsonpath='{.items[*].metadata.labels.topology\.kubernetes\.io/zone}') == "zone-1 zone-2" ]]; }
# The API server believes in a node for about 50 seconds.
is_missed() { kubectl wait --for=jsonpath='{.status.conditions[?(@.type=="Ready")].status}'=Unknown node/node2 --timeout=90s; }
no_process_of_node2() { ! pgrep -f "$state-node2"; }
no_node2() { nodes_ready node1=True && no_process_of_node2 && [[ ! -e $state-node2 ]] && ! ip link show workerpool2 && ! kubectl get pod far; }

half_up() {
  ./cluster.sh up &
  local up=$!
  sleep "$1"
  kill -KILL "$up"
  wait "$up" 2>/dev/null || true
}

check 'down' ./cluster.sh down
check 'down leaves nothing' nothing_left
check 'down of nothing' ./cluster.sh down
check 'too little room is named' too_little_room_is_named
check 'a taken port is named' a_taken_port_is_named
check 'an unknown provider is named' fails_with CLUSTER=nonsense env CLUSTER=nonsense ./cluster.sh up
check 'two ups at once' two_ups_at_once
check 'a second up is quick' quick_second_up
eval "$(./cluster.sh env)"
check 'pods run' pods
check 'kubectl logs' has_started_line
check 'kubectl exec' in_pod true
check 'kubectl port-forward' forwards_a_port
check 'DNS' resolves
check 'a name outside does not exist' unknown_name_is_unknown
check 'a Service by its name' serves server
check 'a Service by its address' serves "$(kubectl get service server -o jsonpath='{.spec.clusterIP}')"
check 'a Service from its own pod' serves_itself
check 'a memory limit binds' memory_limit_binds
check 'the audit log' audit_log_has_exec
check 'an unknown number of nodes is named' fails_with NODES=3 env NODES=3 ./cluster.sh up
check 'a second node' env NODES=2 ./cluster.sh up
check 'two nodes are ready' nodes_ready node1=True node2=True
check 'each node has its zone' zones
check 'pods run on the second' pods_on_node2
check 'a Service whose pod is on the other node' serves far
check 'a Service, DNS and the way back from there' in_far_pod timeout 5 wget -qO- http://server
check 'the images of both nodes are the same' image_is_on_both
check 'the second node is cut off' ./cluster.sh node2 cut
check 'its pods cannot be reached' fails_with 'exit code' in_pod timeout 1 wget -qO- http://far
check 'it joins again' ./cluster.sh node2 join
check 'its pods can be reached' serves far
check 'the second node loses power' ./cluster.sh node2 off
check 'nothing of it runs' no_process_of_node2
check 'it is missed' is_missed
check 'it is on again' ./cluster.sh mend
check 'its pods are started again' far_is_up_again
check 'its pods can be reached' serves far
check 'one node' ./cluster.sh up
check 'nothing of the second is left' no_node2
for after in 0.2 0.5 1 2; do
  NODES=2 half_up "$after" 2>/dev/null
  check "two nodes after an up that was killed after $after s" env NODES=2 ./cluster.sh up
  check 'pods run on the second' pods_on_node2
  check 'one node' ./cluster.sh up
  check 'nothing of the second is left' no_node2
done
check 'two nodes again' env NODES=2 ./cluster.sh up
check 'pods run on the second' pods_on_node2
check 'kill -9 of all' kill_all
check 'up after that' ./cluster.sh up
check 'pods run' pods
for after in 0.2 1 2; do
  half_down "$after" 2>/dev/null
  check "up after a down that was killed after $after s" ./cluster.sh up
  check 'pods run' pods
done
check 'kill -9 of all' kill_all
check 'down after that' ./cluster.sh down
check 'down leaves nothing' nothing_left
check 'two nodes at once' env NODES=2 ./cluster.sh up
check 'pods run on the second' pods_on_node2
check 'down' ./cluster.sh down
check 'down leaves nothing' nothing_left
for after in 0.5 2 8; do
  half_up "$after" 2>/dev/null
  check "up after an up that was killed after $after s" ./cluster.sh up
  check 'pods run' pods
  check 'down' ./cluster.sh down
  check 'down leaves nothing' nothing_left
done
if ! nft list table ip filter >/dev/null 2>&1; then
  check 'a firewall that forwards nothing' forward_nothing
  check 'up behind it' ./cluster.sh up
  check 'pods run' pods
  check 'a Service by its name' serves server
  check 'down' ./cluster.sh down
  check 'the firewall is as it was' our_forward_rules_are_gone
  nft delete table ip filter
fi
check 'up' ./cluster.sh up
exit "$failed"
