#!/usr/bin/env bash
# How much longer a Job takes while another pool is in trouble: p99 from create to complete in one pool, alone and
# beside pools that do not work, or whose Jobs flood the log, by turns. It needs a cluster with the operator: see `make cluster-env`.
#
#   ROUNDS=5 JOBS=200 hack/isolation.sh
set -euo pipefail
cd "$(dirname "$0")/.."

readonly ROUNDS=${ROUNDS:-5} JOBS=${JOBS:-200} TROUBLES=${TROUBLES:-broken-image full-queue crashing-agents short-lines endless-line binary}
readonly SOUND=isolation-sound TROUBLED=isolation-troubled IMAGE=localhost/workerpool/busybox:1

samples=$(mktemp -d)
finish() {
  kubectl delete namespace "$SOUND" "$TROUBLED" --ignore-not-found --wait=false >/dev/null
  rm -rf "$samples"
}
trap finish EXIT

troubled() { kubectl -n "$TROUBLED" "$@" >/dev/null; }

# pool IMAGE REPLICAS: the pool that is in trouble, with a queue of one Job.
pool() {
  troubled apply -f - <<EOF
apiVersion: workerpool.dev/v1alpha1
kind: WorkerPool
metadata: {name: demo}
spec:
  replicas: $2
  queue: {capacity: 1}
  drainTimeoutSeconds: 1
  template:
    spec:
      containers:
        - {name: worker, image: "$1", securityContext: {runAsUser: 65532}}
EOF
}

# job NAME COMPLETIONS COMMAND...: one that waits for the pool, as kubectl takes it.
job() {
  cat <<EOF
---
apiVersion: workerpool.dev/v1alpha1
kind: Job
metadata: {name: $1}
spec: {pool: demo, completions: $2, command: [${*:3}]}
EOF
}

# await TYPE REASON: until the pool has this condition.
await() { troubled wait "--for=jsonpath={.status.conditions[?(@.type=='$1')].reason}=$2" wp/demo --timeout=120s; }

broken-image() {
  pool localhost/no/such:image 3
  await Progressing WorkerCannotStart
}

full-queue() {
  pool "$IMAGE" 1
  await Ready AllWorkersReady
  for i in $(seq 201); do job "waiting-$i" 1 sleep, '"3600"'; done | troubled create -f -
  await QueueFull CapacityReached
}

# The agents are killed from the node, once a second: nothing in their own container could do that. The kubelet waits
# longer and longer before it restarts them.
crashing-agents() {
  pool "$IMAGE" 5
  job victims 1000 sleep, '"3600"' | troubled create -f -
  await Ready AllWorkersReady
  troubled apply -f - <<EOF
apiVersion: v1
kind: Pod
metadata: {name: killer}
spec:
  hostPID: true
  terminationGracePeriodSeconds: 0
  containers:
    - name: killer
      image: $IMAGE
      securityContext: {runAsUser: 65532}
      command:
        - sh
        - -c
        - |
          while true; do
            for p in \$(pidof agent); do
              if tr '\\0' '\\n' </proc/\$p/cmdline | grep -qx -- --namespace=$TROUBLED; then kill -9 \$p; fi
            done
            sleep 1
          done
EOF
  await Ready WorkersNotReady
}

# flood SCRIPT: a worker that writes all the time.
flood() {
  pool "$IMAGE" 1
  await Ready AllWorkersReady
  job flood 1000 sh, -c, "'$1'" | troubled create -f -
}

short-lines() { flood 'yes | head -c 100000000'; }
endless-line() { flood 'head -c 1000000000 /dev/zero | tr "\0" x'; }
binary() { flood 'head -c 1000000000 /dev/urandom'; }

measure() { "$samples/latency" -namespace "$SOUND" -pool demo -jobs "$JOBS" -batch 0 -raw >>"$samples/$1"; }

# quantile FILE HUNDREDTHS: in milliseconds.
quantile() { sort -n "$samples/$1" | awk -v q="$2" '{ v[NR] = $1 } END { n = int((NR * q + 99) / 100); printf "%.1f", v[n] / 1000 }'; }

go build -o "$samples/latency" ./hack/latency
kubectl create namespace "$SOUND" >/dev/null
kubectl -n "$SOUND" apply -f config/samples/workerpool.yaml >/dev/null
kubectl -n "$SOUND" wait --for=condition=Ready wp/demo --timeout=120s >/dev/null
for round in $(seq "$ROUNDS"); do
  for trouble in $TROUBLES; do
    echo "Round $round of $ROUNDS: $trouble" >&2
    measure "$trouble.alone"
    kubectl create namespace "$TROUBLED" >/dev/null
    "$trouble"
    measure "$trouble.beside"
    kubectl delete namespace "$TROUBLED" --timeout=180s >/dev/null
  done
done

printf '%-18s%8s%12s%12s%12s%12s%8s\n' BESIDE JOBS 'P50 ALONE' 'P50' 'P99 ALONE' 'P99' RATIO
for trouble in $TROUBLES; do
  alone=$(quantile "$trouble.alone" 99) beside=$(quantile "$trouble.beside" 99)
  printf '%-18s%8d%12s%12s%12s%12s%8s\n' "$trouble" "$(wc -l <"$samples/$trouble.beside")" \
    "$(quantile "$trouble.alone" 50)" "$(quantile "$trouble.beside" 50)" "$alone" "$beside" "$(awk "BEGIN { printf \"%.2f\", $beside / $alone }")"
done
echo 'Milliseconds from create to complete. The p99 beside a pool in trouble is to be at most 1.5 times that alone.'
