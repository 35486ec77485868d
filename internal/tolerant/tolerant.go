// Package tolerant reads Jobs and WorkerPools such that one which can't be decoded holds up no other.
//
// The API server stores what its schema takes, and that may be more than our Go types can hold: the schema was a
// wider one when the object was stored, or has a gap. An ordinary client then fails to decode the whole list that
// the object is in, and its cache stands still. Here such an object is read as far as possible, and marked. Whoever
// reads Jobs or WorkerPools asks FaultOf before using a spec or a status.
package tolerant

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// Part is a part of an object.
type Part string

// Parts of an object.
const (
	None   Part = ""
	Spec   Part = "spec"
	Status Part = "status"
)

// Fault is why an object could not be decoded.
type Fault struct {
	// Part that could not be decoded: None if the object is whole, and Spec if both could not.
	Part Part
	// Message has the first field that could not be decoded, and the decoder's words, in at most 512 bytes.
	Message string
}

const (
	// specMark and statusMark are annotations that an object has in memory only, if it could not be decoded.
	specMark   = inMemory + "undecodable-spec"
	statusMark = inMemory + "undecodable-status"

	messageLimit = 512
)

// inMemory begins the annotations that the operator notes something in for itself. What this package reads has none
// of them, whatever a user has stored, and the operator never stores one.
const inMemory = "internal.workerpool.dev/"

// FaultOf returns why an object that this package has read could not be decoded.
func FaultOf(o metav1.Object) Fault {
	annotations := o.GetAnnotations()
	if message, ok := annotations[specMark]; ok {
		return Fault{Spec, message}
	}
	if message, ok := annotations[statusMark]; ok {
		return Fault{Status, message}
	}
	return Fault{}
}

// InMemory are the annotations that an object has in memory only: why it could not be decoded, and what others have
// noted. A cache that drops annotations must keep them.
func InMemory(o metav1.Object) map[string]string {
	own := map[string]string{}
	for key, value := range o.GetAnnotations() {
		if strings.HasPrefix(key, inMemory) {
			own[key] = value
		}
	}
	return own
}

// mark notes in an object which parts of it could not be decoded, and removes what a user has stored as a note.
func mark(meta *metav1.ObjectMeta, spec, status error) {
	maps.DeleteFunc(meta.Annotations, func(key, _ string) bool { return strings.HasPrefix(key, inMemory) })
	for key, err := range map[string]error{specMark: spec, statusMark: status} {
		if err != nil {
			metav1.SetMetaDataAnnotation(meta, key, shorten(err.Error()))
		}
	}
}

// unmark removes the marks that a user has set.
func unmark(o runtime.Object) {
	switch o := o.(type) {
	case *v1alpha1.Job:
		mark(&o.ObjectMeta, nil, nil)
	case *v1alpha1.WorkerPool:
		mark(&o.ObjectMeta, nil, nil)
	case *v1alpha1.JobList:
		for i := range o.Items {
			unmark(&o.Items[i])
		}
	case *v1alpha1.WorkerPoolList:
		for i := range o.Items {
			unmark(&o.Items[i])
		}
	}
}

// object is what Jobs and WorkerPools have in common.
type object struct {
	metav1.TypeMeta `json:",inline"`

	Metadata json.RawMessage `json:"metadata"`
	Spec     json.RawMessage `json:"spec"`
	Status   json.RawMessage `json:"status"`
}

// list is one of them.
type list struct {
	metav1.TypeMeta `json:",inline"`

	Metadata metav1.ListMeta   `json:"metadata"`
	Items    []json.RawMessage `json:"items"`
}

// salvageJob reads what can be read of a Job. It fails if that is not even its name, UID and version.
func salvageJob(raw []byte) (*v1alpha1.Job, error) {
	job := &v1alpha1.Job{}
	err := salvage(raw, &job.TypeMeta, &job.ObjectMeta, func(spec, status json.RawMessage) (specErr, statusErr error) {
		job.Spec, specErr = fields[v1alpha1.JobSpec](Spec, spec)
		job.Status, statusErr = fields[v1alpha1.JobStatus](Status, status)
		return specErr, statusErr
	})
	return job, err
}

// salvagePool reads what can be read of a WorkerPool. What its status says the operator can say again: it marks no
// WorkerPool.
func salvagePool(raw []byte) (*v1alpha1.WorkerPool, error) {
	pool := &v1alpha1.WorkerPool{}
	err := salvage(raw, &pool.TypeMeta, &pool.ObjectMeta, func(spec, status json.RawMessage) (specErr, statusErr error) {
		pool.Spec, specErr = fields[v1alpha1.WorkerPoolSpec](Spec, spec)
		pool.Status, _ = fields[v1alpha1.WorkerPoolStatus](Status, status)
		return specErr, nil
	})
	return pool, err
}

func salvage(raw []byte, kind *metav1.TypeMeta, meta *metav1.ObjectMeta, parts func(spec, status json.RawMessage) (error, error)) error {
	var o object
	if err := utiljson.Unmarshal(raw, &o); err != nil {
		return fmt.Errorf("reading an object: %w", err)
	}
	if err := utiljson.Unmarshal(o.Metadata, meta); err != nil {
		return fmt.Errorf("reading an object's metadata: %w", err)
	}
	if meta.Name == "" || meta.UID == "" || meta.ResourceVersion == "" {
		return fmt.Errorf("reading an object: it has no name, UID or resource version")
	}
	*kind = o.TypeMeta
	spec, status := parts(o.Spec, o.Status)
	mark(meta, spec, status)
	return nil
}

// fields decodes a part of an object field by field, and leaves out those that can't be decoded. The error is about
// the first of these by name.
func fields[T any](part Part, raw json.RawMessage) (T, error) {
	var whole T
	if len(raw) == 0 {
		return whole, nil
	}
	var each map[string]json.RawMessage
	if err := json.Unmarshal(raw, &each); err != nil {
		return whole, fmt.Errorf("%s: %w", part, err)
	}
	var first error
	for _, name := range slices.Sorted(maps.Keys(each)) {
		var alone T
		if err := unmarshal(map[string]json.RawMessage{name: each[name]}, &alone); err != nil {
			delete(each, name)
			if first == nil {
				first = fmt.Errorf("%s.%s: %w", part, name, err)
			}
		}
	}
	if err := unmarshal(each, &whole); err != nil {
		return *new(T), fmt.Errorf("%s: %w", part, err)
	}
	return whole, first
}

func unmarshal(fields map[string]json.RawMessage, into any) error {
	raw, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	return utiljson.Unmarshal(raw, into)
}

// shorten cuts a message at the border of a character.
func shorten(message string) string {
	if len(message) <= messageLimit {
		return message
	}
	end := messageLimit
	for end > 0 && !utf8.RuneStart(message[end]) {
		end--
	}
	return message[:end]
}
