// Package worker runs jobs: a bounded queue, workers that take jobs from it, limits to what the jobs
// take together, and a pool that manages them all. These parts are interfaces, so that each can be
// replaced, and mocked in tests. The guide is docs/library.md in this repository.
//
//	pool, err := worker.NewPool(worker.Options{Workers: 4, QueueSize: 100})
//	if err != nil {
//		return err
//	}
//	if err := pool.Start(); err != nil {
//		return err
//	}
//	for _, name := range names {
//		if err := pool.Submit(ctx, &Thumbnail{name}); err != nil {
//			return err
//		}
//	}
//	return pool.Stop() // runs all that was submitted, and waits for it
//
// A [Job] is any type with the methods Process, OnFailure and MaxRetries. With further methods it can
// be told to end ([JobContext]), limit its time ([Timed]), say when it is tried again ([Retried]), take
// resources ([Sized]), have a priority ([Prioritized]) or a name ([Named]). [Options] say what a pool
// is made of. [Pool.SubmitResult] tells how a job ended.
//
// # Blocking
//
// A method without a context either never waits or says so: Queue.Pop waits for a job, Manager.Stop
// for all that was accepted. Where a caller wants to bound the wait, implementations offer the method
// with a context beside it: see [QueueContext], [ResourceControllerContext], [WorkerContext] and
// [ManagerContext]. At the end of the context such a method returns its cause, as [context.Cause] has
// it. [Pool.Submit] waits for room in the queue; a Push to [Pool.Queue] does not.
//
// # Errors
//
// The errors of this package are returned as they are or wrapped: test for them with [errors.Is].
// A job fails by an error, a panic (a [PanicError], with the stack) or [runtime.Goexit] (ErrGoexit);
// none of them ends a worker. Nothing that was accepted is dropped in silence: a job is run until it
// has succeeded or failed for good, or it is handed back by [Pool.StopContext].
//
// # Concurrency
//
// All implementations in this module are safe for concurrent use. A job is run by one goroutine at a
// time, unless it was submitted twice. What a job does happens before Result.Wait returns and before
// its next try.
//
// # Units
//
// Memory is in bytes, CPU in cores, counted to a billionth; Files is a number of open files. A limit of
// 0 is none. Counts of jobs include failed ones where they are called processed.
//
// # Where things are
//
//   - queue has the queues: FIFO, and Priority, with aging and delays;
//   - resource has the controller that gives out memory, CPU and files;
//   - mock has test doubles of all interfaces;
//   - queue/queuetest, resource/resourcetest, worker/workertest, pool/pooltest and jobtest have a suite
//     for each interface, for your own implementations;
//   - worker and pool are the inside of NewPool.
//
// The same interfaces are the spine of the workerpool operator: there a Job is a Job object of
// Kubernetes, a Worker a warm pod, and the queue and the resource controller are the very types of
// the packages queue and resource.
package worker
