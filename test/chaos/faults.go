package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/test/chaos/check"
	"github.com/workerpool-dev/workerpool/test/chaos/ledger"
)

// maker makes a fault and waits until it has taken effect; an error says that it has not. It fills in whom it has hit.
type maker func(context.Context, *check.Fault, *rand.Rand) error

func (w *world) maker(kind check.Kind) maker {
	return map[check.Kind]maker{
		check.KillAgent:      w.killAgent,
		check.KillContainer:  w.killContainer,
		check.DeletePod:      w.deletePod,
		check.ForceDeletePod: w.forceDeletePod,
		check.KillLeader:     w.killLeader,
		check.StopLeader:     w.stopLeader,
		check.PartitionLong:  w.partitionLong,
		check.PartitionShort: w.partitionShort,
		check.RestartAPI:     w.restartAPI,
		check.KillEtcd:       w.killEtcd,
		check.KillAPIAndEtcd: w.killAPIAndEtcd,
		check.RestartKubelet: w.restartKubelet,
		check.DrainNode:      w.drainNode,
		check.RollPool:       w.rollPool,
		check.ScalePool:      w.scalePool,
	}[kind]
}

var errSlow = errors.New("its effect was not seen in time")

// victim is a process of the load that runs now.
func (w *world) victim(f *check.Fault, random *rand.Rand) (ledger.Process, error) {
	running := w.ledger.Running()
	if len(running) == 0 {
		return ledger.Process{}, errors.New("nothing runs")
	}
	p := running[random.IntN(len(running))]
	f.Pods, f.Detail = []string{p.PodUID}, fmt.Sprintf("%s (%s), which runs %s", p.Pod, p.PodUID, p.Job)
	return p, nil
}

// hasStopped tells whether a process of the load has ended.
func (w *world) hasStopped(p ledger.Process) func() bool {
	return func() bool {
		return !slices.ContainsFunc(w.ledger.Running(), func(r ledger.Process) bool { return r.ID == p.ID })
	}
}

func (w *world) killAgent(ctx context.Context, f *check.Fault, random *rand.Rand) error {
	p, err := w.victim(f, random)
	if err != nil {
		return err
	}
	agent, ok := find(p.PodUID, agentProgram)
	if !ok {
		return errors.New("the worker has no agent")
	}
	f.From = ledger.Now()
	if err := agent.signal(syscall.SIGKILL); err != nil {
		return err
	}
	if !await(ctx, patience, func() bool { return agent.hasEnded() && w.hasStopped(p)() }) {
		return errSlow
	}
	return nil
}

// killContainer kills the one that runs the Jobs' processes, through containerd.
func (w *world) killContainer(ctx context.Context, f *check.Fault, random *rand.Rand) error {
	p, err := w.victim(f, random)
	if err != nil {
		return err
	}
	// The first process of it, which is the agent but where requests are served.
	main, ok := find(p.PodUID, "/worker")
	if !strings.Contains(p.Pod, "/http-") {
		main, ok = find(p.PodUID, agentProgram)
	}
	if !ok {
		return errors.New("the worker has no container that runs")
	}
	f.From = ledger.Now()
	if _, err := w.script(ctx, "ctr", "tasks", "kill", "-s", "SIGKILL", main.container); err != nil {
		return err
	}
	if !await(ctx, patience, func() bool { return main.hasEnded() && w.hasStopped(p)() }) {
		return errSlow
	}
	return nil
}

func (w *world) deletePod(ctx context.Context, f *check.Fault, random *rand.Rand) error {
	return w.deleteWorker(ctx, f, random, false)
}

func (w *world) forceDeletePod(ctx context.Context, f *check.Fault, random *rand.Rand) error {
	return w.deleteWorker(ctx, f, random, true)
}

// deleteWorker deletes the pod of a process that runs. It has taken effect once the API server says so.
func (w *world) deleteWorker(ctx context.Context, f *check.Fault, random *rand.Rand, force bool) error {
	p, err := w.victim(f, random)
	if err != nil {
		return err
	}
	namespace, name, _ := strings.Cut(p.Pod, "/")
	options := []client.DeleteOption{client.Preconditions{UID: (*types.UID)(&p.PodUID)}}
	if force {
		options = append(options, client.GracePeriodSeconds(0))
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	f.From = ledger.Now()
	if err := w.Delete(call, pod, options...); err != nil {
		return err
	}
	if !await(ctx, patience, func() bool { return w.isDeleted(ctx, client.ObjectKeyFromObject(pod), p.PodUID) }) {
		return errSlow
	}
	return nil
}

// isDeleted tells whether the pod is gone, or on its way.
func (w *world) isDeleted(ctx context.Context, key client.ObjectKey, uid string) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pod := &corev1.Pod{}
	err := w.Get(ctx, key, pod)
	return apierrors.IsNotFound(err) || err == nil && (string(pod.UID) != uid || pod.DeletionTimestamp != nil)
}

// leading waits for a process of the operator that leads.
func (w *world) leading(ctx context.Context, f *check.Fault) (holder string, p process, err error) {
	if !await(ctx, patience, func() bool { holder, p, err = w.leadingNow(ctx); return err == nil }) {
		return "", process{}, errors.Join(errSlow, err)
	}
	f.Detail, _, _ = strings.Cut(holder, "_")
	return holder, p, nil
}

func (w *world) leadingNow(ctx context.Context) (holder string, p process, err error) {
	if holder, err = w.leader(ctx); err != nil {
		return "", process{}, err
	}
	name, _, _ := strings.Cut(holder, "_")
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pod := &corev1.Pod{}
	if err := w.Get(call, client.ObjectKey{Namespace: operatorNamespace, Name: name}, pod); err != nil {
		return "", process{}, err
	}
	p, ok := find(string(pod.UID), managerProgram)
	if !ok {
		return "", process{}, errors.New("the leader does not run")
	}
	return holder, p, nil
}

// another tells whether somebody else leads by now.
func (w *world) another(ctx context.Context, before string) func() bool {
	return func() bool {
		now, err := w.leader(ctx)
		return err == nil && now != before
	}
}

func (w *world) killLeader(ctx context.Context, f *check.Fault, _ *rand.Rand) error {
	holder, p, err := w.leading(ctx, f)
	if err != nil {
		return err
	}
	f.From = ledger.Now()
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	if !await(ctx, patience, p.hasEnded) || !await(ctx, patience, w.another(ctx, holder)) {
		return errSlow
	}
	w.giveTime(ctx)
	return nil
}

// stopLeader stops it until somebody else leads and has done so for some seconds, and has it go on then.
func (w *world) stopLeader(ctx context.Context, f *check.Fault, random *rand.Rand) error {
	holder, p, err := w.leading(ctx, f)
	if err != nil {
		return err
	}
	f.From = ledger.Now()
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	stopped := await(ctx, patience, func() bool { return p.state() == "T" })
	deposed := stopped && await(ctx, patience, w.another(ctx, holder))
	pause(ctx, time.Duration(random.IntN(6000))*time.Millisecond)
	err = p.signal(syscall.SIGCONT)
	switch {
	case err != nil:
		return err
	case !deposed:
		return errSlow
	}
	w.giveTime(ctx)
	return nil
}

// giveTime gives the operator some time to have all its replicas again, so that the next fault meets a leader and one that
// waits. A machine that is busy with other things may take longer: then the next fault meets what there is.
func (w *world) giveTime(ctx context.Context) {
	await(ctx, 20*time.Second, func() bool { return w.operatorIsWell(ctx) })
}

func (w *world) restartAPI(ctx context.Context, f *check.Fault, _ *rand.Rand) error {
	f.Detail = "SIGTERM"
	return w.control(ctx, "kube-apiserver", []string{"restart", "kube-apiserver"})
}

// killEtcd leaves the API server without it for some seconds.
func (w *world) killEtcd(ctx context.Context, f *check.Fault, random *rand.Rand) error {
	f.Detail = "SIGKILL, with the API server running"
	return w.control(ctx, "etcd", []string{"kill", "etcd"}, []string{"wait", strconv.Itoa(random.IntN(5))}, []string{"restart", "etcd"})
}

func (w *world) killAPIAndEtcd(ctx context.Context, f *check.Fault, random *rand.Rand) error {
	f.Detail = "SIGKILL, the API server first"
	return w.control(ctx, "etcd", []string{"kill", "kube-apiserver"}, []string{"kill", "etcd"},
		[]string{"wait", strconv.Itoa(random.IntN(5))}, []string{"restart", "etcd"}, []string{"restart", "kube-apiserver"})
}

func (w *world) restartKubelet(ctx context.Context, f *check.Fault, random *rand.Rand) error {
	f.Detail = "SIGKILL"
	return w.control(ctx, "kubelet", []string{"kill", "kubelet"}, []string{"wait", strconv.Itoa(random.IntN(5))}, []string{"restart", "kubelet"})
}

// control runs verbs of cluster.sh one after the other, and expects that the daemon is another process then.
func (w *world) control(ctx context.Context, daemon string, verbs ...[]string) error {
	before := daemonPID(daemon)
	for _, verb := range verbs {
		if verb[0] == "wait" {
			seconds, _ := strconv.Atoi(verb[1])
			pause(ctx, time.Duration(seconds)*time.Second)
			continue
		}
		// One that was begun is brought to its end, so that nothing is left half started.
		if err := w.do(context.WithoutCancel(ctx), verb...); err != nil {
			return errors.Join(err, w.do(context.WithoutCancel(ctx), "mend"))
		}
	}
	if after := daemonPID(daemon); after == 0 || after == before {
		return fmt.Errorf("%s was not restarted: pid %d, then %d", daemon, before, after)
	}
	w.giveTime(ctx)
	return nil
}

// partitionLong lasts until the workers are given up.
//
// Each new leader waits anew. So from some time on no other fault of the control plane is begun.
func (w *world) partitionLong(ctx context.Context, f *check.Fault, random *rand.Rand) error {
	return w.part(ctx, f, random, func() bool {
		calm := time.AfterFunc(lostTimeout, func() { w.calm.Store(true) })
		defer w.calm.Store(false)
		defer calm.Stop()
		return await(ctx, lostTimeout+2*patience, func() bool {
			if ledger.Now()-f.From < lostTimeout {
				return false
			}
			return !slices.ContainsFunc(f.Pods, func(uid string) bool { p, ok := w.seen.worker(uid); return ok && !p.deleting })
		})
	})
}

// partitionShort lasts until the sessions are lost, and some seconds more, but not until the workers are given up.
func (w *world) partitionShort(ctx context.Context, f *check.Fault, random *rand.Rand) error {
	lasts := 10*time.Second + time.Duration(random.IntN(14000))*time.Millisecond
	return w.part(ctx, f, random, func() bool { pause(ctx, lasts); return true })
}

// part keeps the workers of a pool, of which some run Jobs, from the operator for as long as the function takes.
func (w *world) part(ctx context.Context, f *check.Fault, random *rand.Rand, lasts func() bool) error {
	p, err := w.victim(f, random)
	if err != nil {
		return err
	}
	of, ok := w.seen.worker(p.PodUID)
	if !ok {
		return errors.New("the worker was not seen yet")
	}
	f.Pods = nil
	var ips []string
	for _, pod := range w.seen.workers(of.namespace, of.pool) {
		if pod.ip != "" && !pod.deleting && (pod.UID == of.UID || random.IntN(3) > 0) {
			ips, f.Pods = append(ips, pod.ip), append(f.Pods, pod.UID)
		}
	}
	if len(ips) == 0 {
		return errors.New("the worker goes already")
	}
	f.Detail = fmt.Sprintf("%d workers of %s: %v", len(ips), of.pool, f.Pods)
	f.From = ledger.Now()
	if err := partition(ctx, ips); err != nil {
		return err
	}
	ok = lasts()
	dials := dialled(ctx)
	if err := removePartition(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	switch {
	case !ok:
		return errSlow
	case dials == 0:
		return errors.New("no session was lost")
	}
	return nil
}

// drainNode evicts all workers of the load, as an administrator would; the operator, DNS and what others left stay.
func (w *world) drainNode(ctx context.Context, f *check.Fault, _ *rand.Rand) error {
	before := len(w.seen.workers("", ""))
	names := make([]string, 0, before)
	for _, pool := range pools(w.seed) {
		names = append(names, pool.name)
	}
	ours := fmt.Sprintf("%s in (%s)", v1alpha1.LabelPool, strings.Join(names, ","))
	_, err := output(ctx, "kubectl", "drain", w.node, "--delete-emptydir-data", "--pod-selector="+ours, "--timeout=60s")
	uncordoned := await(context.WithoutCancel(ctx), patience, func() bool { return w.do(context.WithoutCancel(ctx), "kubectl", "uncordon", w.node) == nil })
	f.Detail = fmt.Sprintf("%d workers", before)
	if err == nil && !uncordoned {
		err = errors.New("it cannot be uncordoned")
	}
	return err
}

// rollPool changes the template of a pool and waits until the first of its workers has gone.
func (w *world) rollPool(ctx context.Context, f *check.Fault, random *rand.Rand) error {
	return w.change(ctx, f, random, func(pool *v1alpha1.WorkerPool) {
		pool.Spec.Template.Annotations = map[string]string{"chaos": strconv.FormatInt(int64(ledger.Now()), 10)}
	}, nil)
}

// scalePool leaves one worker, and wants all again once another has begun to go.
func (w *world) scalePool(ctx context.Context, f *check.Fault, random *rand.Rand) error {
	return w.change(ctx, f, random,
		func(pool *v1alpha1.WorkerPool) { pool.Spec.Replicas = new(int32(1)) },
		func(pool *v1alpha1.WorkerPool) { pool.Spec.Replicas = new(int32(replicas)) })
}

// change the pool of a process that runs, wait until one of its workers goes, and change it back.
func (w *world) change(ctx context.Context, f *check.Fault, random *rand.Rand, there, back func(*v1alpha1.WorkerPool)) error {
	p, err := w.victim(f, random)
	if err != nil {
		return err
	}
	of, ok := w.seen.worker(p.PodUID)
	if !ok {
		return errors.New("the worker was not seen yet")
	}
	key := poolKey{of.namespace, of.pool}
	// The operator's doing, and no explanation by itself: how a worker goes is for its pod to tell.
	f.Pods, f.Detail = nil, key.namespace+"/"+key.name
	was := w.seen.workers(key.namespace, key.name)
	if err := w.patch(ctx, key, there); err != nil {
		return err
	}
	gone := await(ctx, patience, func() bool {
		return slices.ContainsFunc(was, func(before workerPod) bool {
			now, _ := w.seen.worker(before.UID)
			return !before.deleting && now.deleting
		})
	})
	if back != nil {
		if !await(context.WithoutCancel(ctx), patience, func() bool { return w.patch(context.WithoutCancel(ctx), key, back) == nil }) {
			return errors.New("it cannot be changed back")
		}
	}
	if !gone {
		return errSlow
	}
	return nil
}

func (w *world) patch(ctx context.Context, key poolKey, change func(*v1alpha1.WorkerPool)) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pool := &v1alpha1.WorkerPool{}
	if err := w.Get(ctx, client.ObjectKey{Namespace: key.namespace, Name: key.name}, pool); err != nil {
		return err
	}
	before := pool.DeepCopy()
	change(pool)
	return w.Patch(ctx, pool, client.MergeFrom(before))
}
