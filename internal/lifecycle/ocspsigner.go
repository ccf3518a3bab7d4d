package lifecycle

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/store"
)

const (
	// Relying parties trust a responder's certificate to its end without asking for
	// its revocation, so it is short.
	ocspCertLife  = 30 * 24 * time.Hour
	ocspCertRenew = ocspCertLife / 3 // renewed when less than this remains
)

// OCSPSigner holds the key and certificate by which an issuer's OCSP responses are
// signed. Its key is its own, so that the CA's is not used for everybody who asks;
// it renews itself with a new one.
type OCSPSigner struct {
	store   *store.Store
	issuer  *issuer.Local
	current atomic.Pointer[OCSPKey]
}

// OCSPKey is a key with its certificate.
type OCSPKey struct {
	Key         crypto.Signer
	Certificate *x509.Certificate
	Serial      string // of the certificate
}

// NewOCSPSigner takes up the stored certificate of the issuer's responder, or makes
// one.
func NewOCSPSigner(ctx context.Context, s *store.Store, signer *issuer.Local) (*OCSPSigner, error) {
	o := &OCSPSigner{store: s, issuer: signer}
	stored, err := s.Secret(ctx, o.secretName())
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if err == nil {
		if key, err := o.parse(stored); err == nil {
			o.current.Store(key)
		}
	}
	return o, o.renew(ctx)
}

func (o *OCSPSigner) secretName() string { return "ocsp-responder:" + o.issuer.ID() }

// Current returns the key that signs now.
func (o *OCSPSigner) Current() *OCSPKey { return o.current.Load() }

// Run renews the certificate until the context ends.
func (o *OCSPSigner) Run(ctx context.Context, failed func(error)) error {
	return renewing(ctx, o.renew, failed)
}

// renew makes a new key and certificate when there is none, or it is near its end
// or revoked.
func (o *OCSPSigner) renew(ctx context.Context) error {
	now := o.store.Now()
	if key := o.current.Load(); key != nil {
		status, err := o.store.RevocationStatus(ctx, key.Serial)
		if err != nil {
			return err
		}
		has := key.Certificate.NotAfter // which the end of the CA may bound
		if status.RevokedAt.IsZero() && (has.Sub(now) > ocspCertRenew || has.After(now) && !has.Before(o.issuer.NotAfter())) {
			return nil
		}
	}
	d, err := newDraft(o.issuer, now, ocspCertLife)
	if err != nil {
		return err
	}
	cert, err := o.issuer.IssueOCSPResponder(ctx, pki.OCSPResponder{
		Serial: d.serial, NotBefore: d.notBefore, NotAfter: d.notAfter, CommonName: "OCSP responder", PublicKey: d.key.Public()})
	if err != nil {
		return fmt.Errorf("OCSP responder: %w", err)
	}
	if err := d.keep(ctx, o.store, o.secretName(), []string{"ocsp-responder"}, cert.Raw); err != nil {
		return err
	}
	o.current.Store(&OCSPKey{Key: d.key, Certificate: cert, Serial: d.serial})
	return nil
}

// parse reads what renew stored. It must be of this issuer.
func (o *OCSPSigner) parse(secret []byte) (*OCSPKey, error) {
	private, der, err := splitKeyAndCert(secret)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if err := cert.CheckSignatureFrom(o.issuer.Chain()[0]); err != nil {
		return nil, err
	}
	serial, err := pki.FormatSerial(cert.SerialNumber)
	return &OCSPKey{Key: private, Certificate: cert, Serial: serial}, err
}
