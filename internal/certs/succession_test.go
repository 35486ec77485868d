package certs_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/workerpool-dev/workerpool/internal/certs"
)

// rotate asks for a successor of the CA.
func rotate(t *testing.T, c client.Client) {
	t.Helper()
	secret := &corev1.Secret{}
	if err := c.Get(t.Context(), secretName, secret); err != nil {
		t.Fatal(err)
	}
	secret.Annotations = map[string]string{certs.AnnotationRotate: "now"}
	if err := c.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
}

// trusts tells whether an agent that trusts a CA takes the serving certificates of another, as they are handed out.
func trusts(t *testing.T, trusted, serving *certs.CA, now time.Time) bool {
	t.Helper()
	handed, err := certs.NewServer(serving, func() time.Time { return now }).GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(trusted.PEM)
	for _, der := range handed.Certificate[1:] {
		step, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		between.AddCert(step)
	}
	_, err = handed.Leaf.Verify(x509.VerifyOptions{DNSName: certs.ServerName, Roots: roots, Intermediates: between, CurrentTime: now})
	return err == nil
}

func TestASuccessorIsTrustedByWhoeverTrustsAnEarlierCA(t *testing.T) {
	c := fake.NewClientBuilder().Build()
	all := []*certs.CA{ensure(t, c, today)}
	for i := range 4 {
		rotate(t, c)
		next := ensure(t, c, today.Add(time.Duration(i)*day))
		if bytes.Equal(next.PEM, all[i].PEM) {
			t.Fatal("there is no successor")
		}
		all = append(all, next)
	}
	stored := ensure(t, c, today.Add(5*day)) // once more, as another process reads it
	last := all[len(all)-1]
	if !bytes.Equal(stored.PEM, last.PEM) {
		t.Error("a successor was made that nobody has asked for")
	}
	for i, ca := range all {
		if !trusts(t, ca, stored, today.Add(6*day)) {
			t.Errorf("who trusts CA %d does not trust the last", i)
		}
	}
	if trusts(t, last, all[0], today.Add(6*day)) {
		t.Error("who trusts the last CA trusts the first too")
	}
	if stranger := ensure(t, fake.NewClientBuilder().Build(), today); trusts(t, stranger, stored, today.Add(6*day)) {
		t.Error("a stranger trusts the last CA")
	}
}

func TestACAIsSucceededTwoYearsBeforeItsEnd(t *testing.T) {
	c := fake.NewClientBuilder().Build()
	first := ensure(t, c, today)
	if early := ensure(t, c, today.Add(8*365*day-day)); !bytes.Equal(early.PEM, first.PEM) {
		t.Error("it was succeeded too early")
	}
	late := today.Add(8*365*day + day)
	second := ensure(t, c, late)
	if bytes.Equal(second.PEM, first.PEM) {
		t.Fatal("it was not succeeded")
	}
	if end := today.Add(10*365*day - day); !trusts(t, first, second, end) {
		t.Error("who trusts the first does not trust the second until the first's end")
	}
	if end := today.Add(10*365*day + day); trusts(t, first, second, end) || !trusts(t, second, second, end) {
		t.Error("the second is to be good after the first's end, and the first is not")
	}
}

// Both find that a successor is due, and both make one.
func TestTwoThatMakeASuccessorAtOnceGetTheSame(t *testing.T) {
	var both sync.WaitGroup
	both.Add(2)
	meet := func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
		if _, asked := obj.GetAnnotations()[certs.AnnotationRotate]; !asked {
			both.Done()
			both.Wait()
		}
		return c.Update(ctx, obj, opts...)
	}
	c := fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{Update: meet}).Build()
	first := ensure(t, c, today)
	rotate(t, c)
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
	if !bytes.Equal(got[0].PEM, got[1].PEM) || bytes.Equal(got[0].PEM, first.PEM) {
		t.Error("each has a CA of its own, or none a successor")
	}
	if !trusts(t, first, got[0], today) || !trusts(t, first, got[1], today) {
		t.Error("who trusts the first does not trust the successor")
	}
}
