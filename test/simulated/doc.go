// Package simulated is a cluster without machines, for tests of the real operator with a real API server and etcd.
// kwok plays the kubelets. The scheduler and the agents in the pods are simulated here; the agents have tokens of
// their pods and speak the real wire. What the operator asks of the API server goes through a proxy.
package simulated
