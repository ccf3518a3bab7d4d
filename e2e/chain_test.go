package e2e

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// corpRoot has openssl make a company's root, and sign with it the request of the
// server's CA as certctl issuer csr prints it. It returns files: of the root and of
// the chain.
func (s *server) corpRoot(t *testing.T, name string) (root, chain string) {
	t.Helper()
	dir := t.TempDir()
	root, key, csr, cross := filepath.Join(dir, "root.pem"), filepath.Join(dir, "root.key"), filepath.Join(dir, "iss.csr"), filepath.Join(dir, "iss.pem")
	run(t, dir, nil, "openssl", "req", "-x509", "-newkey", "rsa:3072", "-nodes", "-days", "3650", "-subj", "/O=Corp/CN="+name,
		"-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", key, "-out", root).must(t)
	writeFile(t, s.certctl(t, "issuer", "csr", "iss-local").must(t).stdout, csr)
	run(t, dir, nil, "openssl", "x509", "-req", "-in", csr, "-copy_extensions", "copyall", "-days", "1825", "-CA", root, "-CAkey", key, "-out", cross).must(t)
	return root, writeFile(t, readFile(t, cross)+readFile(t, root), dir, "chain.pem")
}

// underRoot has openssl verify a chain, leaf first, under a root and nothing else,
// with the CRL.
func (s *server) underRoot(t *testing.T, root, chainFile string) result {
	t.Helper()
	leaf := certificates(t, readFile(t, chainFile))[0]
	return run(t, s.dir, nil, "openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-no-CApath", "-no-CAstore",
		"-crl_check", "-CRLfile", s.crl(t, leaf), "-CAfile", root, "-untrusted", chainFile, chainFile)
}

// TestPreferredChain is a company whose machines trust a root already: it signs the
// CA's key too, and clients choose that root.
func TestPreferredChain(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const preferred = "Corp Root"
	root, chain := s.corpRoot(t, preferred)
	s.certctl(t, "issuer", "add-chain", "iss-local", chain).must(t)
	l := newLego(t, s, "default", freePort(t))
	own := s.rootsFile()
	serves := func(name, root, other string) {
		t.Helper()
		s.underRoot(t, root, l.chain(name)).must(t)
		s.underRoot(t, other, l.chain(name)).mustFail(t)
		if n := len(certificates(t, readFile(t, l.chain(name)))); n != 2 {
			t.Errorf("%s has %d certificates", name, n)
		}
	}

	l.run(t, []string{"plain.test"}, "run").must(t)
	serves("plain.test", own, root)
	l.run(t, []string{"lego.test"}, "run", "--preferred-chain", preferred).must(t)
	serves("lego.test", root, own)

	c := newCertbot(t, s, "default", freePort(t))
	c.run(t, "certonly", "--standalone", "--agree-tos", "--register-unsafely-without-email", "--preferred-chain", preferred, "-d", "bot.test").must(t)
	s.underRoot(t, root, c.live("bot.test", "fullchain.pem")).must(t)
	s.underRoot(t, own, c.live("bot.test", "fullchain.pem")).mustFail(t)

	// As the default chain it is for everybody, and the CA's own is chosen the same way.
	s.certctl(t, "issuer", "default-chain", "iss-local", s.chainID(t, preferred)).must(t)
	l.run(t, []string{"after.test"}, "run").must(t)
	serves("after.test", root, own)
	l.run(t, []string{"own.test"}, "run", "--preferred-chain", certificates(t, readFile(t, own))[0].Subject.CommonName).must(t)
	serves("own.test", own, root)

	// The server itself stays under its own root, which is all that it hands out; after a start too.
	s.interrupt(t)
	s.start(t)
	if roots := certificates(t, readFile(t, own)); len(roots) != 1 {
		t.Errorf("%d roots", len(roots))
	}
	l.run(t, []string{"started.test"}, "run").must(t)
	serves("started.test", root, own)

	// Revocation holds under both.
	l.run(t, []string{"started.test"}, "revoke", "--keep").must(t)
	eventually(t, "the CRL lists it", startTime, func() bool {
		r := s.underRoot(t, root, l.chain("started.test"))
		return r.code != 0 && strings.Contains(r.output(), "certificate revoked")
	})
}

// chainID finds a chain of the issuer by its name.
func (s *server) chainID(t *testing.T, name string) string {
	t.Helper()
	status, answer := s.api(t, http.MethodGet, "/issuers/iss-local", nil)
	var issuer struct{ Chains []struct{ ID, Name string } }
	if err := json.Unmarshal([]byte(answer), &issuer); err != nil || status != http.StatusOK {
		t.Fatalf("issuer: status %d, %v\n%s", status, err, answer)
	}
	for _, chain := range issuer.Chains {
		if chain.Name == name {
			return chain.ID
		}
	}
	t.Fatalf("no chain %q: %s", name, answer)
	return ""
}
