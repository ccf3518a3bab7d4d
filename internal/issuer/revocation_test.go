package issuer

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/pki"
)

// newSharded returns an issuer with four shards.
func newSharded(t testing.TB, ca *pki.CA) *Local {
	t.Helper()
	config := LocalConfig{
		ID: "iss-local", Root: ca.Root, Issuing: ca.Issuing, Key: ca.IssuingKey,
		CRLURL: "http://pki.test/crl/x.crl", AIAURL: "http://pki.test/aia/x.cer", OCSPURL: "http://pki.test/ocsp/x",
	}
	for shard := range 4 {
		config.ShardURLs = append(config.ShardURLs, fmt.Sprintf("http://pki.test/crl/x/%d.crl", shard+1))
	}
	l, err := NewLocal(config)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPointersOfShards(t *testing.T) {
	l := newSharded(t, newCA(t, nil))
	for _, test := range []struct{ serial, want string }{
		{"40000000000000000000000000000000", "http://pki.test/crl/x/1.crl"},
		{"40000000000000000000000000000003", "http://pki.test/crl/x/4.crl"},
		{"400000000000000000000000fffffffe", "http://pki.test/crl/x/3.crl"},
	} {
		p := l.Pointers(test.serial)
		if !slices.Equal(p.CRL, []string{test.want}) || p.AIA[0] != "http://pki.test/aia/x.cer" || p.OCSP[0] != "http://pki.test/ocsp/x" {
			t.Errorf("%s: %+v, want the CRL %s", test.serial, p, test.want)
		}
	}
	leaf := newLeaf("a.test")
	leaf.Point(l.Pointers(leaf.Serial))
	cert := issue(t, l, leaf)
	if !slices.Equal(cert.OCSPServer, []string{"http://pki.test/ocsp/x"}) || !slices.Equal(cert.CRLDistributionPoints, l.Pointers(leaf.Serial).CRL) {
		t.Errorf("the certificate points to %q and %q", cert.OCSPServer, cert.CRLDistributionPoints)
	}
	leaf.Point(l.Pointers(leaf.Serial).WithoutRevocation())
	cert = issue(t, l, leaf)
	if len(cert.OCSPServer)+len(cert.CRLDistributionPoints) > 0 || len(cert.IssuingCertificateURL) != 1 {
		t.Errorf("a certificate without revocation points to %q, %q", cert.OCSPServer, cert.CRLDistributionPoints)
	}
	i := slices.IndexFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 56}) })
	if i < 0 || cert.Extensions[i].Critical || hex.EncodeToString(cert.Extensions[i].Value) != "0500" {
		t.Errorf("noRevAvail: %+v", cert.Extensions)
	}
}

// TestIDPIsTheDistributionPoint holds the encodings against each other: RFC 5280, Section 5.2.5 wants them identical.
func TestIDPIsTheDistributionPoint(t *testing.T) {
	l := newSharded(t, newCA(t, nil))
	leaf := newLeaf("a.test")
	leaf.Point(l.Pointers(leaf.Serial))
	cert := issue(t, l, leaf)
	shard := pki.Shard(leaf.Serial, 4)
	crl := signCRL(t, l, shard)
	find := func(extensions []pkix.Extension, last int) pkix.Extension {
		i := slices.IndexFunc(extensions, func(e pkix.Extension) bool { return e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, last}) })
		if i < 0 {
			t.Fatalf("no extension %d", last)
		}
		return extensions[i]
	}
	point, idp := find(cert.Extensions, 31), find(crl.Extensions, 28)
	if !idp.Critical {
		t.Error("the issuing distribution point is not critical")
	}
	var points [][]asn1.RawValue // SEQUENCE OF DistributionPoint
	if _, err := asn1.Unmarshal(point.Value, &points); err != nil || len(points) != 1 || len(points[0]) != 1 {
		t.Fatal(err, points)
	}
	var parts []asn1.RawValue // distributionPoint, onlyContainsUserCerts
	if _, err := asn1.Unmarshal(idp.Value, &parts); err != nil || len(parts) != 2 {
		t.Fatal(err, parts)
	}
	if certPart, crlPart := points[0][0].FullBytes, parts[0].FullBytes; !bytes.Equal(certPart, crlPart) {
		t.Errorf("the certificate has %x, the CRL %x", certPart, crlPart)
	}
	if onlyUserCerts := hex.EncodeToString(parts[1].FullBytes); onlyUserCerts != "8101ff" {
		t.Errorf("onlyContainsUserCerts is %s", onlyUserCerts)
	}
	for _, bad := range []int{-1, 5} {
		if _, err := l.SignCRL(bad, pki.CRL{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour)}); err == nil {
			t.Errorf("shard %d was signed", bad)
		}
	}
}

func signCRL(t testing.TB, l *Local, shard int, revoked ...pki.RevokedEntry) *x509.RevocationList {
	t.Helper()
	der, err := l.SignCRL(shard, pki.CRL{Number: big.NewInt(9), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Hour), Revoked: revoked})
	if err != nil {
		t.Fatal(err)
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return crl
}

// TestOpenSSLShards asks another implementation with -crl_check and the shard alone: the certificate of the shard is
// covered, one of another shard is not.
func TestOpenSSLShards(t *testing.T) {
	ca := newCA(t, nil)
	l := newSharded(t, ca)
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certificate := func(serial string) string {
		leaf := newLeaf("a.test")
		leaf.Serial = serial
		leaf.Point(l.Pointers(serial))
		return write(serial+".pem", pki.EncodePEM(issue(t, l, leaf)))
	}
	good := certificate("40000000000000000000000000000001")
	revoked := certificate("40000000000000000000000000000005")
	elsewhere := certificate("40000000000000000000000000000002")
	crl := signCRL(t, l, 2, pki.RevokedEntry{Serial: "40000000000000000000000000000005", RevokedAt: now.Add(-time.Hour), Reason: 1})
	der := write("shard.crl", crl.Raw)
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("openssl", args...).CombinedOutput()
		return fmt.Sprintf("%s %v", out, err)
	}
	if out := run("crl", "-inform", "DER", "-in", der, "-out", dir+"/shard.pem"); !strings.HasSuffix(out, "<nil>") {
		t.Fatal(out)
	}
	text := run("crl", "-inform", "DER", "-in", der, "-noout", "-text")
	for _, want := range []string{"X509v3 Issuing Distribution Point: critical", "URI:http://pki.test/crl/x/2.crl", "Only User Certificates", "Key Compromise"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\nlacks %q", text, want)
		}
	}
	verify := func(path string) string {
		return run("verify", "-attime", fmt.Sprint(now.Unix()), "-crl_check", "-extended_crl", "-CRLfile", dir+"/shard.pem",
			"-CAfile", write("root.pem", pki.EncodePEM(ca.Root)), "-untrusted", write("chain.pem", pki.EncodePEM(l.Chain()...)), path)
	}
	if out := verify(good); !strings.HasSuffix(out, "OK\n <nil>") {
		t.Errorf("not revoked: %s", out)
	}
	if out := verify(revoked); !strings.Contains(out, "certificate revoked") {
		t.Errorf("revoked: %s", out)
	}
	if out := verify(elsewhere); !strings.Contains(strings.ToLower(out), "different crl scope") {
		t.Errorf("of another shard: %s", out)
	}
}

func TestIssueOCSPResponder(t *testing.T) {
	ca := newCA(t, []string{"corp.test"})
	l := newLocal(t, ca)
	responder := pki.OCSPResponder{Serial: newLeaf().Serial, NotBefore: now, NotAfter: now.Add(time.Hour), CommonName: "Test OCSP", PublicKey: leafKey.Public()}
	cert, err := l.IssueOCSPResponder(context.Background(), responder)
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.CheckSignatureFrom(ca.Issuing); err != nil {
		t.Error(err)
	}
	nocheck := slices.IndexFunc(cert.Extensions, func(e pkix.Extension) bool {
		return e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}) && !e.Critical && hex.EncodeToString(e.Value) == "0500"
	})
	if nocheck < 0 || cert.IsCA || cert.KeyUsage != x509.KeyUsageDigitalSignature || len(cert.CRLDistributionPoints)+len(cert.OCSPServer) > 0 {
		t.Errorf("%+v", cert)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, refuse := range map[string]func(*pki.OCSPResponder) context.Context{
		"outlives the CA": func(r *pki.OCSPResponder) context.Context {
			r.NotAfter = l.NotAfter().Add(time.Second)
			return context.Background()
		},
		"RSA":       func(r *pki.OCSPResponder) context.Context { r.PublicKey = rsaKey.Public(); return context.Background() },
		"no serial": func(r *pki.OCSPResponder) context.Context { r.Serial = "7"; return context.Background() },
		"no name":   func(r *pki.OCSPResponder) context.Context { r.CommonName = ""; return context.Background() },
		"ends before it begins": func(r *pki.OCSPResponder) context.Context {
			r.NotAfter = now.Add(-time.Second)
			return context.Background()
		},
		"canceled": func(*pki.OCSPResponder) context.Context { return canceled },
	} {
		changed := responder
		if _, err := l.IssueOCSPResponder(refuse(&changed), changed); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}
