package lifecycle

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/store"
)

const (
	serverCertLife   = 90 * 24 * time.Hour
	serverCertRenew  = serverCertLife / 3 // renewed when less than this remains
	serverCertCheck  = time.Minute
	serverCertSecret = "server-tls"
)

// ServerCert is the server's own TLS certificate, issued by its own CA outside of
// any profile and limit. It renews itself; connections under way keep the
// certificate that they began with.
type ServerCert struct {
	store   *store.Store
	issuer  *issuer.Local
	names   []string     // DNS names, sorted
	ips     []netip.Addr // sorted
	current atomic.Pointer[tls.Certificate]
}

// NewServerCert takes up the stored certificate, or makes one when there is none
// that serves the names and addresses given.
func NewServerCert(ctx context.Context, s *store.Store, signer *issuer.Local, names []string, ips []netip.Addr) (*ServerCert, error) {
	names, ips = slices.Clone(names), slices.Clone(ips)
	slices.Sort(names)
	slices.SortFunc(ips, netip.Addr.Compare)
	c := &ServerCert{store: s, issuer: signer, names: slices.Compact(names), ips: slices.Compact(ips)}
	if err := signer.CheckNames(c.names, c.ips); err != nil {
		return nil, fmt.Errorf("the CA's name constraints do not permit the server's own names: %w", err)
	}
	stored, err := s.Secret(ctx, serverCertSecret)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if err == nil {
		if cert, err := c.parse(stored); err == nil && c.serves(cert) {
			c.current.Store(cert)
		}
	}
	return c, c.renew(ctx)
}

// Get returns the certificate for a new connection.
func (c *ServerCert) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

// Run renews the certificate until the context ends.
func (c *ServerCert) Run(ctx context.Context, failed func(error)) error {
	ticker := time.NewTicker(serverCertCheck)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := c.renew(ctx); err != nil && ctx.Err() == nil {
				failed(err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// renew makes a new certificate when the current one is missing or near its end.
func (c *ServerCert) renew(ctx context.Context) error {
	now := c.store.Now()
	if cert := c.current.Load(); cert != nil {
		// One that ends with the CA cannot be followed by one that ends later.
		remains := cert.Leaf.NotAfter.Sub(now)
		if remains > serverCertRenew || remains > 0 && !cert.Leaf.NotAfter.Before(c.issuer.NotAfter()) {
			return nil
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := pki.NewSerial(rand.Reader)
	if err != nil {
		return err
	}
	notBefore := now.Add(-time.Minute).Truncate(time.Second)
	notAfter := notBefore.Add(serverCertLife - time.Second)
	if end := c.issuer.NotAfter(); notAfter.After(end) {
		notAfter = end
	}
	leaf := pki.Leaf{
		Serial: serial, NotBefore: notBefore, NotAfter: notAfter, DNSNames: c.names, IPs: c.ips,
		PublicKey: key.Public(), ExtKeyUsages: []pki.ExtKeyUsage{pki.ServerAuth},
	}
	leaf.Point(c.issuer.Pointers(serial))
	der, err := c.issuer.Issue(ctx, leaf)
	if err != nil {
		return fmt.Errorf("server certificate: %w", err)
	}
	names := slices.Clone(c.names)
	for _, ip := range c.ips {
		names = append(names, ip.String())
	}
	record := &store.Certificate{Serial: serial, IssuerID: c.issuer.ID(), Names: names, DER: der, NotBefore: notBefore, NotAfter: notAfter}
	keyDER, err := pki.MarshalKey(key)
	if err != nil {
		return err
	}
	if err := c.store.StoreServerCertificate(ctx, record, serverCertSecret, joinKeyAndCert(keyDER, der)); err != nil {
		return err
	}
	cert, err := c.certificate(key, der)
	if err != nil {
		return err
	}
	c.current.Store(cert)
	return nil
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

func (c *ServerCert) parse(secret []byte) (*tls.Certificate, error) {
	key, der, err := splitKeyAndCert(secret)
	if err != nil {
		return nil, err
	}
	return c.certificate(key, der)
}

func (c *ServerCert) certificate(key crypto.Signer, der []byte) (*tls.Certificate, error) {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	for _, ca := range c.issuer.Chain() {
		cert.Certificate = append(cert.Certificate, ca.Raw)
	}
	return cert, nil
}

// serves reports whether a certificate is of this issuer and has exactly the
// names and addresses that are wanted.
func (c *ServerCert) serves(cert *tls.Certificate) bool {
	if cert.Leaf.CheckSignatureFrom(c.issuer.Chain()[0]) != nil {
		return false
	}
	names := slices.Clone(cert.Leaf.DNSNames)
	slices.Sort(names)
	var ips []netip.Addr
	for _, ip := range cert.Leaf.IPAddresses {
		if addr, ok := netip.AddrFromSlice(ip); ok {
			ips = append(ips, addr.Unmap())
		}
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	return slices.Equal(names, c.names) && slices.Equal(ips, c.ips)
}
