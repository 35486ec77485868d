package dispatch

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/workerpool-dev/workerpool/internal/podspec"
)

// cluster is what a TokenAuthenticator sees.
type cluster struct {
	token     string
	review    authenticationv1.TokenReviewStatus
	reviewErr error
	// cached and live are the pod, nil if it is not there.
	cached, live *corev1.Pod
	liveErr      error
}

// newCluster has a worker that all is well with.
func newCluster() *cluster {
	return &cluster{
		token: "token",
		review: authenticationv1.TokenReviewStatus{
			Authenticated: true,
			Audiences:     []string{podspec.Audience},
			User: authenticationv1.UserInfo{
				Username: "system:serviceaccount:ns:default",
				Extra: map[string]authenticationv1.ExtraValue{
					"authentication.kubernetes.io/pod-name": {"pool-0"},
					"authentication.kubernetes.io/pod-uid":  {"pod-uid"},
				},
			},
		},
		cached: worker("pod-uid"),
		live:   worker("pod-uid"),
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
		if r.Spec.Token != c.token || len(r.Spec.Audiences) != 1 || r.Spec.Audiences[0] != podspec.Audience {
			t.Errorf("a review of %+v was asked for", r.Spec)
		}
		r.Status = c.review
		return c.reviewErr
	}
	failing := func(ctx context.Context, inner client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
		if c.liveErr != nil {
			return c.liveErr
		}
		return inner.Get(ctx, key, obj, opts...)
	}
	return &TokenAuthenticator{
		Client: fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{Create: review}).Build(),
		Pods:   having(c.cached).Build(),
		Live:   having(c.live).WithInterceptorFuncs(interceptor.Funcs{Get: failing}).Build(),
	}
}

// refused has the API server refuse a token that says it is bound to pool-0 with the UID pod-uid, while this pod is
// there.
func refused(there *corev1.Pod) func(*cluster) {
	return func(c *cluster) {
		payload := `{"exp":1,"kubernetes.io":{"namespace":"ns","pod":{"name":"pool-0","uid":"pod-uid"}}}`
		c.token = "header." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".signature"
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
		"a token of nobody":                           {func(c *cluster) { c.review.Authenticated = false }, codes.Unauthenticated},
		"a token for others":                          {func(c *cluster) { c.review.Audiences = []string{"https://kubernetes.default.svc"} }, codes.Unauthenticated},
		"a token for anybody":                         {func(c *cluster) { c.review.Audiences = nil }, codes.Unauthenticated},
		"a refused token of a pod that is there":      {refused(worker("pod-uid")), codes.Unavailable},
		"a refused token of a pod that is gone":       {refused(nil), codes.PermissionDenied},
		"a refused token of a pod that was replaced":  {refused(worker("uid-2")), codes.PermissionDenied},
		"a refused token of a pod that can't be read": {func(c *cluster) {
			refused(nil)(c)
			c.liveErr = down
		}, codes.Unavailable},
		"a refused token with claims that are none": {func(c *cluster) {
			c.token, c.review.Authenticated = "a.b.c", false
		}, codes.Unauthenticated},
		"a review that failed":  {func(c *cluster) { c.reviewErr = down }, codes.Unavailable},
		"a token without a pod": {func(c *cluster) { c.review.User.Extra = nil }, codes.PermissionDenied},
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
			got, err := cluster.authenticator(t).Authenticate(t.Context(), cluster.token)
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
	stranger := worker("pod-uid")
	stranger.OwnerReferences = nil
	a := c.authenticator(t)
	a.Live = decoder{pod: stranger}
	if got, err := a.Authenticate(t.Context(), "token"); grpcstatus.Code(err) != codes.PermissionDenied {
		t.Errorf("%+v, %v, want PermissionDenied", got, err)
	}
}
