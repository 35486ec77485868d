#!/usr/bin/env bash
# From a fresh clone to Jobs in warm workers: a cluster, the operator, a pool, 100 Jobs, and how long
# one takes. It may be run again at any time.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly NAMESPACE=workerpool-demo JOBS=100

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
show() {
  printf '$ %s\n' "$*"
  "$@"
}
kubectl() { command kubectl -n "$NAMESPACE" "$@"; }

# jobs prints Jobs as `kubectl create` takes them.
jobs() {
  local i
  for i in $(seq -w "$JOBS"); do
    cat <<EOF
---
apiVersion: workerpool.dev/v1alpha1
kind: Job
metadata:
  generateName: hello-$i-
  labels: {demo: "$1"}
spec:
  pool: demo
  command: ["sh", "-c", "sleep 1; echo Hello number $i from \$(hostname)."]
EOF
  done
}

finished() { kubectl get wj -l "demo=$1" -o jsonpath='{.items[*].status.completionTime}' | wc -w; }

say "A cluster with the operator"
make --no-print-directory cluster-up deploy
environment=$(make -s cluster-env)
eval "$environment"

say "A pool of two warm workers, each of which runs four Jobs at once"
command kubectl create namespace "$NAMESPACE" --dry-run=client -o yaml | command kubectl apply -f - >/dev/null
show kubectl apply -f config/samples/workerpool.yaml
show kubectl wait --for=condition=Ready wp/demo --timeout=180s

say "$JOBS Jobs of a second each"
run=$(date +%s)
jobs "$run" | kubectl create -f - | tail -n 1
for _ in $(seq 300); do
  if [ "$(finished "$run")" -ge 20 ]; then break; fi
done
show kubectl get wp
kubectl get wj -l "demo=$run" | awk 'NR == 1 || /Running/ || n[$3]++ < 3'
echo "(of those that run all are shown, of others three of each kind)"
show kubectl wait --for=condition=Complete wj -l "demo=$run" --timeout=180s | tail -n 1
show kubectl get wp

say "The log of one"
name=$(kubectl get wj -l "demo=$run" -o jsonpath='{.items[0].metadata.name}')
worker=$(kubectl get wj "$name" -o jsonpath='{.status.worker}')
show kubectl get wj "$name" -o jsonpath='{.status.result}{"\n"}'
echo "$ kubectl logs $worker -c worker | grep $name"
kubectl logs "$worker" -c worker | grep "$name"

say "How long an echo takes here"
go run ./hack/latency -namespace "$NAMESPACE" -pool demo

say "Go on by yourself"
cat <<EOF
$environment
kubectl config set-context --current --namespace=$NAMESPACE
kubectl get wp,wj
kubectl create -f config/samples/job.yaml
kubectl wait --for=condition=Complete wj/hello
kubectl scale wp demo --replicas=4
kubectl explain job.spec --api-version=workerpool.dev/v1alpha1

To delete what the demo made:   kubectl delete namespace $NAMESPACE
To take the operator off:       make undeploy
To stop the cluster:            make cluster-down
EOF
