# Targets of the cluster: see hack/cluster/cluster.sh. CLUSTER=current, kind or source says which; IMAGE names the operator's image;
# NODES=2 gives a cluster from source a second node.

cluster := IMAGE='$(IMAGE)' CLUSTER='$(CLUSTER)' NODES='$(NODES)' hack/cluster/cluster.sh

##@ Cluster

.PHONY: cluster-up
cluster-up: ## Start a cluster, or do nothing if it runs; CLUSTER=current, kind or source says which, NODES=2 gives it two nodes.
	@$(cluster) up

.PHONY: cluster-down
cluster-down: ## Stop the cluster and leave nothing of it behind.
	@$(cluster) down

.PHONY: cluster-status
cluster-status: ## Show what runs, its versions, and where the logs are.
	@$(cluster) status

.PHONY: cluster-env
cluster-env: ## Print the line that makes a shell use the cluster: eval "$(make -s cluster-env)"
	@$(cluster) env

.PHONY: envtest-assets
envtest-assets: ## Print the folder of programs that envtest needs, made if need be.
	@$(cluster) envtest-assets

.PHONY: kwok
kwok: ## Print the path of kwok, which plays nodes in the scale test, built if need be.
	@$(cluster) kwok

.PHONY: image
image: ## Build the operator's image as dist/image.tar, without Docker.
	@$(cluster) image

.PHONY: deploy
deploy: ## Build the operator, load it and install config/default.
	@$(cluster) deploy

.PHONY: undeploy
undeploy: ## Delete all worker pools, the operator and its CRDs.
	@$(cluster) undeploy
