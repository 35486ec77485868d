// Package worker is the worker pool abstraction: a queue of jobs, the workers that run them, a
// controller of the resources they take, and a manager of them all. The four are interfaces, so
// that each can be replaced, and mocked in tests.
//
// The same interfaces are the spine of the workerpool operator: there a Job is a Job object of
// Kubernetes, a Worker a warm pod, and the queue and the resource controller are the very types of
// the packages queue and resource.
//
// # Blocking
//
// A method without a context either never waits or says so: Queue.Pop waits for a job, Manager.Stop
// for what runs. Where a caller wants to bound the wait, implementations offer the method with a
// context beside it (QueueContext, ResourceControllerContext).
//
// # Concurrency
//
// All implementations in this module are safe for concurrent use.
package worker
