package dispatch

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/podspec"
)

// What the API server says of a token that is bound to a pod.
const (
	extraPodName = "authentication.kubernetes.io/pod-name"
	extraPodUID  = "authentication.kubernetes.io/pod-uid"
)

// maxTokenBytes bounds what is looked at; that of a service account has about 1,000.
const maxTokenBytes = 16 << 10

// Identity is who an agent is.
type Identity struct {
	Pool    types.NamespacedName
	PoolUID types.UID
	PodName string
	PodUID  types.UID
	// Proves: the pod's agent keeps the proofs of its attempts.
	Proves bool
}

// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create

// TokenAuthenticator authenticates agents by the token that the kubelet puts into their pods.
type TokenAuthenticator struct {
	// Client creates TokenReviews.
	Client client.Client
	// Pods reads pods, from the cache.
	Pods client.Reader
	// Live reads pods that the cache does not show yet.
	Live client.Reader
}

var _ Authenticator = (*TokenAuthenticator)(nil)

func bearer(ctx context.Context) (string, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 {
		return "", grpcstatus.Error(codes.Unauthenticated, "one authorization is needed")
	}
	token, ok := strings.CutPrefix(values[0], "Bearer ")
	if !ok || token == "" || len(token) > maxTokenBytes {
		return "", grpcstatus.Error(codes.Unauthenticated, "a bearer token is needed")
	}
	return token, nil
}

// Authenticate is Authenticator's.
func (a *TokenAuthenticator) Authenticate(ctx context.Context, token string) (Identity, error) {
	review := &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{podspec.Audience}},
	}
	if err := a.Client.Create(ctx, review); err != nil {
		return Identity{}, grpcstatus.Errorf(codes.Unavailable, "the token can't be reviewed now: %v", err)
	}
	if !review.Status.Authenticated || !slices.Contains(review.Status.Audiences, podspec.Audience) {
		return Identity{}, a.refuse(ctx, token)
	}
	user := review.Status.User
	name, uid := one(user.Extra[extraPodName]), one(user.Extra[extraPodUID])
	namespace, ok := serviceAccountNamespace(user.Username)
	if !ok || name == "" || uid == "" {
		return Identity{}, grpcstatus.Error(codes.PermissionDenied, "the token is not bound to a pod")
	}
	pod, err := a.pod(ctx, types.NamespacedName{Namespace: namespace, Name: name}, types.UID(uid))
	if err != nil {
		return Identity{}, err
	}
	// A pod whose label was taken off is let in: what it runs may end. The controller has it take nothing new.
	owner := metav1.GetControllerOf(pod)
	if owner == nil || owner.Kind != "WorkerPool" || !ours(owner.APIVersion) || !named(pod, owner) {
		return Identity{}, grpcstatus.Error(codes.PermissionDenied, "the pod is not a worker")
	}
	return Identity{
		Pool: types.NamespacedName{Namespace: namespace, Name: owner.Name}, PoolUID: owner.UID, PodName: name, PodUID: pod.UID,
		Proves: podspec.KeepsProofs(pod),
	}, nil
}

// refuse says why a token that the API server does not take gives no session. It may have expired while the kubelet
// could not renew it, or the API server can't look at what it is bound to: then another will do soon, and what the
// agent runs must go on. So its agent is nobody only if the pod that it names is not there. What the token says is not
// checked, but all that it can bring about is this answer.
func (a *TokenAuthenticator) refuse(ctx context.Context, token string) error {
	name, uid := claimed(token)
	if name.Name == "" || uid == "" {
		return grpcstatus.Error(codes.Unauthenticated, "the token is not valid for "+podspec.Audience)
	}
	if _, err := a.pod(ctx, name, uid); err != nil {
		return err
	}
	return grpcstatus.Error(codes.Unavailable, "the token is not valid now: it may have expired, and the kubelet is to renew it")
}

// claimed is the pod that a token of a service account says it is bound to, unchecked; empty if it says nothing of the
// kind.
func claimed(token string) (types.NamespacedName, types.UID) {
	var claims struct {
		Kubernetes struct {
			Namespace string `json:"namespace"`
			Pod       struct {
				Name string    `json:"name"`
				UID  types.UID `json:"uid"`
			} `json:"pod"`
		} `json:"kubernetes.io"`
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return types.NamespacedName{}, ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return types.NamespacedName{}, ""
	}
	c := claims.Kubernetes
	return types.NamespacedName{Namespace: c.Namespace, Name: c.Pod.Name}, c.Pod.UID
}

// pod finds the pod. Only a live read can tell that it is not there.
func (a *TokenAuthenticator) pod(ctx context.Context, name types.NamespacedName, uid types.UID) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	if err := a.Pods.Get(ctx, name, pod); err == nil && pod.UID == uid {
		return pod, nil
	}
	pod = &corev1.Pod{} // decoding over the one from the cache would leave what the live one lacks
	err := a.Live.Get(ctx, name, pod)
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
