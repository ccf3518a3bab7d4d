package acmeserver_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"time"

	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/store"
)

// foreignChain is the CA under test as signed by a CA of another name.
func (w *world) foreignChain(name string, change func(*x509.Certificate)) *pki.Chain {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.ok(err)
	issuing := w.issuer.Chain()[0]
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: issuing.NotBefore, NotAfter: issuing.NotAfter,
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign}
	cross := &x509.Certificate{SerialNumber: big.NewInt(2), RawSubject: issuing.RawSubject, NotBefore: issuing.NotBefore, NotAfter: issuing.NotAfter,
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true, KeyUsage: issuing.KeyUsage, SubjectKeyId: issuing.SubjectKeyId}
	change(cross)
	var certs []*x509.Certificate
	for _, c := range []struct {
		template *x509.Certificate
		public   any
	}{{cross, issuing.PublicKey}, {root, key.Public()}} {
		der, err := x509.CreateCertificate(rand.Reader, c.template, root, c.public, key)
		w.ok(err)
		cert, err := x509.ParseCertificate(der)
		w.ok(err)
		certs = append(certs, cert)
	}
	chain, err := pki.NewChain(certs)
	w.ok(err)
	return chain
}

// chain NAME [default] [permits=DOMAIN] [ends=DURATION]: an operator adds the
// chain of a CA called NAME.
func (s *script) addChain(line string) {
	s.settle()
	name, rest, _ := strings.Cut(line, " ")
	option := options(rest)
	chain := s.foreignChain(name, func(cross *x509.Certificate) {
		if domain := option["permits"]; domain != "" {
			cross.PermittedDNSDomainsCritical, cross.PermittedDNSDomains = true, []string{domain}
		}
		if ends := option["ends"]; ends != "" {
			d, err := time.ParseDuration(ends)
			s.ok(err)
			cross.NotAfter = s.store.Now().Add(d)
		}
	})
	own, err := pki.NewChain(append(s.issuer.Chain(), s.issuer.Root()))
	s.ok(err)
	s.ok(chain.Check(own, s.store.Now()))
	_, standard := option["default"]
	s.ok(s.store.AddIssuerChain(ctx, "test", issuerID, chain, standard))
}

// chainOf finds one of the CA's chains by its name, or "own".
func (s *script) chainOf(name string) store.IssuerChain {
	all, err := s.store.IssuerChains(ctx, issuerID)
	s.ok(err)
	for _, chain := range all {
		if chain.Name() == name || chain.Own && name == store.OwnChain {
			return chain
		}
	}
	s.fatalf("there is no chain %q", name)
	return store.IssuerChain{}
}

func (s *script) removeChain(name string) {
	s.settle()
	s.ok(s.store.RemoveIssuerChain(ctx, "test", issuerID, s.chainOf(name).ID()))
}

func (s *script) setDefaultChain(name string) {
	s.settle()
	id := s.chainOf(name).ID()
	if name == store.OwnChain {
		id = name
	}
	s.ok(s.store.SetDefaultChain(ctx, "test", issuerID, id))
}

// through NAME: the answer is a certificate followed by exactly that chain.
func (s *script) expectThrough(name string) {
	s.want(s.last.header.Get("Content-Type") == "application/pem-certificate-chain", "want a certificate")
	first, rest := pem.Decode(s.last.body)
	s.want(first != nil && string(rest) == string(s.chainOf(name).PEM()), "after the certificate does not come the chain %q", name)
	if leaf := s.vars["leaf"]; leaf != "" {
		s.want(b64(first.Bytes) == leaf, "another certificate")
	}
}
