package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// operator watches the memory of the operator's replicas, which run on this machine.
type operator struct {
	admin    client.Client
	restarts int32
	stop     context.CancelFunc
	stopped  chan struct{}
	peak     int64
}

func watchOperator(ctx context.Context, admin client.Client) (*operator, error) {
	watching, stop := context.WithCancel(ctx)
	o := &operator{admin: admin, stop: stop, stopped: make(chan struct{})}
	restarts, err := o.countRestarts(ctx)
	if err != nil {
		stop()
		return nil, err
	}
	if residentBytes() == 0 {
		stop()
		return nil, fmt.Errorf("no process of the operator is on this machine: this test needs a cluster built from source")
	}
	o.restarts = restarts
	go func() {
		defer close(o.stopped)
		for ; pause(watching, 100*time.Millisecond); o.peak = max(o.peak, residentBytes()) {
		}
	}()
	return o, nil
}

// finish returns the largest resident set that was seen, and how often a replica has restarted meanwhile.
func (o *operator) finish(ctx context.Context) (peak int64, restarts int32, err error) {
	o.stop()
	<-o.stopped
	restarts, err = o.countRestarts(ctx)
	return o.peak, restarts - o.restarts, err
}

func (o *operator) countRestarts(ctx context.Context) (int32, error) {
	pods := &corev1.PodList{}
	if err := o.admin.List(ctx, pods, client.InNamespace(operatorNamespace)); err != nil {
		return 0, err
	}
	var n int32
	for i := range pods.Items {
		for _, c := range pods.Items[i].Status.ContainerStatuses {
			n += c.RestartCount
		}
	}
	return n, nil
}

// residentBytes is the resident set of the largest replica, 0 if there is none on this machine.
func residentBytes() int64 {
	var largest int64
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		command, err := os.ReadFile(file)
		if err != nil || !bytes.HasPrefix(command, []byte("/manager\x00")) {
			continue
		}
		statm, err := os.ReadFile(filepath.Join(filepath.Dir(file), "statm"))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(statm))
		if len(fields) < 2 {
			continue
		}
		pages, _ := strconv.ParseInt(fields[1], 10, 64)
		largest = max(largest, pages*int64(os.Getpagesize()))
	}
	return largest
}
