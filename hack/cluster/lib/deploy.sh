# shellcheck shell=bash
# Puts the operator of this checkout onto the cluster, and takes it away.

readonly operator_namespace=workerpool-system
readonly operator_deployment=deployment/workerpool-controller-manager

# manifests IMAGE: config/default with that image, without a change to the tree.
manifests() {
  local rendered
  rendered=$(kubectl kustomize "$root/config/default")
  [[ $rendered == *"$default_image"* ]] || die "config/default does not name the image $default_image"
  printf '%s\n' "${rendered//"$default_image"/$1}"
}

deploy() {
  local ref=$image
  if [[ $provider == current ]]; then
    [[ $ref != "$default_image" ]] || die 'say which image your cluster is to pull: make deploy CLUSTER=current IMAGE=...'
  else
    ref=$(built_and_loaded "$image")
  fi
  say "installing the operator, image $ref"
  manifests "$ref" | kubectl apply --server-side --force-conflicts -f - >&2
  kubectl wait --for=condition=Established --timeout=60s crd/workerpools.workerpool.dev crd/jobs.workerpool.dev >&2
  kubectl -n "$operator_namespace" rollout status "$operator_deployment" --timeout=120s >&2 || {
    kubectl -n "$operator_namespace" get pods >&2
    die "the operator did not become ready: kubectl -n $operator_namespace logs $operator_deployment"
  }
}

# built_and_loaded REF prints the reference under which the cluster has the image.
built_and_loaded() {
  local ref
  ref=$(operator_image "$work/image.tar" "$1")
  load_image "$ref" "$work/image.tar"
  printf '%s\n' "$ref"
}

# WorkerPools have a finalizer that only the operator takes off, so they go before it does.
undeploy() {
  if kubectl get crd workerpools.workerpool.dev >/dev/null 2>&1; then
    say 'deleting all worker pools, which drains them'
    kubectl delete workerpools.workerpool.dev --all --all-namespaces --timeout=300s >&2
  fi
  manifests "$default_image" | kubectl delete --ignore-not-found -f - >&2
}
