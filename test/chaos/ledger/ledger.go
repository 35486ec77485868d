// Package ledger is the record that the processes of a load keep of themselves, outside of the workers: a TCP service
// that each process tells of its start, that it still lives, and of its end. It owes nothing to the operator or to
// Kubernetes, so it can be held against what they say.
package ledger

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Time is the machine's monotonic clock. All processes of a machine share it, those in containers too, so that what one of
// them has read can be compared with what another has.
type Time = time.Duration

// Now reads the clock.
func Now() Time {
	var t unix.Timespec
	// It cannot fail: the clock is known and the pointer good.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return Time(t.Nano())
}

const (
	// beat is how often a process says that it lives.
	beat = 100 * time.Millisecond
	// patience is how long a process waits for the ledger's first answer until it tries again.
	patience = 2 * time.Second
	// maxLine bounds what a process says at once, in bytes.
	maxLine = 4096
	// maxConnections bounds how many processes are listened to at once.
	maxConnections = 1024
)

// Process is one process of the load, as it told of itself.
type Process struct {
	// ID is the process's own, by chance.
	ID string `json:"id"`
	// Job is namespace/name, and Index the task.
	Job   string `json:"job"`
	Index int    `json:"index"`
	// Attempt is what the agent calls it. Pod and PodUID are where it ran.
	Attempt string `json:"attempt"`
	Pod     string `json:"pod"`
	PodUID  string `json:"podUID"`
	// Begun is when its first instruction ran; Registered when the ledger heard of it, and Late how often it had tried in
	// vain before. One that never reached the ledger is not in it.
	Begun      Time `json:"begun"`
	Registered Time `json:"registered"`
	Late       int  `json:"late"`
	// Alive is the last moment of which it said itself that it lived.
	Alive Time `json:"alive"`
	// Ended says that it ended by itself, with Code. Otherwise it was cut off, if it is Closed.
	Ended bool `json:"ended"`
	Code  int  `json:"code"`
	// Closed is when its connection was, 0 while it is open. The kernel does that for a process that is killed.
	Closed Time `json:"closed"`
}

// message is what a process says. The first has all that says who it is.
type message struct {
	Process
	Now Time `json:"now"`
	End bool `json:"end"`
}

// answer is what the ledger says to a first message, and to an end.
type answer struct {
	// Failed is how many processes of the same task have ended with a code other than 0.
	Failed int `json:"failed"`
}

// Ledger is the service. It keeps everything in memory.
type Ledger struct {
	listener net.Listener
	serving  sync.WaitGroup
	slots    chan struct{}

	mu sync.Mutex
	// processes in the order of their registration. They are changed under the lock only.
	processes []*Process
	failed    map[task]int
	open      map[net.Conn]bool
	closed    bool
}

type task struct {
	job   string
	index int
}

// Listen starts the service at an address. Close it.
func Listen(address string) (*Ledger, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	l := &Ledger{listener: listener, slots: make(chan struct{}, maxConnections), failed: map[task]int{}, open: map[net.Conn]bool{}}
	l.serving.Go(l.serve)
	return l, nil
}

// Address that it listens at.
func (l *Ledger) Address() string { return l.listener.Addr().String() }

// Close ends the service and all its connections. What it knows stays.
func (l *Ledger) Close() {
	l.mu.Lock()
	l.closed = true
	for c := range l.open {
		_ = c.Close()
	}
	l.mu.Unlock()
	_ = l.listener.Close()
	l.serving.Wait()
}

// Processes is a copy of all that is known.
func (l *Ledger) Processes() []Process {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]Process, 0, len(l.processes))
	for _, p := range l.processes {
		all = append(all, *p)
	}
	return all
}

// Running is a copy of those that have not ended.
func (l *Ledger) Running() []Process {
	return slices.DeleteFunc(l.Processes(), func(p Process) bool { return p.Ended || p.Closed != 0 })
}

func (l *Ledger) serve() {
	for {
		conn, err := l.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		l.slots <- struct{}{}
		if !l.keep(conn) {
			return
		}
		l.serving.Go(func() {
			l.listen(conn)
			<-l.slots
		})
	}
}

// keep remembers a connection, so that Close ends it; false if Close has been called.
func (l *Ledger) keep(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = conn.Close()
		return false
	}
	l.open[conn] = true
	return true
}

// listen to one process until its connection is closed.
func (l *Ledger) listen(conn net.Conn) {
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 0, maxLine), maxLine)
	var p *Process
	for lines.Scan() {
		var m message
		if json.Unmarshal(lines.Bytes(), &m) != nil || p == nil && m.ID == "" {
			break
		}
		reply := p == nil || m.End
		failed := l.write(&p, m)
		if reply && json.NewEncoder(conn).Encode(answer{failed}) != nil {
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// Closed from this side, it tells nothing about the process.
	if p != nil && !l.closed {
		p.Closed = Now()
	}
	delete(l.open, conn)
	_ = conn.Close()
}

// write a message down, and return how many processes of the task have failed.
func (l *Ledger) write(p **Process, m message) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if *p == nil {
		*p = &m.Process
		(*p).Registered, (*p).Closed, (*p).Ended = Now(), 0, false
		l.processes = append(l.processes, *p)
	}
	(*p).Alive = max((*p).Alive, m.Now)
	of := task{(*p).Job, (*p).Index}
	if m.End && !(*p).Ended {
		(*p).Ended, (*p).Code = true, m.Code
		if m.Code != 0 {
			l.failed[of]++
		}
	}
	return l.failed[of]
}

// Entry is a process's side of the ledger.
type Entry struct {
	conn    net.Conn
	replies *bufio.Reader
	// Failed is how many processes of the same task had failed when this one began.
	Failed int

	mu   sync.Mutex
	out  *json.Encoder
	stop chan struct{}
	done sync.WaitGroup
}

// Register tells the ledger that a process has begun, and tries until it succeeds. From then on it is told that the process lives.
func Register(address string, p Process) *Entry {
	for ; ; p.Late++ {
		if e, err := register(address, p); err == nil {
			e.done.Go(e.live)
			return e
		}
		time.Sleep(beat)
	}
}

func register(address string, p Process) (*Entry, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	e := &Entry{conn: conn, replies: bufio.NewReader(conn), out: json.NewEncoder(conn), stop: make(chan struct{})}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if e.Failed, err = e.ask(message{Process: p, Now: Now()}); err != nil {
		_ = conn.Close()
		return nil, err
	}
	_ = conn.SetReadDeadline(time.Time{})
	return e, nil
}

func (e *Entry) ask(m message) (int, error) {
	if err := e.tell(m); err != nil {
		return 0, err
	}
	line, err := e.replies.ReadBytes('\n')
	if err != nil {
		return 0, err
	}
	var a answer
	err = json.Unmarshal(line, &a)
	return a.Failed, err
}

func (e *Entry) tell(m message) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.out.Encode(m)
}

func (e *Entry) live() {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			_ = e.tell(message{Now: Now()})
		case <-e.stop:
			return
		}
	}
}

// End tells the ledger that the process ends now, and returns once that is written down. An error means that this is not
// known.
func (e *Entry) End(code int) error {
	e.leave()
	_, err := e.ask(message{Process: Process{Code: code}, Now: Now(), End: true})
	return errors.Join(err, e.conn.Close())
}

// Abandon closes the entry without an end, as if the process were killed.
func (e *Entry) Abandon() {
	e.leave()
	_ = e.conn.Close()
}

func (e *Entry) leave() {
	close(e.stop)
	e.done.Wait()
}
