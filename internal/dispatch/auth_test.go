package dispatch

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/workerpool-dev/workerpool/internal/issuer"
	"github.com/workerpool-dev/workerpool/internal/podspec"
)

// signer is the API server's, stranger another's.
var signer, stranger = newSigner("key"), newSigner("key")

// newSigner has a key of this name.
func newSigner(id string) jose.SigningKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: id}}
}

// keysOf are what the API server publishes of its key.
func keysOf(t *testing.T, by jose.SigningKey) *issuer.Keys {
	t.Helper()
	body, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{new(by.Key.(jose.JSONWebKey)).Public()}})
	if err != nil {
		t.Fatal(err)
	}
	return &issuer.Keys{Fetch: func(context.Context) ([]byte, error) { return body, nil }}
}

// said is what a token claims.
type said struct {
	audience, namespace, name, uid string
	expires                        time.Time
}

// saidByWorker is what the kubelet has the API server put into the token of pool-0.
func saidByWorker() said {
	return said{podspec.Audience, "ns", "pool-0", podUID, time.Now().Add(time.Hour)}
}

// sign makes a token.
func sign(t testing.TB, by jose.SigningKey, s said) string {
	t.Helper()
	signer, err := jose.NewSigner(by, nil)
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]any{"kubernetes.io": map[string]any{"namespace": s.namespace, "pod": map[string]any{"name": s.name, "uid": s.uid}}}
	standard := jwt.Claims{Audience: jwt.Audience{s.audience}, Expiry: jwt.NewNumericDate(s.expires)}
	token, err := jwt.Signed(signer).Claims(standard).Claims(own).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// cluster is what a TokenAuthenticator sees.
type cluster struct {
	// signer signs the token that says this; made, if not empty, is another token in its place.
	signer jose.SigningKey
	said   said
	made   string

	review    authenticationv1.TokenReviewStatus
	reviewErr error
	// cached and live are the pod, nil if it is not there.
	cached, live *corev1.Pod
	liveErr      error
	// keyless clusters do not show their keys.
	keyless bool

	// reviews and reads count the requests to the API server.
	reviews, reads atomic.Int32
	// onReview, if not nil, is called during each review.
	onReview func()
}

// newCluster has a worker that all is well with.
func newCluster() *cluster {
	return &cluster{
		signer: signer, said: saidByWorker(),
		review: authenticationv1.TokenReviewStatus{
			Authenticated: true,
			Audiences:     []string{podspec.Audience},
			User: authenticationv1.UserInfo{
				Username: "system:serviceaccount:ns:default",
				Extra: map[string]authenticationv1.ExtraValue{
					"authentication.kubernetes.io/pod-name": {"pool-0"},
					"authentication.kubernetes.io/pod-uid":  {podUID},
				},
			},
		},
		cached: worker(podUID),
		live:   worker(podUID),
	}
}

func worker(uid types.UID) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "ns", Name: "pool-0", UID: uid,
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "workerpool.dev/v1alpha1", Kind: "WorkerPool", Name: "pool", UID: "pool-uid", Controller: new(true),
		}},
	}}
}

func (c *cluster) authenticator(t *testing.T) *TokenAuthenticator {
	t.Helper()
	review := func(_ context.Context, _ client.WithWatch, obj client.Object, _ ...client.CreateOption) error {
		r := obj.(*authenticationv1.TokenReview)
		if len(r.Spec.Audiences) != 1 || r.Spec.Audiences[0] != podspec.Audience {
			t.Errorf("a review of %+v was asked for", r.Spec)
		}
		c.reviews.Add(1)
		if c.onReview != nil {
			c.onReview()
		}
		r.Status = c.review
		return c.reviewErr
	}
	failing := func(ctx context.Context, inner client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
		c.reads.Add(1)
		if c.liveErr != nil {
			return c.liveErr
		}
		return inner.Get(ctx, key, obj, opts...)
	}
	keys := keysOf(t, signer)
	if c.keyless {
		keys = nil
	}
	return NewTokenAuthenticator(fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{Create: review}).Build(),
		having(c.cached).Build(), having(c.live).WithInterceptorFuncs(interceptor.Funcs{Get: failing}).Build(), keys, time.Now)
}

func (c *cluster) token(t *testing.T) string {
	t.Helper()
	if c.made != "" {
		return c.made
	}
	return sign(t, c.signer, c.said)
}

// refused has the API server refuse the token, while this pod is there.
func refused(there *corev1.Pod) func(*cluster) {
	return func(c *cluster) {
		c.review = authenticationv1.TokenReviewStatus{Error: "[invalid bearer token, service account token has expired]"}
		c.cached, c.live = there, there
	}
}

func having(pod *corev1.Pod) *fake.ClientBuilder {
	if pod == nil {
		return fake.NewClientBuilder()
	}
	return fake.NewClientBuilder().WithObjects(pod)
}

func TestAuthenticate(t *testing.T) {
	down := errors.New("connection refused")
	cases := map[string]struct {
		change func(c *cluster)
		want   codes.Code
	}{
		"a worker":                      {func(*cluster) {}, codes.OK},
		"a worker not in the cache yet": {func(c *cluster) { c.cached = nil }, codes.OK},
		"a worker whose predecessor of the same name is in the cache": {
			func(c *cluster) { c.cached = worker("uid-of-before") }, codes.OK,
		},
		"a worker in the cache while the API is down": {func(c *cluster) { c.liveErr = down }, codes.OK},
		"a worker whose signature can't be checked":   {func(c *cluster) { c.keyless = true }, codes.OK},
		"a token that is none":                        {func(c *cluster) { c.made = "of nobody" }, codes.Unauthenticated},
		"a token that names no pod":                   {func(c *cluster) { c.said.uid = "" }, codes.Unauthenticated},
		"a token with another's signature":            {func(c *cluster) { c.signer = stranger }, codes.Unavailable},
		"a token that says it is for others":          {func(c *cluster) { c.said.audience = "https://kubernetes.default.svc" }, codes.Unavailable},
		"a token that is for others":                  {func(c *cluster) { c.review.Audiences = []string{"https://kubernetes.default.svc"} }, codes.Unavailable},
		"a token for anybody":                         {func(c *cluster) { c.review.Audiences = nil }, codes.Unavailable},
		"an expired token":                            {func(c *cluster) { c.said.expires = time.Now().Add(-time.Hour) }, codes.Unavailable},
		"an expired token of a pod that is gone": {func(c *cluster) {
			c.said.expires, c.cached, c.live = time.Now().Add(-time.Hour), nil, nil
		}, codes.PermissionDenied},
		"a refused token of a pod that is there":     {refused(worker(podUID)), codes.Unavailable},
		"a refused token of a pod that is gone":      {refused(nil), codes.PermissionDenied},
		"a refused token of a pod that was replaced": {refused(worker("uid-2")), codes.PermissionDenied},
		"a refused token of a pod that can't be read": {func(c *cluster) {
			refused(nil)(c)
			c.liveErr = down
		}, codes.Unavailable},
		"a token with claims that are none": {func(c *cluster) { c.made = "a.b.c" }, codes.Unauthenticated},
		"a review that failed":              {func(c *cluster) { c.reviewErr = down }, codes.Unavailable},
		"a token without a pod":             {func(c *cluster) { c.review.User.Extra = nil }, codes.PermissionDenied},
		"a token without a pod's UID": {
			func(c *cluster) { delete(c.review.User.Extra, "authentication.kubernetes.io/pod-uid") }, codes.PermissionDenied,
		},
		"a token of a person": {func(c *cluster) { c.review.User.Username = "jane" }, codes.PermissionDenied},
		"a token of a node":   {func(c *cluster) { c.review.User.Username = "system:node:ns:n1" }, codes.PermissionDenied},
		"a pod of another namespace": {
			func(c *cluster) { c.review.User.Username = "system:serviceaccount:other:default" }, codes.PermissionDenied,
		},
		"a pod that is gone": {func(c *cluster) { c.cached, c.live = nil, nil }, codes.PermissionDenied},
		"a pod that was replaced": {
			func(c *cluster) { c.cached, c.live = worker("uid-2"), worker("uid-2") }, codes.PermissionDenied,
		},
		"a pod that can't be read": {func(c *cluster) { c.cached, c.liveErr = nil, down }, codes.Unavailable},
		"a pod of nobody":          {func(c *cluster) { c.cached.OwnerReferences = nil }, codes.PermissionDenied},
		"a pod with a name that no worker of its pool has": {
			func(c *cluster) { c.cached.OwnerReferences[0].Name = "other" }, codes.PermissionDenied,
		},
		"a worker whose label was taken off": {func(c *cluster) { c.cached, c.live.Labels = nil, nil }, codes.OK},
		"a pod of a ReplicaSet": {
			func(c *cluster) { c.cached.OwnerReferences[0].Kind = "ReplicaSet" }, codes.PermissionDenied,
		},
		"a pod of another's WorkerPool": {
			func(c *cluster) { c.cached.OwnerReferences[0].APIVersion = "example.com/v1alpha1" }, codes.PermissionDenied,
		},
		"a pod with an owner that does not control it": {
			func(c *cluster) { c.cached.OwnerReferences[0].Controller = nil }, codes.PermissionDenied,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cluster := newCluster()
			c.change(cluster)
			got, err := cluster.authenticator(t).Authenticate(t.Context(), cluster.token(t))
			if grpcstatus.Code(err) != c.want {
				t.Fatalf("the answer is %v, want %v", err, c.want)
			}
			if want := (Identity{}); err != nil && got != want {
				t.Errorf("identity %+v beside an error", got)
			}
			if err == nil && got != someone {
				t.Errorf("identity %+v, want %+v", got, someone)
			}
		})
	}
}

// decoder reads a pod as a decoder of JSON does, which leaves what is not in the JSON as it was.
type decoder struct {
	client.Reader
	pod *corev1.Pod
}

// Get is client.Reader's.
func (d decoder) Get(_ context.Context, _ client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	encoded, err := json.Marshal(d.pod)
	if err != nil {
		return err
	}
	return json.Unmarshal(encoded, obj)
}

func TestAPodDoesNotInheritTheOwnerOfOneInTheCache(t *testing.T) {
	c := newCluster()
	c.cached = worker("uid-of-before")
	stranger := worker(podUID)
	stranger.OwnerReferences = nil
	a := c.authenticator(t)
	a.live = decoder{pod: stranger}
	if got, err := a.Authenticate(t.Context(), c.token(t)); grpcstatus.Code(err) != codes.PermissionDenied {
		t.Errorf("%+v, %v, want PermissionDenied", got, err)
	}
}

// at is the context of a stream from this address.
func at(ctx context.Context, address string) context.Context {
	return peer.NewContext(ctx, &peer.Peer{Addr: &net.TCPAddr{IP: net.ParseIP(address), Port: 1}})
}

func TestMadeUpTokensThatNameAPodNeitherCostRequestsNorKeepItsAgentOut(t *testing.T) {
	c := newCluster()
	a := c.authenticator(t)
	made := sign(t, stranger, c.said)
	for range 1000 {
		if _, err := a.Authenticate(at(t.Context(), podIP), made); grpcstatus.Code(err) != codes.Unavailable {
			t.Fatalf("the answer is %v, want Unavailable", err)
		}
	}
	if reviews, reads := c.reviews.Load(), c.reads.Load(); reviews+reads > 0 {
		t.Errorf("they cost %d reviews and %d reads", reviews, reads)
	}
	if _, err := a.Authenticate(at(t.Context(), podIP), c.token(t)); err != nil {
		t.Errorf("the pod's agent was refused: %v", err)
	}
}

func TestTokensThatCannotBeCheckedAreLimitedByTheirAddress(t *testing.T) {
	c := newCluster()
	c.keyless = true
	a := c.authenticator(t)
	c.review.Authenticated = false
	made := sign(t, stranger, c.said)
	for range 1000 {
		if _, err := a.Authenticate(at(t.Context(), elsewhere), made); grpcstatus.Code(err) != codes.Unavailable {
			t.Fatalf("the answer is %v, want Unavailable", err)
		}
	}
	if n := c.reviews.Load(); n > int32(addressBound.Burst)+10*int32(addressBound.PerSecond) {
		t.Errorf("1,000 tries from one address cost %d reviews", n)
	}
	c.review.Authenticated = true
	if _, err := a.Authenticate(at(t.Context(), podIP), c.token(t)); err != nil {
		t.Errorf("an agent at another address was refused: %v", err)
	}
}

func TestAPodThatComesAllTheTimeIsNotReviewedEachTime(t *testing.T) {
	c := newCluster()
	refused(worker(podUID))(c)
	a := c.authenticator(t)
	for range 1000 {
		if _, err := a.Authenticate(t.Context(), c.token(t)); grpcstatus.Code(err) != codes.Unavailable {
			t.Fatalf("the answer is %v, want Unavailable", err)
		}
	}
	if n := c.reviews.Load(); n > int32(podBound.Burst)+10*int32(podBound.PerSecond) {
		t.Errorf("1,000 tries of one pod cost %d reviews", n)
	}
}

func TestWhatATokenSaysIsLookedAtBeforeItsReview(t *testing.T) {
	for name, change := range map[string]func(*cluster){
		"expired":        func(c *cluster) { c.said.expires = time.Now().Add(-time.Hour) },
		"for others":     func(c *cluster) { c.said.audience = "others" },
		"of no pod":      func(c *cluster) { c.said.name = "" },
		"of a lost pod":  func(c *cluster) { c.cached, c.live = nil, nil },
		"of no worker":   func(c *cluster) { c.cached.OwnerReferences = nil },
		"not well made":  func(c *cluster) { c.made = "a.b.c" },
		"of another UID": func(c *cluster) { c.said.uid = jobUID },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster()
			change(c)
			if _, err := c.authenticator(t).Authenticate(t.Context(), c.token(t)); err == nil || c.reviews.Load() > 0 {
				t.Errorf("the answer is %v, after %d reviews", err, c.reviews.Load())
			}
		})
	}
}

func TestOnePodHasOneReviewAtATime(t *testing.T) {
	c := newCluster()
	a := c.authenticator(t)
	token := c.token(t)
	c.onReview = func() {
		c.onReview = nil
		if _, err := a.Authenticate(t.Context(), token); !errors.Is(err, errOften) {
			t.Errorf("a second try beside the first got %v", err)
		}
	}
	if _, err := a.Authenticate(t.Context(), token); err != nil {
		t.Error(err)
	}
}

func TestRequestsOfOneNamespaceDoNotHoldUpThoseOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newCluster().authenticator(t)
		release, served := make(chan struct{}), make(chan struct{})
		for range 10 * requestsAtOnce {
			go func() { _ = a.requests.Do(t.Context(), "greedy", func() error { <-release; return nil }) }()
		}
		synctest.Wait()
		go func() { _ = a.requests.Do(t.Context(), "modest", func() error { close(served); return nil }) }()
		synctest.Wait()
		release <- struct{}{} // one of the greedy ones is done
		synctest.Wait()
		select {
		case <-served:
		default:
			t.Error("the place went to another request of the same namespace")
		}
		close(release)
	})
}
