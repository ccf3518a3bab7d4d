package admin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/pki"
)

// foreign signs the issuer's request, which it asks the API for, with a root of
// its own, and returns the certificate and that root.
func (f *fixture) foreign(name string, usage x509.KeyUsage) (cross, root *x509.Certificate) {
	f.t.Helper()
	answer := decode[IssuerCSR](f.t, f.do("GET", "/issuers/iss-local/csr", f.auditor, "").want(f.t, 200))
	block, rest := pem.Decode([]byte(answer.PEM))
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(rest) != 0 {
		f.t.Fatalf("the request is %q", answer.PEM)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	f.noError(err)
	f.noError(csr.CheckSignature())
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	f.noError(err)
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign}
	above, below := template, template
	above.Subject = pkix.Name{CommonName: name}
	above.MaxPathLen = -1
	below.RawSubject, below.KeyUsage, below.SubjectKeyId = csr.RawSubject, usage, f.local.Chain()[0].SubjectKeyId
	sign := func(template *x509.Certificate, public any) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, template, &above, public, key)
		f.noError(err)
		cert, err := x509.ParseCertificate(der)
		f.noError(err)
		return cert
	}
	return sign(&below, csr.PublicKey), sign(&above, key.Public())
}

// chainBody is the request that adds a chain.
func chainBody(standard bool, certs ...*x509.Certificate) string {
	body, err := json.Marshal(map[string]any{"pem": string(pki.EncodePEM(certs...)), "default": standard})
	if err != nil {
		panic(err)
	}
	return string(body)
}

const signsAll = x509.KeyUsageCertSign | x509.KeyUsageCRLSign

func TestIssuerCSR(t *testing.T) {
	f := newFixture(t)
	f.foreign("Corp Root", signsAll)
	f.hasEvent("issuer_csr_created", "api:eyes", "iss-local")
	f.do("GET", "/issuers/none/csr", f.admin, "").want(t, 404, `there is no issuer \"none\"`)
}

func TestChains(t *testing.T) {
	f := newFixture(t)
	const path = "/issuers/iss-local"
	serial := f.issued(f.account(), "a.test")
	follows := func(want *x509.Certificate) {
		t.Helper()
		c := decode[Certificate](t, f.do("GET", "/certificates/"+serial, f.auditor, "").want(t, 200))
		if !strings.HasSuffix(c.PEM, "-----END CERTIFICATE-----\n"+string(pki.EncodePEM(want))) || strings.Count(c.PEM, "BEGIN") != 2 {
			t.Errorf("the certificate is shown with another chain:\n%s", c.PEM)
		}
	}
	follows(f.local.Chain()[0])
	own := decode[Issuer](t, f.do("GET", path, f.auditor, "").want(t, 200)).Chains
	if len(own) != 1 || own[0].ID != "own" || !own[0].Default || own[0].Name != "Test Root CA" || len(own[0].RootSHA256) != 64 || len(own[0].Warnings) != 0 ||
		strings.Join(own[0].PermittedDomains, " ") != "test example.com" {
		t.Errorf("own %+v", own)
	}

	cross, root := f.foreign("Corp Root", signsAll)
	added := decode[Chain](t, f.do("POST", path+"/chains", f.admin, chainBody(false, cross, root)).want(t, 201, `"default":false`, `"warnings":[]`, `"permitted_domains":[]`))
	if len(added.ID) != 16 || added.Name != "Corp Root" || len(added.RootSHA256) != 64 || added.RootSHA256 == own[0].RootSHA256 ||
		!added.NotAfter.Equal(cross.NotAfter) || added.PEM != string(pki.EncodePEM(cross)) || added.CreatedAt.IsZero() {
		t.Errorf("added %+v", added)
	}
	f.hasEvent("issuer_chain_added", "api:root", "iss-local")
	f.do("GET", "/audit-events?action=issuer_chain_added", f.auditor, "").want(t, 200, added.ID, "Corp Root", `"default":false`)
	follows(f.local.Chain()[0])
	f.do("POST", path+"/chains", f.admin, chainBody(true, cross, root)).want(t, 409, "has this chain already, as "+added.ID)
	f.do("POST", path+"/chains", f.admin, chainBody(true, cross)).want(t, 409, "has this chain already, as "+added.ID)
	f.do("POST", "/issuers/none/chains", f.admin, chainBody(true, cross, root)).want(t, 404, `there is no issuer \"none\"`)

	// Without its root, with a name that clients cannot choose by, and no right to sign CRLs.
	other, _ := f.foreign("Corp Root", x509.KeyUsageCertSign)
	second := decode[Chain](t, f.do("POST", path+"/chains", f.admin, chainBody(true, other)).
		want(t, 201, `"default":true`, "its root was not given", "sign CRLs", `another chain has the name \"Corp Root\" too`))
	if second.RootSHA256 != "" || len(second.Warnings) != 3 {
		t.Errorf("second %+v", second)
	}
	follows(other)
	for _, answer := range []string{f.do("GET", path, f.auditor, "").want(t, 200).body, f.do("GET", "/issuers", f.auditor, "").want(t, 200).body} {
		a, b, c := strings.Index(answer, second.ID), strings.Index(answer, `"own"`), strings.Index(answer, added.ID)
		if a < 0 || b < a || c < b {
			t.Errorf("the chains are not shown in their order: %s", answer)
		}
	}

	f.do("PATCH", path, f.admin, `{"default_chain": "`+added.ID+`"}`).want(t, 200, `"chains":[{"id":"`+added.ID+`","default":true`)
	f.hasEvent("issuer_default_chain_set", "api:root", "iss-local")
	follows(cross)
	f.do("PATCH", path, f.admin, `{"default_chain": "`+added.ID+`"}`).want(t, 409, "is the default already")
	f.do("PATCH", path, f.admin, `{"default_chain": "own"}`).want(t, 200, `"chains":[{"id":"own","default":true`)
	f.do("PATCH", path, f.admin, `{"default_chain": "own"}`).want(t, 409, "is the default already")
	f.do("PATCH", path, f.admin, `{"default_chain": "none"}`).want(t, 404, `there is no chain \"none\"`)
	f.do("PATCH", path, f.admin, `{}`).want(t, 422, "default_chain")
	f.do("PATCH", "/issuers/none", f.admin, `{"default_chain": "own"}`).want(t, 404, `there is no issuer \"none\"`)
	f.do("PATCH", path, f.admin, `{"default_chain": "`+second.ID+`"}`).want(t, 200)
	follows(other)

	f.do("DELETE", path+"/chains/own", f.admin, "").want(t, 409, "cannot be removed")
	f.do("DELETE", path+"/chains/none", f.admin, "").want(t, 404, `there is no chain \"none\"`)
	f.do("DELETE", "/issuers/none/chains/"+second.ID, f.admin, "").want(t, 404, `there is no issuer \"none\"`)
	f.do("DELETE", path+"/chains/"+second.ID, f.admin, "").want(t, 204)
	f.hasEvent("issuer_chain_removed", "api:root", "iss-local")
	f.do("DELETE", path+"/chains/"+second.ID, f.admin, "").want(t, 404)
	follows(f.local.Chain()[0])
	f.do("GET", "/issuers/none", f.auditor, "").want(t, 404, `there is no issuer \"none\"`)
}

// TestChainRefused: package pki has the rules; they are asked.
func TestChainRefused(t *testing.T) {
	f := newFixture(t)
	cross, root := f.foreign("Corp Root", signsAll)
	issuing := f.local.Chain()[0]
	for want, body := range map[string]string{
		"found something other than PEM":                `{"pem": "x"}`,
		"found no certificate":                          `{"pem": ""}`,
		"no certificate below a root":                   chainBody(false, root),
		"own chain":                                     chainBody(false, issuing, f.local.Root()),
		"was issued by":                                 chainBody(false, cross, f.local.Root()),
		"is not for the issuer's key":                   chainBody(false, root, cross),
		"PEM block \\\"PRIVATE KEY\\\" instead":         `{"pem": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}`,
		"required property pem":                         `{"default": true}`,
		"expected boolean":                              `{"pem": "x", "default": "yes"}`,
		"after it comes the certificate of \\\"CN=Test": chainBody(true, cross, issuing),
	} {
		f.do("POST", "/issuers/iss-local/chains", f.admin, body).want(t, 422, want)
	}
	f.do("GET", "/issuers/iss-local", f.auditor, "").want(t, 200, `"chains":[{"id":"own"`)
	if events := f.do("GET", "/audit-events?action=issuer_chain_added", f.auditor, "").body; strings.Contains(events, "added\"") {
		t.Errorf("refused chains have events: %s", events)
	}
}
