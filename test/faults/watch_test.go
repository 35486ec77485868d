package faults

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/workerpool-dev/workerpool/test/simulated"
)

// watchFault is what happens to the watches on a resource.
type watchFault string

const (
	// cut ends the connection before each second event.
	cut watchFault = "cut"
	// late has events come so much later as lag says.
	late watchFault = "late"
	// gone ends the watch with an error event that it can't be gone on with, in place of an event.
	gone watchFault = "gone"
	// dropped loses all events of a while with the connection; and it can't be gone on with after the last one seen.
	dropped watchFault = "dropped"
)

var watchFaults = []watchFault{cut, late, gone, dropped}

const (
	// lag is how late events come, if they do.
	lag = 1500 * time.Millisecond
	// loss is how long events are lost before the connection is.
	loss = 300 * time.Millisecond
	// maxRelists bounds how often a watch can't be gone on with, because clients wait longer each time.
	maxRelists = 2
	// maxBlind is how many live reads fail after a watch was hit. Each pool is read whenever workers are made, and all scenarios have
	// one: there that is so for the first blindPools times, or a read would have failed after each event of another.
	maxBlind   = 2
	blindPools = 10
)

// watched are the resources that the operator watches.
var watched = []string{"jobs", "pods", "workerpools"}

// watches does what is to happen to them.
type watches struct {
	mu     sync.Mutex
	faults map[string]watchFault
	// met counts what has happened, by resource and fault, since it was to.
	met map[string]map[watchFault]int
	// expired resources are those whose next watch is refused; unread is how many live reads still fail.
	expired map[string]bool
	unread  map[string]int
	seen    map[string]bool
	// open are the bodies of the watches that there are.
	open map[io.Closer]bool
}

func newWatches() *watches {
	return &watches{
		faults: map[string]watchFault{}, met: map[string]map[watchFault]int{}, expired: map[string]bool{},
		unread: map[string]int{}, seen: map[string]bool{}, open: map[io.Closer]bool{},
	}
}

// set begins a round. The watches that there are end, and others come in their places.
func (w *watches) set(faults map[string]watchFault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults, w.met = faults, map[string]map[watchFault]int{}
	clear(w.expired)
	clear(w.unread)
	for body := range w.open {
		_ = body.Close()
	}
	clear(w.open)
}

// hit tells whether a fault is to happen to a resource's watch now, and notes that it does.
func (w *watches) hit(resource string, f watchFault) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.faults[resource] != f {
		return false
	}
	if w.met[resource] == nil {
		w.met[resource] = map[watchFault]int{}
	}
	if (f == gone || f == dropped) && w.met[resource][f] >= maxRelists {
		return false
	}
	w.met[resource][f]++
	if resource != "workerpools" || w.met[resource][f] <= blindPools {
		w.unread[resource] = maxBlind
	}
	w.expired[resource] = f == dropped
	return true
}

// failing tells whether something is to happen to the watches.
func (w *watches) failing() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.faults) > 0
}

func (w *watches) fault(resource string) watchFault {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.faults[resource]
}

func (w *watches) counts() map[string]map[watchFault]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.met
}

// refuse tells whether a watch that is to go on after a version can't.
func (w *watches) refuse(resource string, r *http.Request) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[resource] = true
	if !w.expired[resource] || initial(r) {
		return false
	}
	delete(w.expired, resource)
	return true
}

// blind tells whether a live read is to fail.
func (w *watches) blind(resource string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unread[resource] == 0 {
		return false
	}
	w.unread[resource]--
	return true
}

// initial tells whether a watch begins with all that there is.
func initial(r *http.Request) bool { return r.URL.Query().Get("sendInitialEvents") == "true" }

// see puts itself between a watch and the operator.
func (w *watches) see(r *http.Response) {
	if r.Request.URL.Query().Get("watch") == "" || r.StatusCode != http.StatusOK {
		return
	}
	resource := simulated.ResourceOf(r.Request.URL.Path)
	s := &stream{
		Closer: r.Body, watches: w, resource: resource, source: bufio.NewReader(r.Body),
		binary: strings.Contains(r.Header.Get("Content-Type"), "protobuf"), filling: initial(r.Request),
	}
	r.Body = s
	if w.fault(resource) == late && w.hit(resource, late) {
		r.Body = simulated.Delay(s.Closer.(io.ReadCloser), lag)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[r.Body] = true
}

// stream is the body of a watch, event by event.
type stream struct {
	io.Closer

	watches  *watches
	resource string
	source   *bufio.Reader
	binary   bool
	// filling is true until all that there was at first has come.
	filling bool
	// count is how many events have come since.
	count int
	left  []byte
	err   error
	// losing is until when events are lost, if it is not zero.
	losing time.Time
}

// Read is io.Reader's.
func (s *stream) Read(p []byte) (int, error) {
	for len(s.left) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		frame, err := s.frame()
		if err != nil {
			s.err = err
			continue
		}
		s.take(frame)
	}
	n := copy(p, s.left)
	s.left = s.left[n:]
	return n, nil
}

// take decides about one event.
func (s *stream) take(frame []byte) {
	bookmark := bytes.Contains(frame, []byte("BOOKMARK"))
	switch {
	case s.filling:
		s.filling = !bookmark
		s.left = frame
	case bookmark:
		s.left = frame
	case !s.losing.IsZero():
		if time.Now().After(s.losing) {
			s.err = io.EOF
		}
	case s.count > 0 && s.watches.hit(s.resource, cut):
		s.err = io.EOF
	case s.watches.hit(s.resource, gone):
		s.left, s.err = endOfHistory(s.binary), io.EOF
	case s.watches.hit(s.resource, dropped):
		s.losing = time.Now().Add(loss)
		time.AfterFunc(loss, func() { _ = s.Close() }) // if there is no other event until then
	default:
		s.left = frame
		s.count++
	}
}

// frame reads one event as it is sent.
func (s *stream) frame() ([]byte, error) {
	if !s.binary {
		return s.source.ReadBytes('\n')
	}
	length, err := s.source.Peek(4)
	if err != nil {
		return nil, err
	}
	frame := make([]byte, 4+binary.BigEndian.Uint32(length))
	_, err = io.ReadFull(s.source, frame)
	return frame, err
}

// endOfHistory is the event that ends a watch which can't be gone on with.
func endOfHistory(isBinary bool) []byte {
	s := status(http.StatusGone, metav1.StatusReasonExpired, "too old resource version")
	if !isBinary {
		object, err := json.Marshal(s)
		if err != nil {
			panic(err)
		}
		event, err := json.Marshal(metav1.WatchEvent{Type: "ERROR", Object: runtime.RawExtension{Raw: object}})
		if err != nil {
			panic(err)
		}
		return append(event, '\n')
	}
	info, ok := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	if !ok {
		panic("no protobuf")
	}
	object, err := runtime.Encode(scheme.Codecs.EncoderForVersion(info.Serializer, corev1.SchemeGroupVersion), s)
	if err != nil {
		panic(err)
	}
	event, err := (&metav1.WatchEvent{Type: "ERROR", Object: runtime.RawExtension{Raw: object}}).Marshal()
	if err != nil {
		panic(err)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(event))), event...)
}
