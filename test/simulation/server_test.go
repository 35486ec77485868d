package simulation

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// server is the API server: what is stored, in all its versions.
type server struct {
	revision uint64
	jobs     store[*v1alpha1.Job]
	pods     store[*podObject]
	lease    lease
	// ghosts are writes that their senders have given up, and that may take effect yet.
	ghosts []func() error
}

// podObject is a worker pod as the API server has it. It never changes: a new version is another.
type podObject struct {
	tenant   *tenant
	name     string
	uid      types.UID
	ordinal  int
	revision uint64
	// started: the kubelet has said that its containers have.
	started bool
	// terminating: it was deleted, and is to go when its agent has ended.
	terminating bool
	// terminated: nothing of it runs any more, for good.
	terminated bool
}

// lease is what the operators elect their leader by.
type lease struct {
	created     time.Time
	transitions int32
	holder      *operator
	renewed     time.Time
}

// store has the objects of one kind, by name, and all that has happened to them.
type store[T any] struct {
	live map[string]T
	log  []event[T]
}

// event is one change, as a watch tells it.
type event[T any] struct {
	name     string
	revision uint64
	object   T
	deleted  bool
}

func (s *store[T]) put(name string, revision uint64, object T) {
	s.live[name] = object
	s.log = append(s.log, event[T]{name, revision, object, false})
}

func (s *store[T]) remove(name string, revision uint64) {
	gone := s.live[name]
	delete(s.live, name)
	s.log = append(s.log, event[T]{name, revision, gone, true})
}

// names are sorted, so that no chance is in it.
func (s *store[T]) names() []string { return sortedKeys(s.live) }

func (w *world) revise() uint64 {
	w.api.revision++
	return w.api.revision
}

// putJob stores a version of a Job.
func (w *world) putJob(job *v1alpha1.Job) {
	revision := w.revise()
	job.ResourceVersion = strconv.FormatUint(revision, 10)
	w.api.jobs.put(job.Name, revision, job)
}

// putPod stores a version of a pod.
func (w *world) putPod(name string, change func(*podObject)) {
	next := *w.api.pods.live[name]
	change(&next)
	next.revision = w.revise()
	w.api.pods.put(name, next.revision, &next)
}

var (
	jobResource  = schema.GroupResource{Group: "workerpool.dev", Resource: "jobs"}
	podResource  = schema.GroupResource{Resource: "pods"}
	errPrecede   = errors.New("the object has been modified")
	errTimeout   = apierrors.NewTimeoutError("the request timed out", 0)
	errThrottled = apierrors.NewTooManyRequests("slow down", 1)
	errInternal  = apierrors.NewInternalError(errors.New("etcd has no leader"))
)

// statusPatch is what the status writer sends.
type statusPatch struct {
	name            string
	uid             *types.UID
	resourceVersion *string
	status          v1alpha1.JobStatus
	// confirmed: before it was sent the operator has seen that the Lease is its own.
	confirmed bool
}

// parsePatch reads a JSON patch as the API server does.
func parsePatch(name string, body []byte) (*statusPatch, error) {
	var operations []struct {
		Op, Path string
		Value    json.RawMessage
	}
	if err := json.Unmarshal(body, &operations); err != nil {
		return nil, err
	}
	p := &statusPatch{name: name}
	for _, o := range operations {
		var into any
		switch o.Path {
		case "/metadata/uid":
			p.uid = new(types.UID)
			into = p.uid
		case "/metadata/resourceVersion":
			p.resourceVersion = new(string)
			into = p.resourceVersion
		case "/status":
			into = &p.status
		default:
			return nil, fmt.Errorf("a patch of %s is not known here", o.Path)
		}
		if err := json.Unmarshal(o.Value, into); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// patchStatus carries out a write of a Job's status. The call is that of the operator that sends it.
func (w *world) patchStatus(c *call, p *statusPatch) (*v1alpha1.Job, error) {
	job := w.api.jobs.live[p.name]
	switch {
	case job == nil:
		return nil, apierrors.NewNotFound(jobResource, p.name)
	case p.uid != nil && *p.uid != job.UID, p.resourceVersion != nil && *p.resourceVersion != job.ResourceVersion:
		return nil, apierrors.NewConflict(jobResource, p.name, errPrecede)
	}
	next := *job
	next.Status = p.status
	w.checkStore(c.op, p, job, &next)
	w.putJob(&next)
	w.note("stored %s by operator %d: %s %s", next.UID, c.op.id, next.Status.State, next.Status.Reason)
	return &next, nil
}

// deletePod is a deletion by UID, with so many seconds of grace.
func (w *world) deletePod(name string, uid types.UID, grace time.Duration) error {
	object := w.api.pods.live[name]
	switch {
	case object == nil:
		return apierrors.NewNotFound(podResource, name)
	case uid != "" && object.uid != uid:
		return apierrors.NewConflict(podResource, name, errPrecede)
	}
	if !object.terminating {
		w.putPod(name, func(p *podObject) { p.terminating = true })
	}
	if p := w.podOf(object.uid); p != nil {
		end := w.now.Add(grace)
		if p.endBy.IsZero() || end.Before(p.endBy) {
			p.endBy = end
		}
		return nil
	}
	w.forgetPod(name) // nothing of it is left
	return nil
}

// forgetPod removes a pod's object.
func (w *world) forgetPod(name string) {
	if w.api.pods.live[name] != nil {
		w.api.pods.remove(name, w.revise())
	}
}

// deleteJob removes a Job.
func (w *world) deleteJob(name string) {
	w.api.jobs.remove(name, w.revise())
}

// cache is an operator's view of one kind: the past.
type cache[T any] struct {
	store *store[T]
	at    int
	live  map[string]T
}

func (s *store[T]) watch() *cache[T] {
	c := &cache[T]{store: s}
	c.relist(nil)
	return c
}

// lag is how many events it has not seen.
func (c *cache[T]) lag() int { return len(c.store.log) - c.at }

// deliver lets the cache see the next event, and tells of it: before is what it showed.
func (c *cache[T]) deliver(tell func(before, after T, deleted bool)) {
	e := c.store.log[c.at]
	c.at++
	before := c.live[e.name]
	if e.deleted {
		delete(c.live, e.name)
	} else {
		c.live[e.name] = e.object
	}
	tell(before, e.object, e.deleted)
}

// relist lets the cache show at once what there is, as after a watch that has ended.
func (c *cache[T]) relist(tell func(before, after T, deleted bool)) {
	was := c.live
	c.at, c.live = len(c.store.log), maps.Clone(c.store.live)
	if tell == nil {
		return
	}
	for _, name := range sortedKeys(was) {
		if _, there := c.live[name]; !there {
			tell(was[name], was[name], true)
		}
	}
	for _, name := range sortedKeys(c.live) {
		tell(was[name], c.live[name], false)
	}
}

func sortedKeys[K ~string, T any](m map[K]T) []K {
	names := make([]K, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func timeOf(t time.Time) metav1.Time { return metav1.Time{Time: t} }
