// Package pool has the manager of a pool of goroutines: it starts the workers, stops them in two
// phases, and changes their number.
//
// This package stands below the one that declares worker.Job, so that worker.NewPool can use it, and
// is generic in the type of the jobs for that reason alone. To have a pool, call worker.NewPool.
package pool
