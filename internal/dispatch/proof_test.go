package dispatch

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/certs"
	"github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

var testProver = prover{key: []byte("a key of 32 bytes, all the same."), pod: someone.PodUID}

func TestAProofIsOfOneAttemptAndOnePod(t *testing.T) {
	token := engine.Token{Job: "job", Index: 1, Try: 2, Epoch: engine.Epoch{LeaseCreated: 3, Transitions: 4}}
	proof := testProver.proof(token)
	if !testProver.proves(token, proof) {
		t.Fatal("an honest proof is refused")
	}
	change := func(c func(*engine.Token)) engine.Token {
		other := token
		c(&other)
		return other
	}
	for name, other := range map[string]engine.Token{
		"job":         change(func(t *engine.Token) { t.Job = "jo" }),
		"index":       change(func(t *engine.Token) { t.Index++ }),
		"try":         change(func(t *engine.Token) { t.Try++ }),
		"lease":       change(func(t *engine.Token) { t.Epoch.LeaseCreated++ }),
		"transitions": change(func(t *engine.Token) { t.Epoch.Transitions++ }),
	} {
		if testProver.proves(other, proof) {
			t.Errorf("it proves another %s too", name)
		}
	}
	shifted := engine.Token{Job: token.Job + someone.PodUID[:1], Index: 1, Try: 2, Epoch: token.Epoch}
	if (prover{testProver.key, someone.PodUID[1:]}).proves(shifted, proof) {
		t.Error("where the Job's UID ends and the pod's begins makes no difference")
	}
	for name, p := range map[string]prover{
		"pod": {testProver.key, "other"}, "key": {bytes.Repeat([]byte("k"), 32), someone.PodUID},
	} {
		if p.proves(token, proof) {
			t.Errorf("it holds for another %s", name)
		}
	}
	for _, none := range [][]byte{nil, {}, proof[:31], append(slices.Clone(proof), 0), make([]byte, 1<<20)} {
		if testProver.proves(token, none) {
			t.Errorf("%d bytes that are none are a proof", len(none))
		}
	}
	keyless := prover{pod: someone.PodUID}
	if keyless.proves(token, keyless.proof(token)) {
		t.Error("without a key there is a proof")
	}
}

// writes keeps what an engine wants to be stored.
type writes struct {
	mu   sync.Mutex
	last engine.Write
	// finals has a value for each that ends a Job.
	finals chan engine.Write
}

func (o *writes) Write(w engine.Write) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last = w; w.Final() {
		o.finals <- w
	}
}
func (o *writes) DropWrite(types.UID)              {}
func (o *writes) Look(engine.JobRef)               {}
func (o *writes) Load(engine.JobRef)               {}
func (o *writes) PoolOpened(types.NamespacedName)  {}
func (o *writes) PoolChanged(types.NamespacedName) {}

// installation is a pool of two pods, led by a real engine.
type installation struct {
	*operator
	*writes
	engine *engine.Engine
}

// twoPods are whom the installation knows.
type twoPods struct{ *operator }

// Authenticate is Authenticator's: a token is the name of its pod.
func (twoPods) Authenticate(_ context.Context, token string) (Identity, error) {
	if token != "a" && token != "b" {
		return Identity{}, grpcstatus.Error(codes.Unauthenticated, "who?")
	}
	return Identity{Pool: someone.Pool, PoolUID: someone.PoolUID, PodName: token, PodUID: types.UID(token), Proves: true}, nil
}

// lead begins the lead of an operator with a key, which knows of a Job of which nothing is stored.
func lead(t *testing.T, ca *certs.CA, transitions int64, key []byte) *installation {
	i := &installation{operator: &operator{t: t, ca: ca}, writes: &writes{finals: make(chan engine.Write, 10)}}
	epoch := engine.Epoch{LeaseCreated: 1234, Transitions: transitions}
	i.engine = engine.New(time.Now, func() float64 { return 0 }, i.writes)
	i.engine.Begin(epoch)
	i.engine.SetPool(engine.PoolConfig{Key: someone.Pool, UID: someone.PoolUID, Capacity: 10, Slots: 1, LostAfter: time.Hour})
	i.engine.SetWorkers(someone.Pool, []engine.WorkerPod{
		{UID: "a", Name: "a", Started: true, Slots: 1}, {UID: "b", Name: "b", Ordinal: 1, Started: true, Slots: 1},
	})
	manager, _ := i.engine.Manager(someone.Pool)
	if err := manager.Start(); err != nil {
		t.Fatal(err)
	}
	i.engine.Submit(engine.Job{
		JobRef:  engine.JobRef{NamespacedName: types.NamespacedName{Namespace: "ns", Name: "job"}, UID: jobUID},
		Created: time.Now().Add(-time.Minute), Spec: &v1alpha1.JobSpec{Pool: "pool", Command: []string{"true"}},
	})
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i.address = listener.Addr().String()
	config := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: certs.NewServer(ca, time.Now).GetCertificate}
	server := NewServer(i.engine, twoPods{i.operator}, epoch, func() bool { return true }, key, config, newRefusals(i.t))
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return i
}

// join begins a session of a pod's agent, which says that it runs something, or nothing.
func (i *installation) join(pod string, running ...*dispatchpb.Running) agentStream {
	stream := i.open(i.dial(i.ca), "Bearer "+pod)
	i.send(stream, helloMessage(&dispatchpb.Hello{Protocol: 1, Instance: pod, Running: running}))
	if i.receive(stream).GetWelcome() == nil {
		i.t.Fatal("there was no Welcome")
	}
	return stream
}

// until reads what is sent until something is as it is looked for.
func (i *installation) until(stream agentStream, is func(*dispatchpb.OperatorMessage) bool) *dispatchpb.OperatorMessage {
	for {
		if m := i.receive(stream); is(m) {
			return m
		}
	}
}

func assigned(m *dispatchpb.OperatorMessage) bool { return len(m.GetAssignments()) > 0 }
func killed(m *dispatchpb.OperatorMessage) bool   { return len(m.GetKills()) > 0 }
func forgets(m *dispatchpb.OperatorMessage) bool  { return len(m.GetSettled()) > 0 }

func resultOf(token *dispatchpb.Token, output string) *dispatchpb.AgentMessage {
	return reportMessage(&dispatchpb.Report{Results: []*dispatchpb.Result{
		{Token: token, JobName: "job", Outcome: dispatchpb.Outcome_OUTCOME_EXITED, Output: []byte(output)},
	}})
}

func TestAForgedTokenIsRefusedWhileTheHonestOneIsAccepted(t *testing.T) {
	ca := newCA(t)
	first := lead(t, ca, 1, ca.TokenKey)
	honest, forger := first.join("a"), first.join("b")
	token := first.until(honest, assigned).GetAssignments()[0].GetToken() // the first in line
	if len(token.GetProof()) == 0 {
		t.Fatal("there is no proof")
	}
	first.send(forger, resultOf(token, "forged"))
	first.until(forger, forgets)

	// The next leader knows of nothing that runs, and the same proof holds.
	for transitions, key := range map[int64][]byte{2: ca.TokenKey, 3: bytes.Repeat([]byte("k"), 32)} {
		next := lead(t, ca, transitions, key)
		forger = next.join("b", &dispatchpb.Running{Token: token, JobName: "job"})
		next.until(forger, killed)
		next.send(forger, resultOf(token, "forged"))
		next.until(forger, forgets)
		if transitions == 3 { // the key was lost: what is not stored is not known, and is run again
			honest = next.join("a", &dispatchpb.Running{Token: token, JobName: "job"})
			next.until(honest, killed)
			continue
		}
		honest = next.join("a", &dispatchpb.Running{Token: token, JobName: "job"})
		next.send(honest, resultOf(token, "honest"))
		w := <-next.finals
		if w.Status.State != v1alpha1.JobSucceeded || w.Status.Result.Output != "honest" || w.Status.Worker != "a" {
			t.Errorf("stored: %+v", w.Status)
		}
	}
}
