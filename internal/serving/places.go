// Package serving bounds what connections may take on which nobody is known yet: how many there are, how long they
// last, and how much is read from them.
package serving

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// Places are a fixed number of places for connections. When all are taken, one more takes the place of the oldest
// connection of the address that has most. So many connections from one address do not keep out one from another.
type Places struct {
	// mu guards what follows.
	mu  sync.Mutex
	max int
	// taken are in the order of arrival, and held is how many of them each address has.
	taken []place
	held  map[string]int
}

type place struct {
	conn    net.Conn
	address string
}

// NewPlaces returns so many places.
func NewPlaces(number int) *Places { return &Places{max: number, held: map[string]int{}} }

// Take gives a connection a place. The one that has lost its place for it, if any, is to be closed by the caller.
func (p *Places) Take(conn net.Conn, address string) (lost net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.taken) >= p.max {
		lost = p.evictLocked(address)
	}
	p.addLocked(conn, address)
	return lost
}

// Return gives a connection a place again after it has left, even if all are taken: it is about to end.
func (p *Places) Return(conn net.Conn, address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addLocked(conn, address)
}

func (p *Places) addLocked(conn net.Conn, address string) {
	p.taken = append(p.taken, place{conn, address})
	p.held[address]++
}

// evictLocked frees a place for an address, which loses one of its own only if no other has more.
func (p *Places) evictLocked(address string) net.Conn {
	most, own := p.held[address], true
	for _, n := range p.held {
		if n > most {
			most, own = n, false
		}
	}
	i := slices.IndexFunc(p.taken, func(o place) bool { return p.held[o.address] == most && (!own || o.address == address) })
	lost := p.taken[i].conn
	p.removeLocked(i)
	return lost
}

// Leave frees the place of a connection, if it has one.
func (p *Places) Leave(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.IndexFunc(p.taken, func(o place) bool { return o.conn == conn }); i >= 0 {
		p.removeLocked(i)
	}
}

func (p *Places) removeLocked(i int) {
	address := p.taken[i].address
	p.taken = slices.Delete(p.taken, i, i+1)
	if p.held[address]--; p.held[address] == 0 {
		delete(p.held, address)
	}
}

// Host is an address without the port.
func Host(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return Canonical(host)
	}
	return address
}

// Canonical is an IP address as it is always written, or what is none as it is.
func Canonical(address string) string {
	if ip, err := netip.ParseAddr(address); err == nil {
		return ip.Unmap().WithZone("").String()
	}
	return address
}
