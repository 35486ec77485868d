package serving

import (
	"net"
	"testing"
)

// stub is a connection that is told from others by its name alone.
type stub struct {
	net.Conn

	name int
}

func TestTheAddressWithMostConnectionsLosesItsOldest(t *testing.T) {
	const number = 10
	p := NewPlaces(number)
	conns := make([]*stub, 2*number)
	for i := range conns {
		conns[i] = &stub{name: i}
	}
	take := func(i int, address string, want net.Conn) {
		t.Helper()
		if lost := p.Take(conns[i], address); lost != want {
			t.Fatalf("connection %d of %s took the place of %v, want %v", i, address, lost, want)
		}
	}
	for i := range number {
		take(i, "10.0.0.1", nil)
	}
	take(10, "10.0.0.1", conns[0]) // its own
	for i := range 5 {
		take(11+i, "10.0.0.2", conns[1+i])
	}
	take(16, "10.0.0.2", conns[11]) // both have five
	take(17, "10.0.0.3", conns[6])
	for _, c := range conns {
		p.Leave(c)
		p.Leave(c)
	}
	if len(p.taken) > 0 || len(p.held) > 0 {
		t.Errorf("%d connections of %d addresses are left", len(p.taken), len(p.held))
	}
}

func TestAConnectionThatReturnsTakesNoOthersPlace(t *testing.T) {
	p := NewPlaces(1)
	first, second, third := &stub{name: 1}, &stub{name: 2}, &stub{name: 3}
	p.Take(first, "10.0.0.1")
	p.Leave(first)
	p.Take(second, "10.0.0.2")
	p.Return(first, "10.0.0.1")
	if lost := p.Take(third, "10.0.0.3"); lost != second {
		t.Errorf("%v lost its place, want the oldest", lost)
	}
}
