package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// profilingPort is where the operator serves profiles while it is measured.
const profilingPort = 6060

// leader is the operator that leads.
type leader struct {
	pod corev1.Pod
	// pid of its process, on this machine.
	pid int
	// since it has the Lease.
	since time.Time
}

// leader waits until an operator leads, and returns it.
func (s *suite) leader(ctx context.Context) (*leader, error) {
	found := &leader{}
	err := s.await(ctx, "a leader", func(ctx context.Context) (bool, error) {
		var lease coordinationv1.Lease
		if err := s.client.Get(ctx, types.NamespacedName{Namespace: operatorNamespace, Name: operatorName}, &lease); err != nil {
			return false, err
		}
		if lease.Spec.HolderIdentity == nil || lease.Spec.AcquireTime == nil {
			return false, nil
		}
		name, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
		found.since = lease.Spec.AcquireTime.Time
		err := s.client.Get(ctx, types.NamespacedName{Namespace: operatorNamespace, Name: name}, &found.pod)
		if err != nil || found.pod.DeletionTimestamp != nil {
			return false, client.IgnoreNotFound(err)
		}
		found.pid, err = processOf(found.pod.Name)
		return found.pid != 0, err
	})
	return found, err
}

// processOf finds the operator's process in that pod: 0 if it has none on this machine, or not yet again.
func processOf(pod string) (int, error) {
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return 0, err
	}
	for _, path := range environments {
		environment, err := os.ReadFile(path)
		if err != nil || !strings.Contains("\x00"+string(environment), "\x00POD_NAME="+pod+"\x00") {
			continue // it has ended, or is another
		}
		return strconv.Atoi(filepath.Base(filepath.Dir(path)))
	}
	return 0, nil
}

// memory is what the operator takes, in bytes.
type memory struct {
	// heap is what is live, after a garbage collection.
	heap float64
	// resident is what the kernel counts.
	resident float64
}

var heapAlloc = regexp.MustCompile(`(?m)^# HeapAlloc = (\d+)$`)

// memory has the leader collect its garbage.
func (l *leader) memory(ctx context.Context) (memory, error) {
	url := fmt.Sprintf("http://%s:%d/debug/pprof/heap?gc=1&debug=1", l.pod.Status.PodIP, profilingPort)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return memory{}, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return memory{}, err
	}
	text, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return memory{}, err
	}
	found := heapAlloc.FindSubmatch(text)
	if found == nil {
		return memory{}, fmt.Errorf("%s: no HeapAlloc in %d bytes", url, len(text))
	}
	heap, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		return memory{}, err
	}
	resident, err := residentOf(l.pid)
	return memory{heap, resident}, err
}

func residentOf(pid int) (float64, error) {
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer func() { _ = status.Close() }()
	lines := bufio.NewScanner(status)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 && fields[0] == "VmRSS:" {
			kilobytes, err := strconv.ParseFloat(fields[1], 64)
			return 1024 * kilobytes, err
		}
	}
	return 0, errors.Join(lines.Err(), errors.New("the kernel does not tell VmRSS"))
}

// profiled has the operator serve profiles, until the returned function is called.
func (s *suite) profiled(ctx context.Context) (undo func(context.Context) error, err error) {
	key := types.NamespacedName{Namespace: operatorNamespace, Name: operatorName}
	var operator appsv1.Deployment
	if err := s.client.Get(ctx, key, &operator); err != nil {
		return nil, err
	}
	before := operator.Spec.Template.Spec.Containers[0].Args
	set := func(ctx context.Context, args []string) error {
		original := operator.DeepCopy()
		operator.Spec.Template.Spec.Containers[0].Args = args
		if err := s.client.Patch(ctx, &operator, client.StrategicMergeFrom(original)); err != nil {
			return err
		}
		return s.rolledOut(ctx, key)
	}
	undo = func(ctx context.Context) error { return set(ctx, before) }
	return undo, set(ctx, append(before[:len(before):len(before)], fmt.Sprintf("--pprof-bind-address=:%d", profilingPort)))
}

func (s *suite) rolledOut(ctx context.Context, key types.NamespacedName) error {
	return s.await(ctx, "the rollout of the operator", func(ctx context.Context) (bool, error) {
		var operator appsv1.Deployment
		err := s.client.Get(ctx, key, &operator)
		status := operator.Status
		return status.ObservedGeneration == operator.Generation && status.UpdatedReplicas == *operator.Spec.Replicas &&
			status.ReadyReplicas == status.UpdatedReplicas && status.Replicas == status.UpdatedReplicas, err
	})
}
