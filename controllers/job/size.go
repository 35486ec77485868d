package job

import (
	"encoding/json"
	"strconv"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// bytesAnnotation is on Jobs in the cache that are large, and tells how many bytes the API server stores of them, without
// their status. What says so there is not what a user may have written: Trim replaces it. It is never stored.
const bytesAnnotation = "internal.workerpool.dev/stored-bytes"

const (
	// maxEscape is how many bytes one byte of a text may become where the Job is stored: `<` is \u003c.
	maxEscape = 6
	// elsewhere is more than all that storedAtMost does not count can have.
	elsewhere = 64 << 10
	// smallJob is how many bytes a Job may have at most for its status to fit, whatever is in it.
	smallJob = 1 << 20
)

// noteBytes keeps how large a Job is that may be too large. It is called before anything is dropped of it.
func noteBytes(job *v1alpha1.Job) {
	delete(job.Annotations, bytesAnnotation)
	if storedAtMost(job) <= smallJob {
		return
	}
	if n := storedBytes(job); n > smallJob {
		if job.Annotations == nil {
			job.Annotations = map[string]string{}
		}
		job.Annotations[bytesAnnotation] = strconv.Itoa(n)
	}
}

// notedBytes is what noteBytes has found out, 0 if the Job is small.
func notedBytes(job *v1alpha1.Job) int {
	n, _ := strconv.Atoi(job.Annotations[bytesAnnotation])
	return n
}

// storedBytes is how many bytes the API server stores of a Job without its status.
func storedBytes(job *v1alpha1.Job) int {
	bare := *job
	bare.Status = v1alpha1.JobStatus{}
	text, err := json.Marshal(&bare)
	if err != nil {
		return storedAtMost(job)
	}
	return len(text)
}

// storedAtMost is no less than storedBytes, and takes no memory: almost all Jobs are far from being too large.
func storedAtMost(job *v1alpha1.Job) int {
	n := 0
	add := func(texts ...string) {
		for _, text := range texts {
			n += len(text) + 2 // with what separates it
		}
	}
	variables := func(env []v1alpha1.EnvVar) {
		for _, v := range env {
			n += 8
			if add(v.Name); v.Value != nil {
				add(*v.Value)
			}
		}
	}
	spec := &job.Spec
	add(spec.Stdin, spec.WorkingDir)
	add(spec.Command...)
	add(spec.Args...)
	add(spec.Items...)
	variables(spec.Env)
	if h := spec.OnFailure; h != nil {
		add(h.Command...)
		add(h.Args...)
		variables(h.Env)
	}
	if r := spec.HTTP; r != nil {
		add(r.Path, r.Body)
		for _, h := range r.Headers {
			n += 8
			if add(h.Name); h.Value != nil {
				add(*h.Value)
			}
		}
	}
	for key, value := range job.Annotations {
		add(key, value)
	}
	for key, value := range job.Labels {
		add(key, value)
	}
	add(job.Finalizers...)
	for _, o := range job.OwnerReferences {
		n += 32
		add(o.APIVersion, o.Kind, o.Name, string(o.UID))
	}
	for i := range job.ManagedFields {
		f := &job.ManagedFields[i]
		n += 64
		if add(f.Manager, f.APIVersion, f.Subresource); f.FieldsV1 != nil {
			n += len(f.FieldsV1.GetRawString())
		}
	}
	return n*maxEscape + elsewhere
}
