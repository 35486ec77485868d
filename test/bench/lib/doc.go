// Command bench-lib measures the pool, the queues and the resource controller of pkg/worker side by
// side with what else a Go program could use, in one process and one run, and says whether the
// library keeps its budgets. `make bench-lib` runs it.
//
// It is in a Go module of its own, so that its subjects are no dependencies of the library; go.mod
// pins their versions.
//
// # What is measured
//
// A pool is measured from submit to done: one operation is a job that has run. Each subject is given
// the same function as its job, once per producer and in the form it asks for, so that what a submit
// allocates is the subject's own. It counts a sync.WaitGroup down. The benchmarks are
// pool/WORK/wN/pM, with N workers and M producers. The work is nothing, an arithmetic loop of 1 or
// 20 µs, whose length is found out at the start and is then the same for all, or a sleep of 10 ms.
//
// A queue of 1024 places is measured by a push, which waits for room, and a pop, which waits for an
// item; an operation is both. Each item is pushed once, because some queues know their items apart.
//
// A resource controller is measured by an acquire, which waits its turn, and a release; an operation
// is both. In the contended benchmark 8 goroutines share what is enough for 2, and each yields its
// processor while it holds its share, so that the others do have to wait.
//
// # How
//
// A benchmark has several rounds. In each, all subjects take their turn, in an order that changes, so
// that a disturbance hits all alike. A turn collects garbage, sets the subject up, warms a pool up with
// a tenth of the jobs, and then measures. What counts is the median of the rounds: of the time per
// operation, and of the heap objects allocated per operation by anyone in the process, to a
// hundredth. Goroutines wait at a gate before the clock starts.
//
// The figures hold for the machine and the run they come from: compare inside one run only, on a
// machine that does nothing else. Where others take its processors, goroutines seldom run at the same
// time and seldom collide, which flatters those that take collisions badly.
//
// # Subjects
//
// The floor is the channel: workers that range over a bare buffered channel, a queue that is nothing
// else. A bounded subject makes the submitter wait when it has too much; the others take any amount
// of work, and of memory.
//
// A submit to tunny waits for the job's end, so that each producer has one job at a time. It is left
// out where that would take minutes: sleeping jobs with one producer.
//
// # Output
//
// A table for each benchmark goes to standard output, and then each budget with what it was measured
// by. The file that -out names gets all results as a JSON list of objects with the fields name,
// subject, bounded, ns_per_op and allocs_per_op.
package main
