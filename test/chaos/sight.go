package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/test/chaos/check"
	"github.com/workerpool-dev/workerpool/test/chaos/ledger"
)

// sight is what watches have shown of the cluster, with the times at which they did.
type sight struct {
	cancel   context.CancelFunc
	watching sync.WaitGroup
	// namespaces whose workers and Jobs are the load's.
	namespaces []string

	mu sync.Mutex
	// pods are the workers, by UID.
	pods map[string]*workerPod
	// changes of the Jobs' statuses, by namespace/name.
	changes map[string][]check.Change
	// faults that were seen, not made.
	faults   []check.Fault
	holder   string
	renewed  ledger.Time
	notReady ledger.Time
}

// workerPod is what is known of one.
type workerPod struct {
	check.Pod

	namespace, pool, name, ip, hash string
	deleting, ready                 bool
	looked                          ledger.Time
}

// absent is how long nobody may renew the Lease before it is said that nobody leads.
const absent = 6 * time.Second

// look begins to watch. Close it.
func look(ctx context.Context, c client.WithWatch, namespaces []string) *sight {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &sight{cancel: cancel, namespaces: namespaces, pods: map[string]*workerPod{}, changes: map[string][]check.Change{}}
	nothing := func(client.Object, bool) {}
	s.watching.Go(func() { follow(ctx, c, &corev1.PodList{}, s.pod, s.podGone) })
	s.watching.Go(func() { follow(ctx, c, &v1alpha1.JobList{}, s.job, nothing) })
	s.watching.Go(func() {
		follow(ctx, c, &coordinationv1.LeaseList{}, s.lease, nothing, client.InNamespace(operatorNamespace))
	})
	s.watching.Go(func() { follow(ctx, c, &corev1.NodeList{}, s.nodeIs, nothing) })
	return s
}

func (s *sight) close() {
	s.cancel()
	s.watching.Wait()
}

// follow has a function called with each state of the objects of a list's type, and another when one is gone; that is told
// whether its last state was not seen. Unlike an informer it never waits longer before it tries again: the API server is
// restarted often.
func follow(ctx context.Context, c client.WithWatch, list client.ObjectList, is func(client.Object), gone func(client.Object, bool), options ...client.ListOption) {
	known := map[types.UID]client.Object{}
	for ctx.Err() == nil {
		// A new one each time: what is left out of an answer must not stay as it was.
		list := list.DeepCopyObject().(client.ObjectList)
		if relist(ctx, c, list, known, is, gone, options) {
			rewatch(ctx, c, list, known, is, gone, options)
		}
		pause(ctx, 100*time.Millisecond)
	}
}

func relist(
	ctx context.Context, c client.WithWatch, list client.ObjectList, known map[types.UID]client.Object,
	is func(client.Object), gone func(client.Object, bool), options []client.ListOption,
) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if c.List(ctx, list, options...) != nil {
		return false
	}
	listed := map[types.UID]bool{}
	_ = meta.EachListItem(list, func(o runtime.Object) error {
		object := o.(client.Object)
		listed[object.GetUID()], known[object.GetUID()] = true, object
		is(object)
		return nil
	})
	for uid, object := range known {
		if !listed[uid] {
			delete(known, uid)
			gone(object, true)
		}
	}
	return true
}

// rewatch until the watch ends.
func rewatch(
	ctx context.Context, c client.WithWatch, list client.ObjectList, known map[types.UID]client.Object,
	is func(client.Object), gone func(client.Object, bool), options []client.ListOption,
) {
	options = append(options, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.GetResourceVersion()}})
	watcher, err := c.Watch(ctx, list, options...)
	if err != nil {
		return
	}
	defer watcher.Stop()
	for event := range watcher.ResultChan() {
		object, ok := event.Object.(client.Object)
		switch {
		case !ok || event.Type == watch.Error:
			return
		case event.Type == watch.Deleted:
			delete(known, object.GetUID())
			gone(object, false)
		default:
			known[object.GetUID()] = object
			is(object)
		}
	}
}

func (s *sight) pod(o client.Object) {
	pod := o.(*corev1.Pod)
	if pod.Labels[v1alpha1.LabelPool] == "" || !slices.Contains(s.namespaces, pod.Namespace) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.podLocked(pod)
}

func (s *sight) podLocked(pod *corev1.Pod) *workerPod {
	p := s.pods[string(pod.UID)]
	if p == nil {
		p = &workerPod{namespace: pod.Namespace, name: pod.Name, pool: pod.Labels[v1alpha1.LabelPool], hash: pod.Labels[v1alpha1.LabelTemplateHash]}
		p.Key, p.UID = pod.Namespace+"/"+pod.Name, string(pod.UID)
		s.pods[p.UID] = p
	}
	p.ip, p.looked, p.ready = pod.Status.PodIP, ledger.Now(), false
	for _, c := range pod.Status.Conditions {
		p.ready = p.ready || c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	}
	if pod.DeletionTimestamp != nil {
		// A second deletion may bring it forward.
		deadline := onLedger(pod.DeletionTimestamp.Time)
		if p.deleting = true; p.Deadline == 0 || deadline < p.Deadline {
			p.Deadline = deadline
		}
	}
	return p
}

// podGone notes that a pod is away. What was not seen of its end may have been any time since it was last seen.
func (s *sight) podGone(o client.Object, unknown bool) {
	pod := o.(*corev1.Pod)
	if pod.Labels[v1alpha1.LabelPool] == "" || !slices.Contains(s.namespaces, pod.Namespace) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	looked := ledger.Now()
	if p := s.pods[string(pod.UID)]; p != nil {
		looked = p.looked
	}
	p := s.podLocked(pod)
	p.Gone, p.deleting = ledger.Now(), true
	switch {
	case unknown && p.Deadline == 0:
		p.Deadline = looked
	case p.Deadline == 0:
		p.Deadline = p.Gone
	}
}

// onLedger is a time of the wall clock on the ledger's.
func onLedger(t time.Time) ledger.Time { return ledger.Now() - time.Since(t) }

func (s *sight) job(o client.Object) {
	job := o.(*v1alpha1.Job)
	if !slices.Contains(s.namespaces, job.Namespace) {
		return
	}
	if job.Status.State == v1alpha1.JobPending && job.Status.Reason == v1alpha1.ReasonWaiting {
		return
	}
	c := check.Change{
		At: ledger.Now(), State: string(job.Status.State), Reason: job.Status.Reason,
		Text: fmt.Sprintf("%s %s attempts=%d retries=%d worker=%s", job.Status.State, job.Status.Reason,
			ptr.Deref(job.Status.Attempts, 0), ptr.Deref(job.Status.Retries, 0), job.Status.Worker),
	}
	if job.Status.Attempt != nil {
		c.PodUID = string(job.Status.Attempt.PodUID)
	}
	if job.Status.Result != nil && job.Status.Result.ExitCode != nil {
		c.Text += fmt.Sprintf(" exit=%d", *job.Status.Result.ExitCode)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := job.Namespace + "/" + job.Name
	if all := s.changes[key]; len(all) == 0 || all[len(all)-1].Text != c.Text || all[len(all)-1].PodUID != c.PodUID {
		s.changes[key] = append(all, c)
	}
}

// lease notes when nobody led: between the last word of a leader and the first of the next.
func (s *sight) lease(o client.Object) {
	lease := o.(*coordinationv1.Lease)
	if lease.Name != operatorName {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now, holder := ledger.Now(), ptr.Deref(lease.Spec.HolderIdentity, "")
	if s.renewed != 0 && (holder != s.holder || now-s.renewed > absent) {
		s.faults = append(s.faults, check.Fault{
			Kind: check.OperatorAbsence, From: s.renewed, To: now, Detail: fmt.Sprintf("%s led, then %s", brief(s.holder), brief(holder)),
		})
	}
	s.holder, s.renewed = holder, now
}

// brief is the end of a leader's name.
func brief(holder string) string {
	pod, id, _ := strings.Cut(holder, "_")
	return pod[strings.LastIndex(pod, "-")+1:] + "_" + id[:min(len(id), 4)]
}

func (s *sight) nodeIs(o client.Object) {
	node := o.(*corev1.Node)
	ready := false
	for _, c := range node.Status.Conditions {
		ready = ready || c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !ready && s.notReady == 0:
		s.notReady = ledger.Now()
	case ready && s.notReady != 0:
		s.faults = append(s.faults, check.Fault{Kind: check.NodeNotReady, From: s.notReady, To: ledger.Now(), Detail: node.Name})
		s.notReady = 0
	}
}

// workers are copies of the pods of a namespace and pool that were not seen to go; of all if both are empty.
func (s *sight) workers(namespace, pool string) []workerPod {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []workerPod
	for _, p := range s.pods {
		if p.Gone == 0 && (namespace == "" || p.namespace == namespace && p.pool == pool) {
			all = append(all, *p)
		}
	}
	return all
}

// worker of this UID; false if it was never seen.
func (s *sight) worker(uid string) (workerPod, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.pods[uid]
	if !ok {
		return workerPod{}, false
	}
	return *p, true
}

// all that was seen, for the checker.
func (s *sight) all() (pods []check.Pod, changes map[string][]check.Change, faults []check.Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pods {
		pods = append(pods, p.Pod)
	}
	changes = make(map[string][]check.Change, len(s.changes))
	for key, all := range s.changes {
		changes[key] = append([]check.Change(nil), all...)
	}
	return pods, changes, append([]check.Fault(nil), s.faults...)
}

// uids of all workers that were ever seen.
func (s *sight) uids() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]bool, len(s.pods))
	for uid := range s.pods {
		all[uid] = true
	}
	return all
}
