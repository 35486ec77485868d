# shellcheck shell=bash
# The cluster that kind makes. Kept minimal: kind and Docker do the work.

readonly kind_name=workerpool

kind_exists() { kind get clusters 2>/dev/null | grep -qx "$kind_name"; }

kind_up() {
  command -v kind >/dev/null || die 'missing kind: https://kind.sigs.k8s.io'
  command -v kubectl >/dev/null || die 'missing kubectl: https://kubernetes.io/docs/tasks/tools'
  needs busybox busybox-static
  needs_met
  lock "$cache/kind.lock" 900
  if kind_exists; then
    say "already up"
  else
    say 'creating (usually a minute, and longer when Docker must download the node first)'
    kind create cluster --name "$kind_name" --kubeconfig "$KUBECONFIG" --wait 120s >&2 9>&-
  fi
  kind export kubeconfig --name "$kind_name" --kubeconfig "$KUBECONFIG" >&2
  build_programs image
  busybox_archive "$work/busybox.tar"
  load_image "$busybox_image" "$work/busybox.tar"
}

kind_down() { kind delete cluster --name "$kind_name" --kubeconfig "$KUBECONFIG" >&2; }

kind_status() {
  kind_exists || { say "not running; 'make cluster-up' starts it"; return 1; }
  kubectl get nodes -o wide
  kubectl get deployments -A
  printf '%s\n' "logs: kind export logs --name $kind_name"
}
