package dispatch

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
	"github.com/workerpool-dev/workerpool/internal/podspec"
)

const (
	podIP, hostIP, elsewhere = "10.0.0.7", "192.168.0.2", "10.9.9.9"
)

func TestASessionIsRecognised(t *testing.T) {
	own := []string{podIP, hostIP}
	runs := Sight{Container: "first", Runs: true, Addresses: own}
	again := Sight{Restarts: 1, Container: "second", Runs: true, Addresses: own}
	type visit struct {
		instance, address string
		// shown is what the pod shows now.
		shown Sight
		want  error
	}
	cases := map[string][]visit{
		"the same process comes back":                 {{"a", podIP, runs, nil}, {"a", podIP, runs, nil}},
		"another process without a restart":           {{"a", podIP, runs, nil}, {"b", podIP, runs, errNoRestart}, {"a", podIP, runs, nil}},
		"before the kubelet has told of the first":    {{"a", podIP, Sight{Addresses: own}, nil}, {"b", podIP, runs, errNoRestart}},
		"another process after a restart":             {{"a", podIP, runs, nil}, {"b", podIP, again, nil}, {"b", podIP, again, nil}},
		"once the pod shows the restart":              {{"a", podIP, runs, nil}, {"b", podIP, runs, errNoRestart}, {"b", podIP, again, nil}},
		"the former process after a restart":          {{"a", podIP, runs, nil}, {"b", podIP, again, nil}, {"a", podIP, again, errNoRestart}},
		"another container of the same count":         {{"a", podIP, runs, nil}, {"b", podIP, Sight{Container: "x", Runs: true, Addresses: own}, nil}},
		"while the container waits to run again":      {{"a", podIP, runs, nil}, {"b", podIP, Sight{Container: "first", Addresses: own}, errNoRestart}},
		"while the container waits a second time":     {{"a", podIP, runs, nil}, {"b", podIP, Sight{Restarts: 1, Container: "second", Addresses: own}, errNoRestart}},
		"from outside the pod":                        {{"a", podIP, runs, nil}, {"a", elsewhere, runs, errElsewhere}},
		"from outside the pod, after a restart":       {{"a", podIP, runs, nil}, {"b", elsewhere, again, errElsewhere}},
		"from the pod's node":                         {{"a", podIP, runs, nil}, {"a", hostIP, runs, nil}},
		"from another address where they are changed": {{"a", elsewhere, runs, nil}, {"a", "10.8.8.8", runs, nil}, {"b", elsewhere, again, nil}},
		"from the new address of a pod":               {{"a", podIP, runs, nil}, {"b", "10.0.0.8", Sight{Restarts: 1, Runs: true, Addresses: []string{"10.0.0.8"}}, nil}},
		"a second restart":                            {{"a", podIP, runs, nil}, {"b", podIP, again, nil}, {"c", podIP, again, errNoRestart}, {"c", podIP, Sight{Restarts: 2, Runs: true}, nil}},
	}
	for name, visits := range cases {
		t.Run(name, func(t *testing.T) {
			var shown Sight
			p := &pods{
				look:  func(context.Context, Identity) (Sight, error) { return shown, nil },
				clock: time.Now, known: map[types.UID]*acquaintance{},
			}
			for i, v := range visits {
				shown = v.shown
				a, err := p.enter(podUID)
				if err != nil {
					t.Fatal(err)
				}
				identity := someone
				if i == 0 { // later the cache is behind
					identity.Restarts, identity.Container = v.shown.Restarts, v.shown.Container
				}
				if err := p.recognise(t.Context(), a, identity, v.instance, v.address); err != v.want { //nolint:errorlint // these very ones
					t.Errorf("visit %d: the answer is %v, want %v", i, err, v.want)
				}
				p.leave(a)
			}
		})
	}
}

func TestAPodIsForgottenLongAfterItsLastSession(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := &pods{clock: func() time.Time { return now }, known: map[types.UID]*acquaintance{}}
	gone, err := p.enter("gone")
	if err != nil {
		t.Fatal(err)
	}
	p.leave(gone)
	if _, err := p.enter("there"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * memory)
	if _, err := p.enter("another"); err != nil {
		t.Fatal(err)
	}
	if p.known["gone"] != nil || p.known["there"] == nil {
		t.Errorf("known are %v", p.known)
	}
	if _, err := p.enter("there"); err == nil {
		t.Error("a second session was let in")
	}
}

// A stolen token is used while the worker's container is down.
func TestASessionThatIsTakenOverIsRefusedUntilTheContainerHasRestarted(t *testing.T) {
	o := newOperator(t)
	sight := Sight{Container: "first", Runs: true}
	o.onLook = func() (Sight, error) { return sight, nil }
	o.serve()
	agent := o.dial(o.ca)
	o.receive(o.greet(agent))
	_ = agent.Close()
	<-o.disconnected

	as := func(instance string) error {
		for {
			stream := o.open(o.dial(o.ca), "Bearer good")
			o.send(stream, helloMessage(&dispatchpb.Hello{Protocol: 1, Instance: instance}))
			if _, err := stream.Recv(); grpcstatus.Code(err) != codes.AlreadyExists { // the first is about to end
				return err
			}
		}
	}
	if err := as("thief"); grpcstatus.Code(err) != codes.Unavailable {
		t.Errorf("the answer is %v, want Unavailable", err)
	}
	sight = Sight{Restarts: 1, Container: "second", Runs: true}
	if err := as("i2"); err != nil {
		t.Errorf("the agent of the container that was started again was refused: %v", err)
	}
}

func TestWhatAPodShowsOfItsAgent(t *testing.T) {
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	pool := &v1alpha1.WorkerPool{}
	pool.Spec.Template.Spec.Containers = []corev1.Container{{Name: "main", Command: []string{"x"}}}
	pod := podspec.Pod(pool, 0, podspec.Agent{})
	pod.Status = corev1.PodStatus{
		PodIPs: []corev1.PodIP{{IP: podIP}, {IP: "fd00:0::7"}}, HostIPs: []corev1.HostIP{{IP: hostIP}},
		ContainerStatuses: []corev1.ContainerStatus{
			{Name: "other", RestartCount: 9}, {Name: "main", RestartCount: 3, ContainerID: "id", State: running},
		},
	}
	got := sightOf(pod)
	if got.Restarts != 3 || got.Container != "id" || !got.Runs || len(got.Addresses) != 3 || got.Addresses[1] != "fd00::7" {
		t.Errorf("it shows %+v", got)
	}
}
