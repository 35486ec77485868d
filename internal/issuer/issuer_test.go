package issuer_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/workerpool-dev/workerpool/internal/issuer"
)

// newKey makes a key of this name, and a token that it has signed.
func newKey(t *testing.T, id string) (jose.JSONWebKey, *jwt.JSONWebToken) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := jose.JSONWebKey{Key: private, KeyID: id}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(jwt.Claims{Subject: "somebody"}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	token, err := issuer.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return key.Public(), token
}

// published is what the API server says of its keys.
func published(t *testing.T, keys ...jose.JSONWebKey) []byte {
	t.Helper()
	body, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestASignatureTellsWhoHasMadeAToken(t *testing.T) {
	key, signed := newKey(t, "key")
	_, madeUp := newKey(t, "key")
	_, others := newKey(t, "another")
	_, nameless := newKey(t, "")
	keys := &issuer.Keys{Fetch: func(context.Context) ([]byte, error) { return published(t, key), nil }}
	for token, want := range map[*jwt.JSONWebToken]issuer.Origin{
		signed: issuer.Genuine, madeUp: issuer.Forged, others: issuer.Unknown, nameless: issuer.Unknown,
	} {
		if got := keys.Origin(token, time.Now()); got != want {
			t.Errorf("the origin of a token of the key %q is %v, want %v", token.Headers[0].KeyID, got, want)
		}
	}
}

func TestANewKeyIsFound(t *testing.T) {
	key, token := newKey(t, "key")
	body, fetched := published(t), 0
	keys := &issuer.Keys{Fetch: func(context.Context) ([]byte, error) { fetched++; return body, nil }}
	now := time.Now()
	for range 100 {
		if got := keys.Origin(token, now); got != issuer.Unknown {
			t.Fatalf("without a key the token is %v", got)
		}
	}
	if fetched != 1 {
		t.Errorf("the keys were read %d times in a moment", fetched)
	}
	body = published(t, key)
	if got := keys.Origin(token, now.Add(time.Minute)); got != issuer.Genuine {
		t.Errorf("with its key the token is %v", got)
	}
}
