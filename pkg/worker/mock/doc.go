// Package mock has test doubles of the interfaces of package worker, for tests of code that uses them.
//
// They keep the contract in memory, and do nothing by themselves: no goroutine runs a job, the test
// says when one ends. So a test sees each step:
//
//	q := mock.NewQueue(10)
//	m := mock.NewManager(2, q)         // it has two workers
//	code.Under(test, m)                // starts the pool and pushes jobs
//	job := m.Active()[0]               // one that a worker has already
//	m.End(job, job.Process())          // or any other result
//	fmt.Println(m.Status(), q.Pushes())
//
// # Scripts
//
// Each method that returns an error has a hook: a field with its name after Before. If that is set,
// the method calls it first, with its own arguments and without a lock. If the hook returns an error,
// the method returns this very error and does nothing else. So a hook can fail a call, or delay it, or
// look at its arguments. FailTimes makes one that fails some calls. Set hooks before others use the mock.
//
// # Records
//
// The methods Pushes, Pops, Starts and so on tell which calls there were: with the arguments where
// there are any, or else their number. A call is recorded as it begins, refused or not. Calls of Len,
// ID, Queue, Status and MaxRetries, which only ask, are not.
//
// # Concurrency
//
// All methods are safe for concurrent use, and wait in a way that a bubble of testing/synctest
// understands.
package mock
