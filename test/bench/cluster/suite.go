package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
	"github.com/workerpool-dev/workerpool/internal/tinyprogram"
)

const (
	operatorNamespace = "workerpool-system"
	operatorName      = "workerpool-controller-manager"

	// clusterScript starts clusters. This program runs in the folder of its module.
	clusterScript = "../../hack/cluster/cluster.sh"

	// patience is how long the cluster may take to do what it is told before and after a measurement, such as to delete
	// 100,000 Jobs.
	patience = 15 * time.Minute
)

// suite is what the rows have in common.
type suite struct {
	options

	client client.WithWatch
	config *rest.Config
	scheme *runtime.Scheme

	// namespace is for this run alone.
	namespace string
	// programs is a folder with what the image has in /bin.
	programs string
	image    string

	pictures []picture
}

// draws adds a picture to the report.
func (s *suite) draws(p picture) { s.pictures = append(s.pictures, p) }

func newSuite(ctx context.Context, o options) (*suite, error) {
	s := &suite{options: o, scheme: runtime.NewScheme()}
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s.scheme); err != nil {
			return nil, err
		}
	}
	var err error
	if s.config, err = ctrl.GetConfig(); err != nil {
		return nil, fmt.Errorf(`%w; start a cluster: make cluster-up deploy, eval "$(make -s cluster-env)"`, err)
	}
	log.SetLogger(logr.Discard())
	s.config.QPS = -1 // no limit: the API server has its own
	if s.client, err = client.NewWithWatch(s.config, client.Options{Scheme: s.scheme}); err != nil {
		return nil, err
	}
	if err := s.makeImage(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.programs))
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "bench-"}}
	if err := s.client.Create(ctx, namespace); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.programs))
	}
	s.namespace = namespace.Name
	return s, nil
}

// close removes what the suite has made. The run may be over, so the context is not that of the run.
func (s *suite) close() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}
	if err := errors.Join(s.client.Delete(ctx, namespace), os.RemoveAll(s.programs)); err != nil {
		s.log("cleaning up: %v", err)
	}
}

func (s *suite) log(format string, args ...any) {
	_, _ = fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// clients are as many clients, each with connections of its own, as users on as many machines have.
func (s *suite) clients(n int) ([]client.WithWatch, error) {
	clients := make([]client.WithWatch, n)
	for i := range clients {
		config := rest.CopyConfig(s.config)
		config.Dial = (&net.Dialer{Timeout: 30 * time.Second}).DialContext // its own, so that connections are not shared
		c, err := client.NewWithWatch(config, client.Options{Scheme: s.scheme})
		if err != nil {
			return nil, err
		}
		clients[i] = c
	}
	return clients, nil
}

// makeImage gives the cluster an image with the programs that are measured: some of a few instructions, GNU xargs
// with its libraries, and an HTTP server.
func (s *suite) makeImage(ctx context.Context) error {
	folder, err := os.MkdirTemp("", "bench-image-")
	if err != nil {
		return err
	}
	s.programs = filepath.Join(folder, "bin")
	if err := os.Mkdir(s.programs, 0o755); err != nil {
		return err
	}
	for name, code := range map[string]tinyprogram.Code{
		"true": tinyprogram.ExitZero, "false": tinyprogram.ExitOne, "sleep": tinyprogram.Sleep, "now": tinyprogram.NoteTheTime,
	} {
		if err := tinyprogram.Write(filepath.Join(s.programs, name), code); err != nil {
			return err
		}
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(s.programs, "server"), "./cluster/server")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := output(build, nil); err != nil {
		return err
	}
	if err := copyWithLibraries(ctx, "xargs", folder); err != nil {
		return err
	}
	var ref strings.Builder
	load := exec.CommandContext(ctx, clusterScript, "load-folder", "localhost/workerpool/bench:1", folder)
	if err := output(load, &ref); err != nil {
		return err
	}
	s.image = strings.TrimSpace(ref.String())
	return nil
}

// copyWithLibraries puts a program into bin of the folder, and what it is linked with where it looks for it.
func copyWithLibraries(ctx context.Context, program, folder string) error {
	path, err := exec.LookPath(program)
	if err != nil {
		return err
	}
	var libraries strings.Builder
	if err := output(exec.CommandContext(ctx, "ldd", path), &libraries); err != nil {
		return err
	}
	files := map[string]string{path: filepath.Join(folder, "bin", program)}
	for _, field := range strings.Fields(libraries.String()) {
		if filepath.IsAbs(field) {
			files[field] = filepath.Join(folder, field)
		}
	}
	for from, to := range files {
		content, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, content, 0o755); err != nil { //nolint:gosec // a program
			return err
		}
	}
	return nil
}

// output runs a command; its standard output goes to the builder, if there is one.
func output(cmd *exec.Cmd, to *strings.Builder) error {
	var complaint strings.Builder
	cmd.Stderr = &complaint
	if to != nil {
		cmd.Stdout = to
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, complaint.String())
	}
	return nil
}

// pool makes a pool whose workers run the image, and waits until all are ready. Nothing of it is
// deleted by itself.
func (s *suite) pool(ctx context.Context, name string, workers, slots int32, change ...func(*testutil.PoolBuilder)) error {
	b := testutil.MakePool(s.namespace, name).Image(s.image).Replicas(workers).Slots(slots).Retain(0).
		Template(func(t *corev1.PodTemplateSpec) {
			t.Spec.Containers[0].ImagePullPolicy = corev1.PullIfNotPresent
			t.Spec.TerminationGracePeriodSeconds = new(int64(5))
			t.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(65532))}
		})
	for _, f := range change {
		f(b)
	}
	pool := b.Obj()
	if err := s.client.Create(ctx, pool); err != nil {
		return err
	}
	return s.await(ctx, "pool "+name, func(ctx context.Context) (bool, error) {
		err := s.client.Get(ctx, client.ObjectKeyFromObject(pool), pool)
		return pool.Status.ReadyReplicas != nil && *pool.Status.ReadyReplicas == workers, err
	})
}

// removePool deletes a pool, and waits until its workers are gone: they would be measured with the next.
func (s *suite) removePool(ctx context.Context, name string) error {
	pool := &v1alpha1.WorkerPool{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
	if err := s.client.Delete(ctx, pool); err != nil {
		return err
	}
	return s.await(ctx, "the end of pool "+name, func(ctx context.Context) (bool, error) {
		var pods corev1.PodList
		err := s.client.List(ctx, &pods, client.InNamespace(s.namespace), client.MatchingLabels{v1alpha1.LabelPool: name})
		if err != nil || len(pods.Items) > 0 {
			return false, err
		}
		err = s.client.Get(ctx, client.ObjectKeyFromObject(pool), pool) // another may have its name then
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	})
}

// quiet waits until the machine has nothing to do: what comes after a change or a measurement, such as deletions and
// programs that start, is not to be measured with the next. A machine that is never quiet is not waited for.
func (s *suite) quiet(ctx context.Context) error {
	const most = 30
	before, err := busyTime()
	for range most {
		if err != nil {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		var now float64
		now, err = busyTime()
		if now-before < 0.2 {
			return err
		}
		before = now
	}
	s.log("the machine is busy with something else")
	return nil
}

// busyTime is how many seconds all processors together have worked.
func busyTime() (float64, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	var user, nice, system, idle, wait, interrupts, softInterrupts float64
	_, err = fmt.Sscanf(string(text), "cpu %f %f %f %f %f %f %f", &user, &nice, &system, &idle, &wait, &interrupts, &softInterrupts)
	const ticksPerSecond = 100 // on every Linux
	return (user + nice + system + interrupts + softInterrupts) / ticksPerSecond, err
}

// await asks until the answer is yes. It is for what is not measured.
func (s *suite) await(ctx context.Context, what string, ready func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		switch ok, err := ready(ctx); {
		case err != nil:
			return fmt.Errorf("waiting for %s: %w", what, err)
		case ok:
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		}
	}
}
