package dispatch

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/fair"
	"github.com/workerpool-dev/workerpool/internal/issuer"
	"github.com/workerpool-dev/workerpool/internal/podspec"
	"github.com/workerpool-dev/workerpool/internal/serving"
)

// What the API server says of a token that is bound to a pod.
const (
	extraPodName = "authentication.kubernetes.io/pod-name"
	extraPodUID  = "authentication.kubernetes.io/pod-uid"
)

// Bounds on what the API server is asked on behalf of agents: at once, and a second. A takeover with 2,000 agents
// stays within the burst.
const (
	requestsAtOnce = 32
	requestRate    = 500
	requestBurst   = 2000
)

var (
	// podBound is for the tries of one pod. An agent's are at least 80 ms apart.
	podBound = fair.Bound{PerSecond: 12, Burst: 20, AtOnce: 1}
	// addressBound is for those from one address, of tokens that can't be told from made-up ones.
	addressBound = fair.Bound{PerSecond: 20, Burst: 200, AtOnce: requestsAtOnce}
)

// Identity is who an agent is.
type Identity struct {
	Pool    types.NamespacedName
	PoolUID types.UID
	PodName string
	PodUID  types.UID
	// Proves: the pod's agent keeps the proofs of its attempts.
	Proves bool
	// Restarts and Container are as in Sight, as the pod showed them when it was found: perhaps old.
	Restarts  int32
	Container string
}

// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:urls=/openid/v1/jwks,verbs=get

// TokenAuthenticator authenticates agents by the token that the kubelet puts into their pods.
type TokenAuthenticator struct {
	// client creates TokenReviews, pods reads pods from the cache, and live those that the cache does not show yet.
	client client.Client
	pods   client.Reader
	live   client.Reader
	keys   *issuer.Keys
	clock  func() time.Time

	// requests are those to the API server.
	requests *fair.Turns
	tries    *fair.Tries
}

var _ Authenticator = (*TokenAuthenticator)(nil)

// NewTokenAuthenticator returns an authenticator that creates TokenReviews with one client and reads pods with the
// others: from the cache, and past it. Without keys no token can be told from a made-up one before its review.
func NewTokenAuthenticator(reviews client.Client, pods, live client.Reader, keys *issuer.Keys, clock func() time.Time) *TokenAuthenticator {
	return &TokenAuthenticator{
		client: reviews, pods: pods, live: live, keys: keys, clock: clock,
		requests: fair.NewTurns(requestsAtOnce, requestRate, requestBurst), tries: fair.NewTries(clock),
	}
}

// Authenticate is Authenticator's. What a token says decides, before the API server is asked, only whether and in whose
// turn it is asked: a token that is made up must not make the pod wait that it names.
func (a *TokenAuthenticator) Authenticate(ctx context.Context, token string) (Identity, error) {
	now := a.clock()
	c, err := parse(token, now)
	if err != nil {
		return Identity{}, grpcstatus.Error(codes.Unauthenticated, err.Error())
	}
	var party string
	switch a.keys.Origin(c.token, now) {
	case issuer.Forged:
		return Identity{}, grpcstatus.Error(codes.Unavailable, "the token's signature is not the API server's")
	case issuer.Genuine:
		party = c.pod.Namespace
		end, ok := a.tries.Begin("pod "+string(c.uid), podBound)
		if !ok {
			return Identity{}, errOften
		}
		defer end()
	case issuer.Unknown:
		party = "address " + addressOf(ctx)
		end, ok := a.tries.Begin(party, addressBound)
		if !ok {
			return Identity{}, errOften
		}
		defer end()
	}
	return a.identify(ctx, party, token, c)
}

// identify finds the pod that a token names, and has the API server confirm it.
func (a *TokenAuthenticator) identify(ctx context.Context, party, token string, c claims) (Identity, error) {
	pod, err := a.pod(ctx, party, c.pod, c.uid)
	if err != nil {
		return Identity{}, err
	}
	// A pod whose label was taken off is let in: what it runs may end. The controller has it take nothing new.
	owner := metav1.GetControllerOf(pod)
	if owner == nil || owner.Kind != "WorkerPool" || !ours(owner.APIVersion) || !named(pod, owner) {
		return Identity{}, grpcstatus.Error(codes.PermissionDenied, "the pod is not a worker")
	}
	if !c.current {
		return Identity{}, errNotNow
	}
	review := &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{podspec.Audience}},
	}
	if err := a.requests.Do(ctx, party, func() error { return a.client.Create(ctx, review) }); err != nil {
		return Identity{}, grpcstatus.Errorf(codes.Unavailable, "the token can't be reviewed now: %v", err)
	}
	if !review.Status.Authenticated || !slices.Contains(review.Status.Audiences, podspec.Audience) {
		return Identity{}, errNotNow
	}
	user := review.Status.User
	namespace, ok := serviceAccountNamespace(user.Username)
	if !ok || namespace != pod.Namespace || one(user.Extra[extraPodName]) != pod.Name || one(user.Extra[extraPodUID]) != string(pod.UID) {
		return Identity{}, grpcstatus.Error(codes.PermissionDenied, "the token is not bound to the pod that it names")
	}
	sight := sightOf(pod)
	return Identity{
		Pool: types.NamespacedName{Namespace: namespace, Name: owner.Name}, PoolUID: owner.UID, PodName: pod.Name, PodUID: pod.UID,
		Proves: podspec.KeepsProofs(pod), Restarts: sight.Restarts, Container: sight.Container,
	}, nil
}

// errNotNow says that a token that the API server does not take gives no session. It may have expired while the kubelet
// could not renew it, or the API server can't look at what it is bound to: then another will do soon, and what the
// agent runs must go on. So its agent is nobody only if the pod that it names is not there. What the token says is not
// checked, but all that it can bring about is this answer.
var errNotNow = grpcstatus.Error(codes.Unavailable, "the token is not valid now: it may have expired, and the kubelet is to renew it")

// Look is Authenticator's.
func (a *TokenAuthenticator) Look(ctx context.Context, identity Identity) (Sight, error) {
	name := types.NamespacedName{Namespace: identity.Pool.Namespace, Name: identity.PodName}
	pod, err := a.readLive(ctx, name.Namespace, name, identity.PodUID)
	if err != nil {
		return Sight{}, err
	}
	return sightOf(pod), nil
}

func sightOf(pod *corev1.Pod) Sight {
	var s Sight
	if status := podspec.AgentStatus(pod); status != nil {
		s.Restarts, s.Container, s.Runs = status.RestartCount, status.ContainerID, status.State.Running != nil
	}
	for _, ip := range pod.Status.PodIPs {
		s.Addresses = append(s.Addresses, serving.Canonical(ip.IP))
	}
	for _, ip := range pod.Status.HostIPs {
		s.Addresses = append(s.Addresses, serving.Canonical(ip.IP))
	}
	return s
}

// addressOf is where a stream comes from, without the port.
func addressOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return serving.Host(p.Addr.String())
	}
	return ""
}

// pod finds the pod. Only a live read can tell that it is not there.
func (a *TokenAuthenticator) pod(ctx context.Context, party string, name types.NamespacedName, uid types.UID) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	if err := a.pods.Get(ctx, name, pod); err == nil && pod.UID == uid {
		return pod, nil
	}
	return a.readLive(ctx, party, name, uid)
}

func (a *TokenAuthenticator) readLive(ctx context.Context, party string, name types.NamespacedName, uid types.UID) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	err := a.requests.Do(ctx, party, func() error { return a.live.Get(ctx, name, pod) })
	switch {
	case err == nil && pod.UID == uid:
		return pod, nil
	case err == nil || apierrors.IsNotFound(err):
		return nil, grpcstatus.Error(codes.PermissionDenied, "the pod does not exist any more")
	}
	return nil, grpcstatus.Errorf(codes.Unavailable, "the pod can't be read now: %v", err)
}

// named tells whether a pod has the name of a worker of its owner. The controller makes no others.
func named(pod *corev1.Pod, owner *metav1.OwnerReference) bool {
	_, ok := podspec.Ordinal(owner.Name, pod.Name)
	return ok
}

var errOften = grpcstatus.Error(codes.Unavailable, "this agent comes too often")

func ours(apiVersion string) bool {
	gv, err := schema.ParseGroupVersion(apiVersion)
	return err == nil && gv.Group == v1alpha1.GroupVersion.Group
}

func one(values []string) string {
	if len(values) != 1 {
		return ""
	}
	return values[0]
}

func serviceAccountNamespace(user string) (string, bool) {
	parts := strings.Split(user, ":")
	if len(parts) != 4 || parts[0] != "system" || parts[1] != "serviceaccount" {
		return "", false
	}
	return parts[2], true
}
