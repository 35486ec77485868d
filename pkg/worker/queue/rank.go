package queue

import (
	"cmp"
	"math"
	"math/bits"
	"time"
)

// rank is a place in an order; the lower goes first. hi and lo are one signed number of 128 bits.
type rank struct {
	hi      int64
	lo      uint64
	arrival uint64
}

func (r rank) before(o rank) bool {
	if r.hi != o.hi {
		return r.hi < o.hi
	}
	if r.lo != o.lo {
		return r.lo < o.lo
	}
	return r.arrival < o.arrival
}

func (r rank) compare(o rank) int {
	return cmp.Or(cmp.Compare(r.hi, o.hi), cmp.Compare(r.lo, o.lo), cmp.Compare(r.arrival, o.arrival))
}

// readyRank is the place of a ready job. With aging it is created − priority × aging, which 128 bits
// hold exactly for all arguments. Without, the priority is the upper half, complemented because the
// higher goes first (and because a complement, unlike a negation, can't overflow).
func readyRank(created int64, priority int, aging time.Duration, arrival uint64) rank {
	if aging == 0 {
		return rank{hi: ^int64(priority), lo: sortable(created), arrival: arrival}
	}
	hi, lo := bits.Mul64(uint64(priority), uint64(aging))
	if priority < 0 {
		hi -= uint64(aging) // Mul64 took the two's complement for 2^64 more than it is
	}
	lo, borrow := bits.Sub64(uint64(created), lo, 0)
	hi, _ = bits.Sub64(uint64(created>>63), hi, borrow)
	return rank{hi: int64(hi), lo: lo, arrival: arrival}
}

// delayedRank is the place of a job that waits for its time.
func delayedRank(notBefore int64, arrival uint64) rank {
	return rank{lo: sortable(notBefore), arrival: arrival}
}

// notBefore undoes delayedRank.
func (r rank) notBefore() int64 {
	return int64(r.lo ^ signBit)
}

const signBit = 1 << 63

// sortable maps int64 to uint64 and keeps the order.
func sortable(n int64) uint64 {
	return uint64(n) ^ signBit
}

// The times that an int64 of nanoseconds can say: the years 1677 to 2262.
var (
	earliest = time.Unix(0, math.MinInt64)
	latest   = time.Unix(0, math.MaxInt64)
)

// nanos is t in nanoseconds since 1970. Times before 1677 and after 2262, the zero time among them,
// count as the first and the last moment between.
func nanos(t time.Time) int64 {
	switch {
	case t.Before(earliest):
		return math.MinInt64
	case t.After(latest):
		return math.MaxInt64
	default:
		return t.UnixNano()
	}
}
