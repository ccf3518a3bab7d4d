package lifecycle

import (
	"context"
	"crypto"
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
	return renewing(ctx, c.renew, failed)
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
	d, err := newDraft(c.issuer, now, serverCertLife)
	if err != nil {
		return err
	}
	leaf := pki.Leaf{
		Serial: d.serial, NotBefore: d.notBefore, NotAfter: d.notAfter, DNSNames: c.names, IPs: c.ips,
		PublicKey: d.key.Public(), ExtKeyUsages: []pki.ExtKeyUsage{pki.ServerAuth},
	}
	leaf.Point(c.issuer.Pointers(d.serial))
	der, err := c.issuer.Issue(ctx, leaf)
	if err != nil {
		return fmt.Errorf("server certificate: %w", err)
	}
	names := slices.Clone(c.names)
	for _, ip := range c.ips {
		names = append(names, ip.String())
	}
	if err := d.keep(ctx, c.store, serverCertSecret, names, der); err != nil {
		return err
	}
	cert, err := c.certificate(d.key, der)
	if err != nil {
		return err
	}
	c.current.Store(cert)
	return nil
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
