// The cluster program measures the operator on a real cluster, each figure in one run with what it is compared
// with, by turns, and judges them by the budgets. `make bench` runs it; it needs a cluster with the operator, and
// nothing else on the machine.
package main
