package process

import (
	"sync"
	"time"
)

// kubelet restarts an operator that ends: at once the first time, and then after pauses that double.
type kubelet struct {
	mu   sync.Mutex
	ends int
}

// crashPause is the kubelet's first pause.
const crashPause = 10 * time.Second

// keep runs a replica until the end of the test, again and again if need be.
func (w *world) keep(o *operator, of programs) *kubelet {
	w.t.Helper()
	k := &kubelet{}
	w.startOperator(o, of)
	stop, kept := make(chan struct{}), make(chan struct{})
	p := o.program
	p.wanted.Store(true)
	go func() {
		defer close(kept)
		for pause := time.Duration(0); ; pause = max(crashPause, 2*pause) {
			select {
			case <-p.ended:
			case <-stop:
				p.kill()
				return
			}
			k.mu.Lock()
			k.ends++
			k.mu.Unlock()
			select {
			case <-time.After(pause):
			case <-stop:
				return
			}
			var err error
			if p, err = p.again(); err != nil {
				w.t.Errorf("run the operator again: %v", err)
				return
			}
		}
	}()
	w.t.Cleanup(func() { close(stop); <-kept })
	return k
}

// restarts is how often the replica has ended.
func (k *kubelet) restarts() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ends
}
