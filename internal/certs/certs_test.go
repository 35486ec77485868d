package certs_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/workerpool-dev/workerpool/internal/certs"
)

var (
	secretName = types.NamespacedName{Namespace: "ns", Name: "ca"}
	today      = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

const day = 24 * time.Hour

func ensure(t *testing.T, c client.Client, now time.Time) *certs.CA {
	t.Helper()
	ca, err := certs.EnsureCA(t.Context(), c, secretName, now)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestTheCAIsMadeOnceAndKept(t *testing.T) {
	c := fake.NewClientBuilder().Build()
	first := ensure(t, c, today)
	second := ensure(t, c, today.Add(400*day))
	if !bytes.Equal(first.PEM, second.PEM) {
		t.Error("another CA was returned later")
	}
	secret := &corev1.Secret{}
	if err := c.Get(t.Context(), secretName, secret); err != nil {
		t.Fatal(err)
	}
	if secret.Type != corev1.SecretTypeTLS || !bytes.Equal(secret.Data[corev1.TLSCertKey], first.PEM) {
		t.Errorf("the Secret of type %s does not hold the CA", secret.Type)
	}
	// What the second has read signs what the first is trusted for.
	if err := verify(leaf(t, second, today), first, certs.ServerName, today); err != nil {
		t.Error(err)
	}
}

// Both find no Secret, and both make one.
func TestTwoThatMakeTheCAAtOnceGetTheSame(t *testing.T) {
	var both sync.WaitGroup
	both.Add(2)
	meet := func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
		both.Done()
		both.Wait()
		return c.Create(ctx, obj, opts...)
	}
	c := fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{Create: meet}).Build()
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
	if !bytes.Equal(got[0].PEM, got[1].PEM) {
		t.Error("each has a CA of its own")
	}
}

func TestASecretThatHoldsNoCAIsAnErrorThatSaysWhatToDo(t *testing.T) {
	c := fake.NewClientBuilder().Build()
	ensure(t, c, today)
	good := &corev1.Secret{}
	if err := c.Get(t.Context(), secretName, good); err != nil {
		t.Fatal(err)
	}
	other := fake.NewClientBuilder().Build()
	ensure(t, other, today)
	anothers := &corev1.Secret{}
	if err := other.Get(t.Context(), secretName, anothers); err != nil {
		t.Fatal(err)
	}
	certificate, key := good.Data[corev1.TLSCertKey], good.Data[corev1.TLSPrivateKeyKey]
	cases := map[string]struct{ certificate, key []byte }{
		"nothing":        {nil, nil},
		"garbage":        {[]byte("garbage"), []byte("garbage")},
		"no key":         {certificate, nil},
		"another's key":  {certificate, anothers.Data[corev1.TLSPrivateKeyKey]},
		"half a key":     {certificate, key[:len(key)/2]},
		"no certificate": {key, key},
	}
	for name, data := range cases {
		t.Run(name, func(t *testing.T) {
			secret := &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "ca"},
				Data:       map[string][]byte{corev1.TLSCertKey: data.certificate, corev1.TLSPrivateKeyKey: data.key},
			}
			_, err := certs.EnsureCA(t.Context(), fake.NewClientBuilder().WithObjects(secret).Build(), secretName, today)
			if err == nil || !strings.HasPrefix(err.Error(), "CA in secret ns/ca (delete the Secret to have a new one made): ") {
				t.Errorf("the error is %v", err)
			}
			if err != nil && len(key) > 0 && strings.Contains(err.Error(), string(key[30:60])) {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
}

func TestAnAPIThatFailsIsAnErrorThatNamesTheSecret(t *testing.T) {
	down := interceptor.Funcs{Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
		return context.DeadlineExceeded
	}}
	_, err := certs.EnsureCA(t.Context(), fake.NewClientBuilder().WithInterceptorFuncs(down).Build(), secretName, today)
	if err == nil || err.Error() != "CA in secret ns/ca: context deadline exceeded" {
		t.Errorf("the error is %v", err)
	}
}

// leaf is the serving certificate that a new server of the CA hands out.
func leaf(t *testing.T, ca *certs.CA, now time.Time) *x509.Certificate {
	t.Helper()
	return handedOut(t, certs.NewServer(ca, func() time.Time { return now }))
}

func handedOut(t *testing.T, s *certs.Server) *x509.Certificate {
	t.Helper()
	certificate, err := s.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	return certificate.Leaf
}

func verify(certificate *x509.Certificate, ca *certs.CA, name string, now time.Time) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM)
	_, err := certificate.Verify(x509.VerifyOptions{
		DNSName: name, Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

func TestAServingCertificateIsGoodForItsNameAndItsTime(t *testing.T) {
	ca := ensure(t, fake.NewClientBuilder().Build(), today)
	other := ensure(t, fake.NewClientBuilder().Build(), today)
	certificate := leaf(t, ca, today)
	cases := map[string]struct {
		ca   *certs.CA
		name string
		now  time.Time
		good bool
	}{
		"now":                          {ca, certs.ServerName, today, true},
		"a clock half an hour behind":  {ca, certs.ServerName, today.Add(-30 * time.Minute), true},
		"just before the end":          {ca, certs.ServerName, today.Add(90*day - time.Second), true},
		"after the end":                {ca, certs.ServerName, today.Add(90*day + time.Second), false},
		"another name":                 {ca, "kubernetes.default.svc", today, false},
		"a CA that has not signed it":  {other, certs.ServerName, today, false},
		"a clock that is a day behind": {ca, certs.ServerName, today.Add(-day), false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if err := verify(certificate, c.ca, c.name, c.now); (err == nil) != c.good {
				t.Errorf("verified with %v, want good: %v", err, c.good)
			}
		})
	}
}

func TestAServingCertificateIsRenewedWhenAThirdOfItsLifeIsLeft(t *testing.T) {
	ca := ensure(t, fake.NewClientBuilder().Build(), today)
	now := today
	server := certs.NewServer(ca, func() time.Time { return now })
	first := handedOut(t, server)
	now = today.Add(60*day - time.Second)
	if handedOut(t, server) != first {
		t.Error("renewed before a third of its life is left")
	}
	now = today.Add(60*day + time.Second)
	second := handedOut(t, server)
	if second.SerialNumber.Cmp(first.SerialNumber) == 0 {
		t.Fatal("not renewed when a third of its life is left")
	}
	if err := verify(second, ca, certs.ServerName, today.Add(150*day)); err != nil {
		t.Error(err)
	}
}
