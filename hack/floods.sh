#!/usr/bin/env bash
# How long a flood of output takes in a Job, and in a bare pod on the same node, by turns: each tells how long its command
# has run. It needs a cluster with the operator: see `make cluster-env`.
#
#   ROUNDS=5 hack/floods.sh
set -euo pipefail
cd "$(dirname "$0")/.."

readonly ROUNDS=${ROUNDS:-5} NAMESPACE=floods IMAGE=localhost/workerpool/busybox:1 MOST=${MOST:-2}
readonly -A FLOODS=(
  [short-lines]='yes | head -c 10000000'
  [long-lines]='yes "a line of some length, as programs write them when they say what they do" | head -c 50000000'
  [endless-line]='head -c 100000000 /dev/zero | tr "\0" x'
  [binary]='head -c 50000000 /dev/urandom'
)

samples=$(mktemp -d)
finish() {
  kubectl delete namespace "$NAMESPACE" --ignore-not-found --wait=false >/dev/null
  rm -rf "$samples"
}
trap finish EXIT

in_namespace() { kubectl -n "$NAMESPACE" "$@"; }

# timed COMMAND: a script that says when the command has begun and ended, in seconds, in its last line and in its
# termination message: a pod's log is rotated under a flood.
timed() {
  printf 'read a rest </proc/uptime; %s; read b rest </proc/uptime; echo; echo $a $b; echo $a $b >/dev/termination-log || true' "$1"
}

seconds() { tail -n 1 | awk '{ printf "%.2f\n", $2 - $1 }'; }

# job NAME SCRIPT
job() {
  in_namespace create -f - >/dev/null <<MANIFEST
apiVersion: workerpool.dev/v1alpha1
kind: Job
metadata: {name: $1}
spec: {pool: demo, command: [sh, -c, '$2']}
MANIFEST
  in_namespace wait --for=condition=Complete "wj/$1" --timeout=300s >/dev/null
  in_namespace get "wj/$1" -o 'jsonpath={.status.result.output}' | seconds
  in_namespace delete "wj/$1" >/dev/null
}

# pod NAME SCRIPT
pod() {
  in_namespace create -f - >/dev/null <<MANIFEST
apiVersion: v1
kind: Pod
metadata: {name: $1}
spec:
  restartPolicy: Never
  containers:
    - {name: main, image: "$IMAGE", command: [sh, -c, '$2'], securityContext: {runAsUser: 65532}}
MANIFEST
  in_namespace wait --for=jsonpath='{.status.phase}'=Succeeded "pod/$1" --timeout=300s >/dev/null
  in_namespace get "pod/$1" -o 'jsonpath={.status.containerStatuses[0].state.terminated.message}' | seconds
  in_namespace delete "pod/$1" >/dev/null
}

median() { sort -n "$samples/$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

kubectl create namespace "$NAMESPACE" >/dev/null
in_namespace apply -f config/samples/workerpool.yaml >/dev/null
in_namespace wait --for=condition=Ready wp/demo --timeout=120s >/dev/null
for round in $(seq "$ROUNDS"); do
  for flood in "${!FLOODS[@]}"; do
    echo "Round $round of $ROUNDS: $flood" >&2
    script=$(timed "${FLOODS[$flood]}")
    job "$flood-$round" "$script" >>"$samples/$flood.job"
    pod "$flood-$round" "$script" >>"$samples/$flood.pod"
  done
done

printf '%-16s%10s%10s%8s\n' FLOOD JOB POD RATIO
worst=0
for flood in "${!FLOODS[@]}"; do
  ratio=$(awk "BEGIN { printf \"%.2f\", $(median "$flood.job") / ($(median "$flood.pod") + 0.01) }")
  printf '%-16s%10s%10s%8s\n' "$flood" "$(median "$flood.job")" "$(median "$flood.pod")" "$ratio"
  worst=$(awk "BEGIN { print ($ratio > $worst) ? $ratio : $worst }")
done
echo "Seconds, medians. A Job is to take at most $MOST times as long as a pod."
awk "BEGIN { exit $worst > $MOST }"
