package process

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/util/keyutil"
	"k8s.io/utils/ptr"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// The kubelet renews a token long before its end. It can't while there is no API server, or no way to it: so the
// agent's may have expired when the operator asks for it again.
func TestAnAgentWhoseTokenHasExpiredKeepsItsJobsAndComesBackWithAnother(t *testing.T) {
	t.Parallel()
	w, leader := worldWithHeldJob(t)
	k := w.workers[0]
	k.putToken(k.expiredToken())
	leader.stop()
	w.leader(w.other(leader))
	w.await("refusal", func() bool { return strings.Contains(k.said(), "the token is not valid") })
	w.submit("later", short, 20)
	if n := w.started("later"); n > 0 {
		t.Errorf("%d Jobs were started in a worker without a token", n)
	}
	k.putToken(k.freshToken())
	w.awaitSucceeded("later", 20)
	w.release()
	w.awaitSucceeded("held", 1)
	w.expectOnce("held", 1)
	w.expectOnce("later", 20)
}

func TestATokenThatIsRenewedIsTakenAtTheNextSession(t *testing.T) {
	t.Parallel()
	w, leader := worldWithHeldJob(t)
	k := w.workers[0]
	k.putToken(k.freshToken())
	leader.stop()
	w.leader(w.other(leader))
	w.submit("later", short, 20)
	w.awaitSucceeded("later", 20)
	w.release()
	w.awaitSucceeded("held", 1)
	w.expectOnce("held", 1)
	w.expectOnce("later", 20)
}

func TestAnAgentThatIsNobodyKillsItsJobsWhichRunAgain(t *testing.T) {
	t.Parallel()
	w, leader := worldWithHeldJob(t)
	k := w.workers[0]
	k.putToken("of nobody")
	leader.stop()
	w.leader(w.other(leader))
	w.await("refusal", func() bool { return strings.Contains(k.said(), "Unauthenticated") })
	k.putToken(k.freshToken())
	w.awaitStarted("held", 2)
	w.release()
	w.awaitSucceeded("held", 1)
	if job := w.jobs("held")[0]; ptr.Deref(job.Status.Attempts, 0) != 2 || job.Status.EndedAttempts[0].Reason != v1alpha1.ReasonInterrupted {
		t.Errorf("the Job has the status %+v", job.Status)
	}
}

// worldWithHeldJob has one worker with room for two, in which a Job runs that is recorded.
func worldWithHeldJob(t *testing.T) (*world, *operator) {
	t.Helper()
	w := newWorld(t)
	for _, o := range w.operators {
		w.startOperator(o, built)
	}
	leader := w.leader(w.operators...)
	w.create(testutil.MakePool(w.namespace, poolName).Replicas(1).Slots(2).Capacity(1000).Retain(0).Obj())
	w.startWorkers(1, built)
	w.ready(1)
	w.submit("held", held, 1)
	w.awaitRecorded("held", 1)
	w.awaitFollowing(w.other(leader))
	return w, leader
}

// expiredToken is the pod's token as it was some hours ago.
func (k *worker) expiredToken() string {
	k.w.t.Helper()
	parts := strings.Split(k.freshToken(), ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		k.w.t.Fatal(err)
	}
	claims := map[string]any{}
	if err := json.Unmarshal(payload, &claims); err != nil {
		k.w.t.Fatal(err)
	}
	for name, ago := range map[string]time.Duration{"iat": 4 * time.Hour, "nbf": 4 * time.Hour, "exp": 3 * time.Hour} {
		claims[name] = time.Now().Add(-ago).Unix()
	}
	if payload, err = json.Marshal(claims); err != nil {
		k.w.t.Fatal(err)
	}
	signed := parts[0] + "." + base64.RawURLEncoding.EncodeToString(payload)
	return signed + "." + base64.RawURLEncoding.EncodeToString(sign(k.w, signed))
}

// sign does what the API server does.
func sign(w *world, text string) []byte {
	t := w.t
	t.Helper()
	encoded, err := w.env.TokenKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := keyutil.ParsePrivateKeyPEM(encoded)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key.(*ecdsa.PrivateKey), sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}
