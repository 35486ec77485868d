package main

import (
	"context"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
)

// item is a job that is queued and never run. It has a size, so that no two have the same address.
type item struct {
	_ byte
}

var _ worker.Job = (*item)(nil)

func (*item) Process() error  { return nil }
func (*item) OnFailure(error) {}
func (*item) MaxRetries() int { return 0 }

// queueSubject is a queue to put items into.
type queueSubject struct {
	name    string
	bounded bool
	open    func() jobQueue
}

// jobQueue is a subject that is open. push waits for room, pop for an item.
type jobQueue struct {
	push  func(*item)
	pop   func()
	close func()
}

var queueSubjects = []queueSubject{
	{us, true, func() jobQueue { return openQueue(queue.New(queueSize)) }},
	{us + "-priority", true, func() jobQueue {
		return openQueue(got(queue.NewPriority(queue.Options{Capacity: queueSize})))
	}},
	{floor, true, openChannelQueue},
	{"workqueue", false, openWorkqueue},
	{"priorityqueue", false, openPriorityqueue},
}

func openQueue(q worker.QueueContext) jobQueue {
	ctx := context.Background()
	return jobQueue{
		push:  func(i *item) { must(q.PushContext(ctx, i)) },
		pop:   func() { got(q.Pop()) },
		close: func() { must(q.Close()) },
	}
}

func openChannelQueue() jobQueue {
	q := make(chan worker.Job, queueSize)
	return jobQueue{
		push:  func(i *item) { q <- i },
		pop:   func() { <-q },
		close: func() { close(q) },
	}
}

func openWorkqueue() jobQueue {
	q := workqueue.NewTyped[*item]()
	return jobQueue{push: q.Add, pop: getAndDone(q), close: q.ShutDown}
}

func openPriorityqueue() jobQueue {
	q := priorityqueue.New[*item]("")
	return jobQueue{push: func(i *item) { q.Add(i) }, pop: getAndDone(q), close: q.ShutDown}
}

// getAndDone is a pop of a queue that wants to be told when an item has been worked on.
func getAndDone(q workqueue.TypedInterface[*item]) func() {
	return func() {
		i, _ := q.Get()
		q.Done(i)
	}
}

// queueBenchmarks returns the benchmarks of queues, with a share of the items.
func queueBenchmarks(share int) []benchmark {
	items := make([]item, 200_000/share)
	return []benchmark{
		queueBenchmark("g1", func(q jobQueue) sample {
			return measure(len(items), func() {
				for i := range items {
					q.push(&items[i])
					q.pop()
				}
			})
		}),
		queueBenchmark("p1c1", func(q jobQueue) sample { return pass(q, items, 1) }),
		queueBenchmark("p4c4", func(q jobQueue) sample { return pass(q, items, 4) }),
	}
}

func queueBenchmark(name string, run func(jobQueue) sample) benchmark {
	b := benchmark{name: "queue/push-pop/" + name, budgets: []budget{atMostTwiceTheFloor, allocatesNothing}}
	for _, s := range queueSubjects {
		b.contenders = append(b.contenders, contender{s.name, s.bounded, func() sample {
			q := s.open()
			defer q.close()
			return run(q)
		}})
	}
	return b
}

// pass measures n producers and as many consumers that pass the items through the queue.
func pass(q jobQueue, items []item, n int) sample {
	each := len(items) / n
	var actors []func()
	for producer := range n {
		own := items[producer*each : (producer+1)*each]
		push := func() {
			for i := range own {
				q.push(&own[i])
			}
		}
		pop := func() {
			for range each {
				q.pop()
			}
		}
		actors = append(actors, push, pop)
	}
	return measure(n*each, actors...)
}
