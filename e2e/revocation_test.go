package e2e

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// download fetches a file from the public listener.
func (s *server) download(t *testing.T, url, contentType string) []byte {
	t.Helper()
	response, err := s.client(t).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != contentType {
		t.Fatalf("%s: status %d, %s", url, response.StatusCode, response.Header.Get("Content-Type"))
	}
	return body
}

// ocsp asks for the status of a certificate as openssl does, by POST with a nonce
// and by POST and GET without one, and returns what openssl says of it. It has
// openssl verify every response.
func (s *server) ocsp(t *testing.T, chainFile string) (said []string) {
	t.Helper()
	leaf := certificates(t, readFile(t, chainFile))[0]
	if len(leaf.OCSPServer) != 1 || !strings.HasPrefix(leaf.OCSPServer[0], s.public+"/ocsp/") {
		t.Fatalf("the certificate points to %q for OCSP", leaf.OCSPServer)
	}
	dir, issuer := t.TempDir(), issuing(t, chainFile)
	// For openssl the certificates of a file are its first.
	ask := []string{"ocsp", "-issuer", issuer, "-cert", chainFile, "-CAfile", s.rootsFile(), "-verify_other", issuer}
	answered := func(args ...string) result {
		t.Helper()
		r := run(t, dir, nil, "openssl", append(ask, args...)...).must(t)
		if !strings.Contains(r.output(), "Response verify OK") {
			t.Fatalf("%s\n%s", r.command, r.output())
		}
		said = append(said, r.stdout)
		return r
	}
	if r := answered("-url", leaf.OCSPServer[0]); strings.Contains(r.output(), "no nonce") {
		t.Errorf("the response repeats no nonce (RFC 9654)\n%s", r.output())
	}
	answered("-no_nonce", "-url", leaf.OCSPServer[0])

	request, response := filepath.Join(dir, "request.der"), filepath.Join(dir, "response.der")
	run(t, dir, nil, "openssl", "ocsp", "-issuer", issuer, "-cert", chainFile, "-no_nonce", "-reqout", request).must(t)
	encoded := url.PathEscape(base64.StdEncoding.EncodeToString([]byte(readFile(t, request))))
	writeFile(t, string(s.download(t, leaf.OCSPServer[0]+"/"+encoded, "application/ocsp-response")), response)
	answered("-no_nonce", "-respin", response)
	return said
}

// mustSay fails the test unless openssl said the same in every answer.
func mustSay(t *testing.T, said []string, want ...string) {
	t.Helper()
	for _, text := range said {
		for _, part := range want {
			if !strings.Contains(text, part) {
				t.Errorf("openssl does not say %q:\n%s", part, text)
			}
		}
	}
}

// TestRevocationIsPublished follows the revocation of a certificate to everybody
// who may ask for it.
func TestRevocationIsPublished(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	s := startServer(t, n.flags()...)
	c := newClient(t, s, n, "lego", "default")
	c.run(t, nil, "obtain", "revoked.test").must(t)
	c.run(t, nil, "obtain", "good.test").must(t)
	chain := c.chain("revoked.test")
	mustSay(t, s.ocsp(t, chain), ": good\n", "This Update: ", "Next Update: ")
	leaf := certificates(t, readFile(t, chain))
	if len(leaf[0].IssuingCertificateURL) != 1 {
		t.Fatalf("the certificate points to %q for its issuer", leaf[0].IssuingCertificateURL)
	}
	if !bytes.Equal(s.download(t, leaf[0].IssuingCertificateURL[0], "application/pkix-cert"), leaf[1].Raw) {
		t.Errorf("%s is not the issuer of the chain", leaf[0].IssuingCertificateURL[0])
	}

	s.certctl(t, "cert", "revoke", serialOf(leaf[0]), "--reason", "keyCompromise").must(t)
	mustSay(t, s.ocsp(t, chain), ": revoked\n", "Reason: keyCompromise") // at once: no older answer is given
	s.mustBeRevoked(t, chain, "Key Compromise")

	mustSay(t, s.ocsp(t, c.chain("good.test")), ": good\n")
	s.mustNotBeRevoked(t, c.chain("good.test"))
	// The complete CRL, for those who do not follow the pointers of certificates.
	whole := writeFile(t, string(s.download(t, s.public+"/crl/iss-local.crl", "application/pkix-crl")), s.dir, "whole.crl")
	text := run(t, s.dir, nil, "openssl", "crl", "-inform", "DER", "-noout", "-text", "-CAfile", issuing(t, chain), "-in", whole).must(t).output()
	for _, want := range []string{"verify OK", strings.ToUpper(serialOf(leaf[0])), "Key Compromise"} {
		if !strings.Contains(text, want) {
			t.Errorf("the complete CRL does not tell %q\n%s", want, text)
		}
	}
}

// TestNoRevocation holds that a certificate too short-lived to be revoked says so
// and points nowhere (RFC 9608).
func TestNoRevocation(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	s := startServer(t, n.flags()...)
	s.with(t, "brief", map[string]any{"allowed_domains": []string{".test"}, "max_ttl_seconds": 3600, "no_revocation_below_seconds": 86_400})
	c := newClient(t, s, n, "acmez", "brief")
	c.run(t, nil, "obtain", "brief.test").must(t)
	s.verifyFor(t, c.chain("brief.test"), "brief.test")
	leaf := c.leaf(t, "brief.test")
	if len(leaf.CRLDistributionPoints)+len(leaf.OCSPServer) > 0 {
		t.Errorf("the certificate points to %q and %q", leaf.CRLDistributionPoints, leaf.OCSPServer)
	}
	text := run(t, s.dir, nil, "openssl", "x509", "-noout", "-text", "-in", c.chain("brief.test")).must(t).stdout
	if !strings.Contains(text, "2.5.29.56") && !strings.Contains(text, "No Revocation Available") {
		t.Errorf("the certificate does not say that there is no revocation:\n%s", text)
	}
}
