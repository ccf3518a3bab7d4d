package lifecycle

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"time"

	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/store"
)

// ownCertCheck is how often the server looks at its own certificates.
const ownCertCheck = time.Minute

// renewing calls renew now and then until the context ends.
func renewing(ctx context.Context, renew func(context.Context) error, failed func(error)) error {
	ticker := time.NewTicker(ownCertCheck)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := renew(ctx); err != nil && ctx.Err() == nil {
				failed(err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// draft is what the certificates that the server makes for itself begin with.
type draft struct {
	issuerID            string
	key                 *ecdsa.PrivateKey
	serial              string
	notBefore, notAfter time.Time
}

// newDraft makes a fresh key and the dates of a certificate, which ends with the
// CA at the latest.
func newDraft(signer *issuer.Local, now time.Time, life time.Duration) (*draft, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := pki.NewSerial(rand.Reader)
	if err != nil {
		return nil, err
	}
	d := &draft{issuerID: signer.ID(), key: key, serial: serial, notBefore: now.Add(-time.Minute).Truncate(time.Second)}
	d.notAfter = d.notBefore.Add(life - time.Second)
	if end := signer.NotAfter(); d.notAfter.After(end) {
		d.notAfter = end
	}
	return d, nil
}

// keep records the certificate that the draft became, and stores it with its key
// as the secret of that name.
func (d *draft) keep(ctx context.Context, s *store.Store, secret string, names []string, der []byte) error {
	key, err := pki.MarshalKey(d.key)
	if err != nil {
		return err
	}
	record := &store.Certificate{Serial: d.serial, IssuerID: d.issuerID, Names: names, DER: der, NotBefore: d.notBefore, NotAfter: d.notAfter}
	return s.StoreServerCertificate(ctx, record, secret, joinKeyAndCert(key, der))
}

// The secret is the length of the key in two bytes, the key (PKCS #8) and the
// certificate.
func joinKeyAndCert(key, cert []byte) []byte {
	secret := []byte{byte(len(key) >> 8), byte(len(key))}
	return append(append(secret, key...), cert...)
}

func splitKeyAndCert(secret []byte) (key crypto.Signer, cert []byte, err error) {
	if len(secret) < 2 || len(secret) < 2+int(secret[0])<<8+int(secret[1]) {
		return nil, nil, errors.New("stored certificate is cut short")
	}
	end := 2 + int(secret[0])<<8 + int(secret[1])
	key, err = pki.ParseKey(secret[2:end])
	return key, secret[end:], err
}
