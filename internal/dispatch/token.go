package dispatch

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/internal/issuer"
	"github.com/workerpool-dev/workerpool/internal/podspec"
)

const (
	// maxTokenBytes bounds what is looked at; a service account's token has about 1,000.
	maxTokenBytes = 16 << 10
	// clockSkew is how far the API server's clock may be from this one.
	clockSkew = 5 * time.Minute
)

// claims are what a token says, unchecked.
type claims struct {
	token *jwt.JSONWebToken

	pod types.NamespacedName
	uid types.UID
	// current: it is for this operator, and has not expired.
	current bool
}

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

var errNoWorkerToken = errors.New("the token is not one that is bound to a pod")

// parse reads what a token says. An error means that no kubelet has made it for a worker.
func parse(token string, now time.Time) (claims, error) {
	parsed, err := issuer.Parse(token)
	if err != nil {
		return claims{}, errNoWorkerToken
	}
	var standard jwt.Claims
	var own struct {
		Kubernetes struct {
			Namespace string `json:"namespace"`
			Pod       struct {
				Name string    `json:"name"`
				UID  types.UID `json:"uid"`
			} `json:"pod"`
		} `json:"kubernetes.io"`
	}
	if err := parsed.UnsafeClaimsWithoutVerification(&standard, &own); err != nil {
		return claims{}, errNoWorkerToken
	}
	c := claims{
		token: parsed,
		pod:   types.NamespacedName{Namespace: own.Kubernetes.Namespace, Name: own.Kubernetes.Pod.Name}, uid: own.Kubernetes.Pod.UID,
		current: slices.Contains(standard.Audience, podspec.Audience) &&
			standard.Expiry != nil && now.Before(standard.Expiry.Time().Add(clockSkew)),
	}
	if !isUID(string(c.uid)) || !isName(c.pod.Name) || !isName(c.pod.Namespace) {
		return claims{}, errNoWorkerToken
	}
	return c, nil
}
