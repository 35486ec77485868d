// Package queue has the queues of package worker.
//
// FIFO is the fast one: first in, first out, bounded.
//
// Priority orders jobs by creation time less priority times Aging, holds back those that are not to
// start yet, and bounds how many are ready at once. It has two faces over the same state. Push, Pop
// and their forms with a context read the clock and may wait. TryPush, Return and TryPop never wait
// and take the time as an argument, for schedulers whose decisions must be repeatable.
package queue
