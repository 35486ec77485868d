// Package certs makes the operator's certificates: a CA of its own, kept in a Secret, and serving
// certificates that live in memory only.
package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// ServerName is the name that serving certificates are for, and that agents ask for, whatever
	// address they dial.
	ServerName = "dispatch.workerpool.dev"

	caLifetime      = 10 * 365 * 24 * time.Hour
	servingLifetime = 90 * 24 * time.Hour
	// backdate allows for clocks that are behind.
	backdate = time.Hour
)

// CA is a certificate authority.
type CA struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	// succession leads whoever trusts an earlier CA to this one.
	succession []*x509.Certificate
	// PEM is the certificate, encoded.
	PEM []byte
	// TokenKey is a secret that all operators of the installation share, of tokenKeyBytes. It is no key of the CA, and
	// outlasts it.
	TokenKey []byte
}

// EnsureCA returns the CA in the Secret. It makes one if there is none, and a successor if that is due: see
// succeed. A Secret without a TokenKey gets one. When several ask at once, all get the same one.
func EnsureCA(ctx context.Context, c client.Client, secret types.NamespacedName, now time.Time) (*CA, error) {
	stored := &corev1.Secret{}
	err := c.Get(ctx, secret, stored)
	if apierrors.IsNotFound(err) {
		stored, err = createCA(ctx, c, secret, now)
	}
	if apierrors.IsAlreadyExists(err) {
		stored = &corev1.Secret{}
		err = c.Get(ctx, secret, stored)
	}
	if err != nil {
		return nil, fmt.Errorf("CA in secret %s: %w", secret, err)
	}
	ca, err := parse(stored.Data)
	if err != nil {
		return nil, fmt.Errorf("CA in secret %s (delete the Secret to have a new one made): %w", secret, err)
	}
	switch {
	case due(stored, ca, now):
		ca, err = succeed(ctx, c, stored, ca, now)
	case len(stored.Data[tokenKey]) != tokenKeyBytes:
		err = update(ctx, c, stored, ca)
	}
	if apierrors.IsConflict(err) {
		return EnsureCA(ctx, c, secret, now) // another has made the successor, or the key
	}
	return ca, err
}

func createCA(ctx context.Context, c client.Client, name types.NamespacedName, now time.Time) (*corev1.Secret, error) {
	ca, err := NewCA(now)
	if err != nil {
		return nil, err
	}
	data, err := ca.encode()
	if err != nil {
		return nil, err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name},
		Type:       corev1.SecretTypeTLS,
		Data:       data,
	}
	return secret, c.Create(ctx, secret)
}

// NewCA makes a CA that is stored nowhere.
func NewCA(now time.Time) (*CA, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the CA's key: %w", err)
	}
	template := authority(now, now.Add(caLifetime))
	certificate, err := sign(template, template, private, private)
	if err != nil {
		return nil, err
	}
	return &CA{certificate: certificate, key: private, PEM: toPEM(certificate), TokenKey: newTokenKey()}, nil
}

// newTokenKey is random.
func newTokenKey() []byte {
	key := make([]byte, tokenKeyBytes)
	_, _ = rand.Read(key) // it never fails
	return key
}

// authority is the certificate of a CA, unsigned.
func authority(now, end time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: "workerpool"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
}

func sign(template, parent *x509.Certificate, subject, signer *ecdsa.PrivateKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &subject.PublicKey, signer)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading back a certificate: %w", err)
	}
	return certificate, nil
}

// Server hands out serving certificates and renews them when a third of their life is left.
type Server struct {
	ca  *CA
	now func() time.Time

	mu      sync.Mutex
	current *tls.Certificate
}

// NewServer returns a Server that signs with the CA.
func NewServer(ca *CA, now func() time.Time) *Server { return &Server{ca: ca, now: now} }

// GetCertificate is for tls.Config.
func (s *Server) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || s.now().After(s.current.Leaf.NotAfter.Add(-servingLifetime/3)) {
		fresh, err := s.issue()
		if err != nil {
			return nil, err
		}
		s.current = fresh
	}
	return s.current, nil
}

func (s *Server) issue() (*tls.Certificate, error) {
	now := s.now()
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: ServerName},
		DNSNames:    []string{ServerName},
		NotBefore:   now.Add(-backdate),
		NotAfter:    now.Add(servingLifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a serving key: %w", err)
	}
	leaf, err := sign(template, s.ca.certificate, private, s.ca.key)
	if err != nil {
		return nil, err
	}
	chain := [][]byte{leaf.Raw}
	for _, step := range s.ca.succession {
		chain = append(chain, step.Raw)
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: private, Leaf: leaf}, nil
}
