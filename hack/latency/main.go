// The latency program measures how long `echo` takes from create to complete, as a Job of a
// WorkerPool and as a Job of batch/v1 on the same cluster, and prints a table. Both are measured in
// turn, each from just before the create request to the watch event that shows it complete.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

type settings struct {
	namespace, pool, image string
	jobs, batch            int
	timeout                time.Duration
	raw                    bool
}

func main() {
	var s settings
	flag.StringVar(&s.namespace, "namespace", "default", "where the pool is")
	flag.StringVar(&s.pool, "pool", "demo", "the WorkerPool to use")
	flag.StringVar(&s.image, "image", "localhost/workerpool/busybox:1", "the image of the batch/v1 Jobs")
	flag.IntVar(&s.jobs, "jobs", 50, "how many Jobs of the pool to measure")
	flag.IntVar(&s.batch, "batch", 5, "how many Jobs of batch/v1 to measure")
	flag.DurationVar(&s.timeout, "timeout", 10*time.Minute, "when to give up")
	flag.BoolVar(&s.raw, "raw", false, "print what each Job of the pool took, in microseconds, in place of the table")
	flag.Parse()
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "latency:", err)
		os.Exit(1)
	}
}

func run(s settings) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 1000, 1000
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	ours, theirs, err := measureBoth(ctx, c, s)
	if err != nil {
		return err
	}
	if s.raw {
		for _, took := range ours {
			fmt.Println(took.Microseconds())
		}
		return nil
	}
	return report(ours, theirs)
}

// measureBoth spreads the batch/v1 Jobs evenly among the others.
func measureBoth(ctx context.Context, c client.WithWatch, s settings) (ours, theirs []time.Duration, err error) {
	for i := range s.jobs {
		took, err := measure(ctx, c, &v1alpha1.JobList{}, s.ourJob(), func(o client.Object) []metav1.Condition {
			return o.(*v1alpha1.Job).Status.Conditions
		})
		if err != nil {
			return nil, nil, err
		}
		ours = append(ours, took)
		if (i+1)*s.batch/s.jobs == i*s.batch/s.jobs {
			continue
		}
		took, err = measure(ctx, c, &batchv1.JobList{}, s.batchJob(), batchConditions)
		if err != nil {
			return nil, nil, err
		}
		theirs = append(theirs, took)
	}
	return ours, theirs, nil
}

func batchConditions(o client.Object) []metav1.Condition {
	var all []metav1.Condition
	for _, c := range o.(*batchv1.Job).Status.Conditions {
		all = append(all, metav1.Condition{Type: string(c.Type), Status: metav1.ConditionStatus(c.Status), Message: c.Message})
	}
	return all
}

// measure creates a Job, waits until a watch shows it complete, and deletes it.
func measure(
	ctx context.Context, c client.WithWatch, list client.ObjectList, job client.Object, conditions func(client.Object) []metav1.Condition,
) (time.Duration, error) {
	// From now on: what is there already would only delay the answer.
	if err := c.List(ctx, list, client.InNamespace(job.GetNamespace()), client.Limit(1)); err != nil {
		return 0, err
	}
	watcher, err := c.Watch(ctx, list, client.InNamespace(job.GetNamespace()),
		&client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.GetResourceVersion()}})
	if err != nil {
		return 0, err
	}
	defer watcher.Stop()
	start := time.Now()
	if err := c.Create(ctx, job); err != nil {
		return 0, err
	}
	if err := await(ctx, watcher, job, conditions); err != nil {
		return 0, err
	}
	took := time.Since(start)
	return took, c.Delete(ctx, job, client.PropagationPolicy(metav1.DeletePropagationBackground))
}

func await(ctx context.Context, watcher watch.Interface, job client.Object, conditions func(client.Object) []metav1.Condition) error {
	for {
		select {
		case event, open := <-watcher.ResultChan():
			o, ok := event.Object.(client.Object)
			switch {
			case !open:
				return fmt.Errorf("the watch of %s has ended", job.GetName())
			case !ok || o.GetUID() != job.GetUID():
			case meta.IsStatusConditionTrue(conditions(o), "Complete"):
				return nil
			case meta.IsStatusConditionTrue(conditions(o), "Failed"):
				return fmt.Errorf("%s has failed: %+v", job.GetName(), conditions(o))
			}
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", job.GetName(), context.Cause(ctx))
		}
	}
}

func (s settings) ourJob() *v1alpha1.Job {
	return &v1alpha1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, GenerateName: "latency-"},
		Spec:       v1alpha1.JobSpec{Pool: s.pool, Command: []string{"echo", "hello"}},
	}
}

func (s settings) batchJob() *batchv1.Job {
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, GenerateName: "latency-"},
		Spec: batchv1.JobSpec{
			BackoffLimit: ptr.To[int32](0),
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				RestartPolicy:                 corev1.RestartPolicyNever,
				AutomountServiceAccountToken:  new(false),
				TerminationGracePeriodSeconds: ptr.To[int64](0),
				Containers: []corev1.Container{{
					Name: "echo", Image: s.image, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"echo", "hello"},
				}},
			}},
		},
	}
}

func report(ours, theirs []time.Duration) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(w, "echo, from create to complete\tJOBS\tP50\tP99\tMAX")
	row(w, "Job in a WorkerPool", ours)
	row(w, "batch/v1 Job", theirs)
	if err := w.Flush(); err != nil {
		return err
	}
	if len(ours) > 0 && len(theirs) > 0 {
		fmt.Printf("\nAt the median, a warm worker is %.0f times as fast.\n", float64(quantile(theirs, 50))/float64(quantile(ours, 50)))
	}
	return nil
}

func row(w *tabwriter.Writer, name string, took []time.Duration) {
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", name, len(took),
		rounded(quantile(took, 50)), rounded(quantile(took, 99)), rounded(took[len(took)-1]))
}

func rounded(d time.Duration) string { return d.Round(100 * time.Microsecond).String() }

// quantile of a sorted list, in hundredths: the smallest value that so many of all do not exceed.
func quantile(sorted []time.Duration, hundredths int) time.Duration {
	return sorted[max(0, (len(sorted)*hundredths+99)/100-1)]
}
