// Package issuer tells the tokens that the API server has signed from those that are made up, without asking it.
package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/sync/singleflight"
)

const (
	// refreshInterval is from one look for new keys to the next, and refreshTimeout bounds one.
	refreshInterval = 5 * time.Second
	refreshTimeout  = 5 * time.Second
)

// signatures are what API servers, and the signers beside them, sign with.
var signatures = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

var errUnsigned = errors.New("the token has not one signature of a known kind")

// Parse reads a token, and checks nothing.
func Parse(token string) (*jwt.JSONWebToken, error) {
	parsed, err := jwt.ParseSigned(token, signatures)
	if err != nil {
		return nil, err
	}
	if len(parsed.Headers) != 1 {
		return nil, errUnsigned
	}
	return parsed, nil
}

// Origin is who has made a token, as far as its signature tells.
type Origin int

const (
	// Unknown: there is no key to check it with.
	Unknown Origin = iota
	// Genuine tokens are the API server's.
	Genuine
	// Forged tokens are not, though they name its key.
	Forged
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

// Origin checks the signature of a token that Parse has read. Without keys the origin of all is unknown.
func (k *Keys) Origin(token *jwt.JSONWebToken, now time.Time) Origin {
	if k == nil {
		return Unknown
	}
	id := token.Headers[0].KeyID
	keys := k.find(id)
	if len(keys) == 0 {
		k.refresh(now)
		keys = k.find(id)
	}
	if id == "" || len(keys) == 0 {
		return Unknown
	}
	for _, key := range keys {
		if token.Claims(key.Key, &struct{}{}) == nil {
			return Genuine
		}
	}
	return Forged
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
		early := now.Sub(k.tried) < refreshInterval
		k.mu.Unlock()
		if early {
			return nil, nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), refreshTimeout)
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
