package metrics

import "github.com/prometheus/client_golang/prometheus"

// Refusal is why something that reached the operator's port was refused.
type Refusal int

const (
	// RefusedConnection: there were too many connections without an authenticated agent, or it sent too much on one.
	RefusedConnection Refusal = iota
	// RefusedSlow: an agent took too long for a large message.
	RefusedSlow
	// RefusedToken: the token is not one of a worker, or has expired.
	RefusedToken
	// RefusedOften: one pod, or one address, has come too often.
	RefusedOften
	// RefusedSecond: the pod has a session, or another greeting of it was under way.
	RefusedSecond
	// RefusedMoved: the session came from another process, or another address, than the container that the pod runs.
	RefusedMoved
	// RefusedMessage: a message broke the rules of the wire.
	RefusedMessage
)

var refusals = [...]string{
	RefusedConnection: "connection",
	RefusedSlow:       "slow",
	RefusedToken:      "token",
	RefusedOften:      "often",
	RefusedSecond:     "second",
	RefusedMoved:      "moved",
	RefusedMessage:    "message",
}

// Refusals counts what the operator's port has refused.
type Refusals struct {
	counters [len(refusals)]prometheus.Counter
}

// NewRefusals makes the counters known to a registry. It is called once for a registry.
func NewRefusals(registry prometheus.Registerer) (*Refusals, error) {
	vector := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "workerpool_refusals_total",
		Help: "Connections, sessions and messages that the operator's port has refused, by the reason. It has no pool.",
	}, []string{"reason"})
	r := &Refusals{}
	for refusal, reason := range refusals {
		r.counters[refusal] = vector.WithLabelValues(reason)
	}
	return r, registry.Register(vector)
}

// Count counts one more.
func (r *Refusals) Count(refusal Refusal) { r.counters[refusal].Inc() }
