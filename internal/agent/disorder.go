package agent

import "time"

// A job can remove, lock or fill the folder that the agent keeps its files in. Then the agent takes no attempts, says so, and
// tries to put the folder right. An attempt that finds it so was not run: it is dropped, and runs elsewhere.

// unfitAfter is how long the folder may be out of order before the worker is replaced. A full disk may take any time.
const unfitAfter = 10 * time.Second

// disorder notes that the folder is out of order. No attempt is taken until mend finds it in order.
func (a *Agent) disorder(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.disorderLocked(err)
}

func (a *Agent) disorderLocked(err error) {
	before := a.table.disorder
	a.table.disorder = disorderOf(err)
	if before == "" {
		a.disordered = a.now()
		if isFull(err) {
			a.log.Warn("The disk is full: no Job is taken until it has room", "error", err)
		} else {
			a.log.Warn("The agent's folder is out of order: no Job is taken until it can be put right", "error", err)
		}
	}
	if isFull(err) {
		a.disordered = a.now()
	}
	if a.now().Sub(a.disordered) >= unfitAfter && a.table.resetFailure == "" {
		a.log.Error("The agent's folder can't be put right: the worker is to be replaced", "error", err)
		a.table.resetFailure = disorderOf(err)
	}
}

// disorderOf is what users are told of the folder.
func disorderOf(err error) string {
	return clipTo("the agent can't use its folder: "+err.Error(), maxResetFailure)
}

// mend takes attempts again when the folder is in order and has room: for the results that are in memory only, and for one
// more.
func (a *Agent) mend() {
	a.mu.Lock()
	disorder, unspooled := a.table.disorder, a.table.unspooled()
	a.mu.Unlock()
	if disorder == "" {
		return
	}
	if err := a.probeFolder(unspooled); err != nil {
		a.disorder(err)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.table.disorder, a.disordered = "", time.Time{}
	a.log.Info("The disk has room again, and the agent's folder is in order")
}

func (a *Agent) probeFolder(unspooled []*result) error {
	if err := a.spool.probe(); err != nil {
		return err
	}
	for _, r := range unspooled {
		if err := a.respool(r); err != nil {
			return err
		}
	}
	return a.tmp.probe()
}

func (a *Agent) respool(r *result) error {
	if err := a.spool.write(r); err != nil {
		return err
	}
	a.mu.Lock()
	r.spooled = true
	waits := a.table.waits(r)
	a.mu.Unlock()
	if !waits {
		a.forget(r)
	}
	return nil
}
