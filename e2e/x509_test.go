package e2e

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// certificates reads a chain in PEM.
func certificates(t *testing.T, chain string) []*x509.Certificate {
	t.Helper()
	var all []*x509.Certificate
	for rest := []byte(chain); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, cert)
	}
	if len(all) == 0 {
		t.Fatalf("no certificate in %q", chain)
	}
	return all
}

func serialOf(cert *x509.Certificate) string { return fmt.Sprintf("%032x", cert.SerialNumber) }

// verify has openssl verify the chain, leaf first, in a file, and returns the
// leaf, which must be for the names given and nothing else.
func (s *server) verify(t *testing.T, chainFile string, names ...string) *x509.Certificate {
	t.Helper()
	s.openssl(t, chainFile, "-verify_hostname", names[0]).must(t)
	leaf := certificates(t, readFile(t, chainFile))[0]
	if !slices.Equal(slices.Sorted(slices.Values(leaf.DNSNames)), slices.Sorted(slices.Values(names))) {
		t.Errorf("the certificate is for %q, want %q", leaf.DNSNames, names)
	}
	return leaf
}

// openssl runs openssl verify on the first certificate of a file, with the others
// as what lies between it and the root.
func (s *server) openssl(t *testing.T, chainFile string, flags ...string) result {
	t.Helper()
	args := append([]string{"verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", s.rootsFile(), "-untrusted", chainFile}, flags...)
	return run(t, s.dir, nil, "openssl", append(args, chainFile)...)
}

// mustBeRevoked waits until the CRL lists the certificate and openssl refuses it
// for that.
func (s *server) mustBeRevoked(t *testing.T, chainFile, reason string) {
	t.Helper()
	leaf := certificates(t, readFile(t, chainFile))[0]
	var text string
	eventually(t, "the CRL lists "+serialOf(leaf), startTime, func() bool {
		text = run(t, s.dir, nil, "openssl", "crl", "-noout", "-text", "-CAfile", issuing(t, chainFile), "-in", s.crl(t, leaf)).must(t).output()
		return strings.Contains(text, "Serial Number: "+strings.ToUpper(serialOf(leaf)))
	})
	if !strings.Contains(text, "verify OK") {
		t.Errorf("the CRL is not signed by the issuer\n%s", text)
	}
	if _, entry, _ := strings.Cut(text, strings.ToUpper(serialOf(leaf))); !strings.Contains(strings.SplitN(entry, "Serial Number", 2)[0], reason) {
		t.Errorf("the CRL does not give the reason %s\n%s", reason, text)
	}
	s.openssl(t, chainFile, "-crl_check", "-CRLfile", s.crl(t, leaf)).mustFail(t, "certificate revoked")
}

// mustNotBeRevoked has openssl accept a certificate under the newest CRL.
func (s *server) mustNotBeRevoked(t *testing.T, chainFile string) {
	t.Helper()
	leaf := certificates(t, readFile(t, chainFile))[0]
	s.openssl(t, chainFile, "-crl_check", "-CRLfile", s.crl(t, leaf)).must(t)
}

// issuing returns a file of the second certificate of a chain.
func issuing(t *testing.T, chainFile string) string {
	t.Helper()
	chain := certificates(t, readFile(t, chainFile))
	if len(chain) < 2 {
		t.Fatalf("%s has no issuer", chainFile)
	}
	return writeFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[1].Raw})), t.TempDir(), "issuing.pem")
}
