package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
)

const (
	// AnnotationRotate of the Secret asks for a successor of the CA. It is removed when that is made.
	AnnotationRotate = "workerpool.dev/rotate"

	// successionKey of the Secret has the certificates of CA.succession, in PEM.
	successionKey = "succession.crt"
	// tokenKey of the Secret has CA.TokenKey.
	tokenKey      = "token.key"
	tokenKeyBytes = 32
	// caRenewal is how long before its end a CA is succeeded: longer than any worker lives.
	caRenewal = 2 * 365 * 24 * time.Hour
	// maxSuccession bounds the steps back from a CA to those that workers may trust.
	maxSuccession = 8
)

// due tells whether a CA needs a successor.
func due(secret *corev1.Secret, ca *CA, now time.Time) bool {
	_, asked := secret.Annotations[AnnotationRotate]
	return asked || now.After(ca.certificate.NotAfter.Add(-caRenewal))
}

// succeed replaces the CA in the Secret. The predecessor signs the key of its successor, and the serving certificates
// come with that signature: so a worker that trusts the predecessor trusts what the successor signs, as long as the
// predecessor would have been good, and neither the worker nor its agent needs to be told.
func succeed(ctx context.Context, c client.Client, secret *corev1.Secret, old *CA, now time.Time) (*CA, error) {
	ca, err := NewCA(now)
	if err != nil {
		return nil, err
	}
	ca.TokenKey = old.TokenKey
	step, err := sign(authority(now, old.certificate.NotAfter), old.certificate, ca.key, old.key)
	if err != nil {
		return nil, err
	}
	ca.succession = slices.DeleteFunc(append([]*x509.Certificate{step}, old.succession...), func(c *x509.Certificate) bool {
		return now.After(c.NotAfter)
	})
	ca.succession = ca.succession[:min(len(ca.succession), maxSuccession)]
	secret = secret.DeepCopy()
	delete(secret.Annotations, AnnotationRotate)
	if err := update(ctx, c, secret, ca); err != nil {
		return nil, err
	}
	logf.FromContext(ctx).Info("The CA has a successor", "until", ca.certificate.NotAfter)
	return ca, nil
}

// update writes the CA to its Secret, unless that has changed since it was read.
func update(ctx context.Context, c client.Client, secret *corev1.Secret, ca *CA) error {
	data, err := ca.encode()
	if err != nil {
		return err
	}
	maps.Copy(secret.Data, data)
	if err := c.Update(ctx, secret); err != nil {
		return fmt.Errorf("replacing the CA in secret %s: %w", client.ObjectKeyFromObject(secret), err)
	}
	return nil
}

// encode is the Secret's data.
func (ca *CA) encode() (map[string][]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		return nil, fmt.Errorf("encoding the CA's key: %w", err)
	}
	return map[string][]byte{
		corev1.TLSCertKey:       ca.PEM,
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		successionKey:           toPEM(ca.succession...),
		tokenKey:                ca.TokenKey,
	}, nil
}

func toPEM(certificates ...*x509.Certificate) []byte {
	var encoded []byte
	for _, c := range certificates {
		encoded = append(encoded, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return encoded
}

// parse reads the Secret's data.
func parse(data map[string][]byte) (*CA, error) {
	pair, err := tls.X509KeyPair(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, fmt.Errorf("reading the key pair: %w", err)
	}
	private, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, errors.New("the certificate is not that of a CA with an ECDSA key")
	}
	ca := &CA{certificate: pair.Leaf, key: private, PEM: data[corev1.TLSCertKey], TokenKey: data[tokenKey]}
	if len(ca.TokenKey) != tokenKeyBytes {
		ca.TokenKey = newTokenKey() // it is to be stored
	}
	for rest := data[successionKey]; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return ca, nil
		}
		step, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading the succession: %w", err)
		}
		ca.succession = append(ca.succession, step)
	}
}
