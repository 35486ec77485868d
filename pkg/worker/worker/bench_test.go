package worker

import (
	"context"
	"testing"

	"github.com/workerpool-dev/workerpool/pkg/worker/internal/feed"
)

type testJob interface {
	Process() error
	OnFailure(err error)
	MaxRetries() int
}

type noop struct{ n int }

func (j *noop) Process() error { j.n++; return nil }
func (*noop) OnFailure(error)  {}
func (*noop) MaxRetries() int  { return 0 }

// BenchmarkHandle is what a job costs beyond its queue and its own work.
func BenchmarkHandle(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	q := feed.NewFIFO[testJob](1)
	w := New(0, &Crew[testJob]{Feed: q, Context: ctx})
	var j testJob = &noop{}
	b.ReportAllocs()
	for b.Loop() {
		w.handle(j)
	}
}

// BenchmarkJob is what a job costs with its queue, without waiting.
func BenchmarkJob(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	q := feed.NewFIFO[testJob](1)
	w := New(0, &Crew[testJob]{Feed: q, Context: ctx})
	var j testJob = &noop{}
	b.ReportAllocs()
	last := feed.None
	for b.Loop() {
		_ = q.PushContext(ctx, j)
		job, _ := w.next(last)
		last = w.handle(job)
	}
}
