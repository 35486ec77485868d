package dispatch

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
)

// memory is how long a pod without a session is remembered. By then it is given up, or gone.
const memory = time.Hour

// Sight is what the API server shows of a worker pod.
type Sight struct {
	// Restarts is how often the agent's container was started again, and Container its name with the runtime, empty
	// while that is not known. Runs: it runs.
	Restarts  int32
	Container string
	Runs      bool
	// Addresses are the pod's own and its node's.
	Addresses []string
}

// pods are the worker pods whose agents this leader has met: one session or greeting each.
type pods struct {
	// look reads a pod live.
	look  func(ctx context.Context, identity Identity) (Sight, error)
	clock func() time.Time

	// mu guards what follows, and is not held while a pod is looked at.
	mu    sync.Mutex
	known map[types.UID]*acquaintance
	swept time.Time
}

// acquaintance is what is known of the agent of one pod.
type acquaintance struct {
	// present: a greeting is under way, or a session lasts. Whoever has set it owns the rest.
	present bool
	// left is when that ended.
	left time.Time

	// met: there was a session. It came from this process, at this address, in this container.
	met       bool
	instance  string
	address   string
	restarts  int32
	container string
	// said is why the last greeting was refused, so that it is logged once.
	said error
}

// Who is refused with one of these dials again: the pod's status may be late.
var (
	errSecond    = grpcstatus.Error(codes.AlreadyExists, "the worker has a session already, or another greeting of it is under way")
	errElsewhere = grpcstatus.Error(codes.Unavailable, "the session comes from an address that is not one of the pod, as the last one did")
	errNoRestart = grpcstatus.Error(codes.Unavailable, "the session comes from another process than the last one, and the pod shows no restart")
)

// enter begins a greeting of a pod; leave ends it, or the session that came of it.
func (p *pods) enter(pod types.UID) (*acquaintance, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweepLocked()
	a := p.known[pod]
	if a == nil {
		a = &acquaintance{}
		p.known[pod] = a
	}
	if a.present {
		return nil, errSecond
	}
	a.present = true
	return a, nil
}

func (p *pods) leave(a *acquaintance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a.present, a.left = false, p.clock()
}

// sweepLocked forgets the pods that have not been here for long.
func (p *pods) sweepLocked() {
	now := p.clock()
	if now.Sub(p.swept) < memory/10 {
		return
	}
	p.swept = now
	maps.DeleteFunc(p.known, func(_ types.UID, a *acquaintance) bool { return !a.present && now.Sub(a.left) > memory })
}

// recognise returns an error if this is not the agent that the pod's session was with before, nor one in a container
// that has been started since. Whoever has a worker's token could make the worker's agent end, and come in its place
// while the kubelet waits to start it again.
func (p *pods) recognise(ctx context.Context, a *acquaintance, identity Identity, instance, address string) error {
	if !a.met || a.instance == instance && a.address == address {
		a.note(instance, address, identity.Restarts, identity.Container)
		return nil
	}
	sight, err := p.look(ctx, identity)
	if err != nil {
		return err
	}
	if slices.Contains(sight.Addresses, a.address) && !slices.Contains(sight.Addresses, address) {
		return errElsewhere
	}
	if a.instance != instance && !a.restarted(sight) {
		return errNoRestart
	}
	a.note(instance, address, sight.Restarts, sight.Container)
	return nil
}

// restarted tells whether the container that is seen is a later one than that of the last session.
func (a *acquaintance) restarted(s Sight) bool {
	if !s.Runs {
		return false
	}
	return s.Restarts > a.restarts || a.container != "" && s.Container != "" && s.Container != a.container
}

// note remembers a session. What is shown of its container may be old, but is never of a later one.
func (a *acquaintance) note(instance, address string, restarts int32, container string) {
	if restarts >= a.restarts && container != "" {
		a.container = container
	}
	a.restarts = max(a.restarts, restarts)
	a.met, a.instance, a.address, a.said = true, instance, address, nil
}
