package engine

import (
	"fmt"
	"testing"
	"time"

	amount "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// bench is an engine with one connected worker, whose surroundings cost next to nothing.
type bench struct {
	b       *testing.B
	engine  *Engine
	now     time.Time
	created int
	// final is the last write that ends a Job.
	final Write
	sent  []Token
	seen  uint64
}

func (b *bench) Write(w Write) {
	if w.Final() {
		b.final = w
	}
}
func (b *bench) DropWrite(types.UID)              {}
func (b *bench) Look(JobRef)                      {}
func (b *bench) Load(JobRef)                      {}
func (b *bench) PoolOpened(types.NamespacedName)  {}
func (b *bench) PoolChanged(types.NamespacedName) {}
func (b *bench) Close(string)                     {}

func (b *bench) Send(cmd Command) {
	b.seen = cmd.Sequence
	for i := range cmd.Assignments {
		b.sent = append(b.sent, cmd.Assignments[i].Token)
	}
}

func newBench(b *testing.B, slots int) *bench {
	b.Helper()
	s := &bench{b: b, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	s.engine = New(func() time.Time { return s.now }, half, s)
	s.engine.Begin(Epoch{LeaseCreated: 1})
	s.engine.Loaded()
	s.engine.SetPool(PoolConfig{Key: poolKey, UID: "pool", Capacity: 1 << 30, Aging: 300 * time.Second, Slots: slots, Resources: simResources})
	s.engine.SetWorkers(poolKey, []WorkerPod{{UID: "pod", Name: "pod", Started: true, Slots: slots, Resources: simResources}})
	m, _ := s.engine.Manager(poolKey)
	if err := m.Start(); err != nil {
		b.Fatal(err)
	}
	return s
}

func (b *bench) connect() {
	if err := b.engine.Connect(b, Hello{Pool: poolKey, PoolUID: "pool", Pod: "pod", PodName: "pod"}); err != nil {
		b.b.Fatal(err)
	}
}

var benchSpec = &v1alpha1.JobSpec{Pool: "pool", Command: []string{"true"}}

func (b *bench) job() Job {
	b.created++
	if b.created%1000 == 0 {
		b.now = b.now.Add(time.Second)
	}
	name := fmt.Sprintf("job-%d", b.created)
	return Job{
		JobRef:          JobRef{NamespacedName: types.NamespacedName{Namespace: "default", Name: name}, UID: types.UID(name)},
		ResourceVersion: "1", Created: b.now, Spec: benchSpec,
	}
}

func queueLengths(b *testing.B, run func(b *testing.B, n int)) {
	b.Helper()
	for _, n := range []int{10, 1000, 100000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { run(b, n) })
	}
}

// BenchmarkSubmit takes a Job in and out again, behind n others.
func BenchmarkSubmit(b *testing.B) {
	queueLengths(b, func(b *testing.B, n int) {
		s := newBench(b, 1)
		for range n {
			s.engine.Submit(s.job())
		}
		b.ReportAllocs()
		for b.Loop() {
			job := s.job()
			s.engine.Submit(job)
			s.engine.Cancel(job.UID)
		}
	})
}

// BenchmarkJob takes a Job from its creation through the match, the settlement and the write to the end,
// with n others in the queue.
func BenchmarkJob(b *testing.B) {
	queueLengths(b, func(b *testing.B, n int) {
		s := newBench(b, 1)
		for range n + 1 {
			s.engine.Submit(s.job())
		}
		s.connect()
		b.ReportAllocs()
		for b.Loop() {
			s.engine.Submit(s.job())
			token := s.sent[0]
			s.sent = s.sent[:0]
			s.engine.Report(s, Report{Seen: s.seen, Results: []Result{{Token: token, Outcome: Exited}}})
			s.engine.Written(s.final, "2")
			s.engine.Forget(token.Job)
		}
	})
}

// BenchmarkTask runs the tasks of one indexed Job of n, none of which is written.
func BenchmarkTask(b *testing.B) {
	queueLengths(b, func(b *testing.B, n int) {
		b.ReportAllocs()
		for left, s := 0, (*bench)(nil); b.Loop(); left-- {
			if left == 0 {
				b.StopTimer()
				left, s = n, newBench(b, 1)
				job := s.job()
				job.Spec = &v1alpha1.JobSpec{Pool: "pool", Command: []string{"true"}, Completions: new(int32(n))}
				s.engine.Submit(job)
				s.connect()
				b.StartTimer()
			}
			token := s.sent[0]
			s.sent = s.sent[:0]
			s.engine.Report(s, Report{Seen: s.seen, Results: []Result{{Token: token, Outcome: Exited}}})
			if j := s.engine.jobs[token.Job]; j != nil && left%100 == 0 {
				j.owed = j.owed[:0] // as if a write had them
			}
		}
	})
}

// BenchmarkLookPast looks for a Job to be started where n wait that find no room, of one kind or each of its own.
func BenchmarkLookPast(b *testing.B) {
	for name, of := range map[string]func(i int64) *v1alpha1.JobResources{
		"one kind": func(int64) *v1alpha1.JobResources { return memoryAndFiles(simResources.Memory, 0) },
		"kinds":    func(i int64) *v1alpha1.JobResources { return memoryAndFiles(simResources.Memory-i, 0) },
		// None of these asks for as much as another.
		"kinds of two": func(i int64) *v1alpha1.JobResources { return memoryAndFiles(simResources.Memory-i, 1000+i) },
	} {
		b.Run(name, func(b *testing.B) {
			queueLengths(b, func(b *testing.B, n int) {
				s := newBench(b, 256)
				s.engine.SetPool(PoolConfig{Key: poolKey, UID: "pool", Capacity: 1 << 30, Aging: 300 * time.Second, Slots: 256, Resources: simResources})
				s.engine.Submit(withSpec(s.job(), &v1alpha1.JobSpec{Pool: "pool", Command: []string{"true"}, Resources: memoryAndFiles(simResources.Memory/2, 0)}))
				s.connect()
				for i := range int64(n) {
					s.engine.Submit(withSpec(s.job(), &v1alpha1.JobSpec{Pool: "pool", Command: []string{"true"}, Resources: of(i)}))
				}
				b.ReportAllocs()
				for b.Loop() {
					s.engine.Tick()
					s.now = s.now.Add(sweepInterval)
				}
			})
		})
	}
}

func memoryAndFiles(memory, files int64) *v1alpha1.JobResources {
	r := &v1alpha1.JobResources{Memory: amount.NewQuantity(memory, amount.BinarySI)}
	if files > 0 {
		r.Files = new(int32(files))
	}
	return r
}

func withSpec(job Job, spec *v1alpha1.JobSpec) Job {
	job.Spec = spec
	return job
}

// BenchmarkCompose writes the status of a Job of 100,000 tasks, half of which have failed, in the form that
// takes the most room.
func BenchmarkCompose(b *testing.B) {
	s := newBench(b, 256)
	job := s.job()
	job.Spec = &v1alpha1.JobSpec{Pool: "pool", Command: []string{"true"}, Completions: new(int32(100000))}
	s.engine.Submit(job)
	s.connect()
	j := s.engine.jobs[job.UID]
	for i := int32(1000); i < 100000; i++ {
		if i%2 == 0 {
			j.indexed.succeeded.add(i)
		} else {
			j.indexed.failed.add(i)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		j.compose()
	}
}
