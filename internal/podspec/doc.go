// Package podspec makes worker pods out of WorkerPools. It is pure: it reads no clock, no cluster and
// no configuration but its arguments, and never changes them.
package podspec
