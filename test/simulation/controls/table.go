package main

// control is a planted bug: a rule that is switched off by a change of one place.
type control struct {
	// rule that does not hold any more.
	rule string
	// file is relative to the repository. Old must be in it exactly once.
	file, old, new string
}

// controls are the rules that these worlds can show to be needed. Three are not among them, because another rule covers the
// same hole, and nothing happens unless both are off: that a task is tried again only once its failure is stored (its agent
// keeps the result until then), that an unknown Job is killed only after a live read (a leader's caches know all Jobs that its
// workers may run), and that a lost worker is buried that no list of pods has shown (nothing is sent to it).
var controls = []control{
	{"token order: a later attempt outranks", "internal/engine/task.go",
		`return token.Compare(t.last) < 0 }`, `return false }`},
	{"token order: what is settled counts no more", "internal/engine/task.go",
		`return t.settled.Try > 0 && token.Compare(t.settled) <= 0 || token.Try <= t.settledTry`, `return false`},
	{"epoch: what the present leader starts outranks all", "internal/engine/types.go",
		`return cmp.Or(t.Epoch.Compare(o.Epoch), cmp.Compare(t.Try, o.Try))`, `return cmp.Compare(t.Try, o.Try)`},
	{"acknowledgement only after the write", "internal/engine/settle.go",
		"j.noteEnd(t, r, f)\n\tj.owe(a, t, f != nil)", "j.noteEnd(t, r, f)\n\ta.worker.acknowledge(a.token)"},
	{"tries that count are stored", "internal/engine/settle.go",
		`j.object.Status.Retries = new(deref(j.object.Status.Retries) + 1)`, `j.object.Status.Retries = new(deref(j.object.Status.Retries))`},
	{"tries that count are stored, per index too", "internal/engine/indexes.go",
		`if t.retries > 0 {`, `if false {`},
	{"takeover waits for the workers", "internal/engine/pool.go",
		`return len(p.awaited) == 0 || p.engine.now.Sub(p.engine.began) >= silentWorkers`, `return true`},
	{"takeover waits for silent workers for as long as the fence", "internal/engine/engine.go",
		`silentWorkers = FenceTimeout + 2*time.Second`, `silentWorkers = FenceTimeout - 14*time.Second`},
	{"fence: an agent without a leader ends what is not recorded", "test/simulation/agent_test.go",
		`case !p.recorded && now.Sub(a.heard) >= engine.FenceTimeout:`, `case false:`},
	{"fence: what is recorded goes on", "test/simulation/agent_test.go",
		`case !p.recorded && now.Sub(a.heard) >= engine.FenceTimeout:`, `case now.Sub(a.heard) >= engine.FenceTimeout:`},
	{"recorded is what is stored", "internal/engine/stored.go",
		`case j.recordedBy(w, a):`, `case true:`},
	{"an old stream is not read after Hello", "test/simulation/agent_test.go",
		"if s != a.stream {\n\t\treturn", "if false {\n\t\treturn"},
	{"what an agent has not seen yet is not missed", "internal/engine/session.go",
		`a.sequence <= report.Seen && `, ``},
	{"caches have caught up at takeover", "internal/leader/leader.go",
		`if err := l.catchUp(ctx); err != nil {`, `if err := ctx.Err(); err != nil {`},
	{"a settled Job is remembered until the cache shows it", "internal/engine/stored.go",
		`e.settled[j.object.UID] = true`, `delete(e.settled, j.object.UID)`},
	{"a Job is its UID", "controllers/job/controller.go",
		`if err == nil && job.UID == request.UID {`, `if err == nil {`},
	{"writes carry the UID and the resource version", "internal/status/store.go",
		"{\"replace\", \"/metadata/uid\", write.Job.UID},\n\t\t{\"replace\", \"/metadata/resourceVersion\", write.ResourceVersion},", ``},
	{"writes carry the resource version", "internal/status/store.go",
		`{"replace", "/metadata/resourceVersion", write.ResourceVersion},`, ``},
	{"a conflict means read again", "internal/status/store.go",
		`return w.rethink(ctx, epoch, write)`, `return outcome{resourceVersion: write.ResourceVersion}, nil`},
	{"a time-out means try again", "internal/status/store.go",
		`return outcome{}, fmt.Errorf("patching the status: %w", err)`, `return outcome{resourceVersion: write.ResourceVersion}, nil`},
	{"a conflict may be with an end that is stored", "internal/status/store.go",
		`case live.Status.State.Finished():`, `case false:`},
	{"AtMostOnce is stored before it is sent", "internal/engine/task.go",
		`unsent: j.atMostOnce() && !t.isHandler()}`, `unsent: false}`},
	{"AtMostOnce is not run again", "internal/engine/settle.go",
		"case j.atMostOnce():\n\t\tf.reason", "case false:\n\t\tf.reason"},
	{"a lost worker's tasks wait until its pod is gone", "internal/engine/pool.go",
		`w.givenUp, found = true, true`, "w.givenUp, found = true, true\n\t\t\tw.gone()"},
	{"a worker is given up only after so long", "internal/engine/worker.go",
		`>= w.pool.config.LostAfter`, `>= w.pool.config.LostAfter/4`},
	{"what the operator settles on its own it looks at the Lease for", "internal/status/store.go",
		`if write.Confirm {`, `if false {`},
	{"nothing is stored once another may lead", "test/simulation/calls_test.go",
		`if !op.held() {`, `if false {`},
	{"one session per pod", "internal/engine/session.go",
		"if w.session != nil {\n\t\treturn ErrConnected", "if false {\n\t\treturn ErrConnected"},
	{"a worker is busy until its results are stored", "internal/engine/worker.go",
		`w.unsettled > 0 || `, ``},
	{"a worker is busy with what nobody has looked at", "internal/engine/worker.go",
		` || w.claims > 0`, ``},
	{"onFailure runs only once the failure is stored", "internal/engine/job.go",
		`return j.handling() && j.running == 0 && j.announced`, `return j.handling() && j.running == 0`},
}
