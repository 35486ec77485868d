// Package worker has the worker that is a goroutine: it takes jobs from a feed, has each tried, and
// settles how it ended.
//
// This package stands below the one that declares worker.Job, so that worker.NewPool can use it, and
// is generic in the type of the jobs for that reason alone. To have workers, call worker.NewPool; to
// bring your own, implement worker.Worker.
package worker
