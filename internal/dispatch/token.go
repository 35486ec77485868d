package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/internal/podspec"
)

const (
	// maxTokenBytes bounds what is looked at; a service account's token has about 1,000.
	maxTokenBytes = 16 << 10
	// clockSkew is how far the API server's clock may be from this one.
	clockSkew = 5 * time.Minute
	// keysInterval is from one look for new keys to the next, and keysTimeout bounds one.
	keysInterval = 5 * time.Second
	keysTimeout  = 5 * time.Second
)

// signatures are what API servers, and the signers beside them, sign with.
var signatures = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

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
	parsed, err := jwt.ParseSigned(token, signatures)
	if err != nil || len(parsed.Headers) != 1 {
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

// origin is who has made a token, as far as its signature tells.
type origin int

const (
	// unknown: there is no key to check it with.
	unknown origin = iota
	// genuine tokens are the API server's.
	genuine
	// forged tokens are not, though they name its key.
	forged
)

// Keys check the signatures of tokens, so that one that is made up costs the API server nothing, and keeps out nobody
// else. They decide nothing: a token that is genuine may have been revoked, and is reviewed.
type Keys struct {
	// Fetch returns the API server's keys, as a JSON Web Key Set.
	Fetch func(ctx context.Context) ([]byte, error)

	fetching singleflight.Group
	// mu guards what follows.
	mu    sync.Mutex
	set   jose.JSONWebKeySet
	tried time.Time
}

// origin checks the signature of a token.
func (k *Keys) origin(token *jwt.JSONWebToken, now time.Time) origin {
	if k == nil {
		return unknown
	}
	id := token.Headers[0].KeyID
	keys := k.find(id)
	if len(keys) == 0 {
		k.refresh(now)
		keys = k.find(id)
	}
	if id == "" || len(keys) == 0 {
		return unknown
	}
	for _, key := range keys {
		if token.Claims(key.Key, &struct{}{}) == nil {
			return genuine
		}
	}
	return forged
}

func (k *Keys) find(id string) []jose.JSONWebKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.set.Key(id)
}

// refresh reads the keys, unless that was tried a moment ago. The old ones stay if that fails.
func (k *Keys) refresh(now time.Time) {
	_, _, _ = k.fetching.Do("", func() (any, error) {
		k.mu.Lock()
		early := now.Sub(k.tried) < keysInterval
		k.mu.Unlock()
		if early {
			return nil, nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), keysTimeout)
		defer cancel()
		body, err := k.Fetch(ctx)
		var set jose.JSONWebKeySet
		if err == nil {
			err = json.Unmarshal(body, &set)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.tried = now
		if err == nil {
			k.set = set
		}
		return nil, err
	})
}
