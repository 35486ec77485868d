package certs_test

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/workerpool-dev/workerpool/internal/certs"
)

const tokenKey = "token.key"

// setKey stores a key in the Secret, or none for nil, as another version or a person may.
func setKey(t *testing.T, c client.Client, key []byte) {
	t.Helper()
	secret := &corev1.Secret{}
	if err := c.Get(t.Context(), secretName, secret); err != nil {
		t.Fatal(err)
	}
	secret.Data["another's"] = []byte("stays")
	if secret.Data[tokenKey] = key; key == nil {
		delete(secret.Data, tokenKey)
	}
	if err := c.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
}

func TestTheTokenKeyIsMadeOnceAndOutlastsTheCA(t *testing.T) {
	c := fake.NewClientBuilder().Build()
	first := ensure(t, c, today)
	if len(first.TokenKey) != 32 || bytes.Equal(first.TokenKey, make([]byte, 32)) {
		t.Fatalf("the key is %x", first.TokenKey)
	}
	if next := ensure(t, c, today); !bytes.Equal(next.TokenKey, first.TokenKey) {
		t.Error("the next leader has another key")
	}
	rotate(t, c)
	next := ensure(t, c, today)
	if bytes.Equal(next.PEM, first.PEM) {
		t.Fatal("the CA has no successor")
	}
	if again := ensure(t, c, today); !bytes.Equal(next.TokenKey, first.TokenKey) || !bytes.Equal(again.TokenKey, first.TokenKey) {
		t.Error("the successor has another key")
	}
	other := ensure(t, fake.NewClientBuilder().Build(), today)
	if bytes.Equal(other.TokenKey, first.TokenKey) {
		t.Error("another installation has the same key")
	}
}

// The version before has made the Secret, or somebody has edited it.
func TestASecretWithoutATokenKeyGetsOne(t *testing.T) {
	for name, key := range map[string][]byte{"none": nil, "empty": {}, "short": []byte("short"), "long": make([]byte, 33)} {
		t.Run(name, func(t *testing.T) {
			c := fake.NewClientBuilder().Build()
			before := ensure(t, c, today)
			setKey(t, c, key)
			got := ensure(t, c, today)
			if len(got.TokenKey) != 32 || bytes.Equal(got.TokenKey, before.TokenKey) || !bytes.Equal(got.PEM, before.PEM) {
				t.Fatalf("the key is %x, the CA is the same: %t", got.TokenKey, bytes.Equal(got.PEM, before.PEM))
			}
			if again := ensure(t, c, today); !bytes.Equal(again.TokenKey, got.TokenKey) {
				t.Error("it was not stored")
			}
			secret := &corev1.Secret{}
			if err := c.Get(t.Context(), secretName, secret); err != nil || string(secret.Data["another's"]) != "stays" {
				t.Errorf("what else is in the Secret: %q, %v", secret.Data["another's"], err)
			}
		})
	}
}

func TestTwoThatAddTheTokenKeyAtOnceGetTheSame(t *testing.T) {
	var both sync.WaitGroup
	both.Add(2)
	first := make(chan bool, 2) // one for the first try of each
	first <- true
	first <- true
	meet := func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
		select {
		case <-first:
			both.Done()
			both.Wait()
		default:
		}
		return c.Update(ctx, obj, opts...)
	}
	plain := fake.NewClientBuilder().Build()
	ensure(t, plain, today)
	setKey(t, plain, nil)
	c := interceptor.NewClient(plain, interceptor.Funcs{Update: meet})
	var got [2]*certs.CA
	var group errgroup.Group
	for i := range got {
		group.Go(func() (err error) {
			got[i], err = certs.EnsureCA(t.Context(), c, secretName, today)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[0].TokenKey, got[1].TokenKey) {
		t.Error("each has a key of its own")
	}
}
