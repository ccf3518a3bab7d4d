package responder

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/lifecycle"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/store"
	"github.com/certctl/certctl/internal/validate"
)

const issuerID = "iss"

// world is a responder over a real store and CA, served over HTTP.
type world struct {
	testing.TB
	ahead   atomic.Int64 // of the clock
	store   *store.Store
	issuer  *issuer.Local
	signer  *lifecycle.OCSPSigner
	handler *Responder
	http    *httptest.Server
}

func newWorld(t testing.TB) *world {
	w := &world{TB: t}
	var err error
	w.store, err = store.Open(w.Context(), store.Config{Dir: t.TempDir(), SecretKey: make([]byte, 32), NonceTTL: time.Minute,
		Now: func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }})
	w.ok(err)
	t.Cleanup(func() { w.store.Close() })
	ca, err := pki.CreateCA(pki.CASpec{Name: "Test", Now: w.store.Now()}, rand.Reader)
	w.ok(err)
	w.http = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !Serves(r.URL.Path) {
			t.Errorf("%s is not served", r.URL.Path)
		}
		w.handler.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.http.Close)
	config := issuer.LocalConfig{ID: issuerID, Root: ca.Root, Issuing: ca.Issuing, Key: ca.IssuingKey,
		CRLURL: w.http.URL + CRLPath(issuerID), AIAURL: w.http.URL + AIAPath(issuerID), OCSPURL: w.http.URL + OCSPPath(issuerID)}
	for shard := range 4 {
		config.ShardURLs = append(config.ShardURLs, w.http.URL+ShardPath(issuerID, shard+1))
	}
	w.issuer, err = issuer.NewLocal(config)
	w.ok(err)
	w.signer, err = lifecycle.NewOCSPSigner(w.Context(), w.store, w.issuer)
	w.ok(err)
	w.handler, err = New(Config{Store: w.store, Log: slog.New(slog.DiscardHandler),
		Issuers: map[string]*issuer.Local{issuerID: w.issuer}, OCSP: map[string]*lifecycle.OCSPSigner{issuerID: w.signer}})
	w.ok(err)
	return w
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) advance(d time.Duration) { w.ahead.Add(int64(d)) }

// publish runs the publisher of CRLs until the test ends, and waits for the first.
func (w *world) publish() *lifecycle.Lifecycle {
	w.Helper()
	life, err := lifecycle.New(lifecycle.Config{Store: w.store, Issuers: map[string]*issuer.Local{issuerID: w.issuer},
		AuthzTTL: time.Hour, SweepInterval: time.Hour, Log: slog.New(slog.DiscardHandler),
		Probe: func(context.Context, acme.ChallengeType, validate.Target) validate.Outcome { return validate.Outcome{} },
		CAA: lifecycle.CAA{
			Check:       func(context.Context, validate.CAAQuery) validate.Outcome { return validate.Outcome{} },
			AccountURLs: func(string) []string { return nil },
		},
	})
	w.ok(err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- life.Run(ctx) }()
	w.Cleanup(func() { stop(); w.ok(<-done) })
	for {
		if _, err := w.store.CRL(w.Context(), issuerID, 4); err == nil {
			return life
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// certificate issues and records a certificate.
func (w *world) certificate(change ...func(*pki.Leaf)) *x509.Certificate {
	w.Helper()
	serial, err := pki.NewSerial(rand.Reader)
	w.ok(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.ok(err)
	now := w.store.Now().UTC().Truncate(time.Second)
	leaf := pki.Leaf{Serial: serial, NotBefore: now, NotAfter: now.Add(time.Hour), DNSNames: []string{"a.test"},
		PublicKey: key.Public(), ExtKeyUsages: []pki.ExtKeyUsage{pki.ServerAuth}}
	leaf.Point(w.issuer.Pointers(serial))
	for _, f := range change {
		f(&leaf)
	}
	der, err := w.issuer.Issue(w.Context(), leaf)
	w.ok(err)
	w.ok(w.store.StoreServerCertificate(w.Context(), &store.Certificate{Serial: serial, IssuerID: issuerID, DER: der,
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, NoRevAvail: leaf.NoRevAvail}, "test", nil))
	cert, err := x509.ParseCertificate(der)
	w.ok(err)
	return cert
}

func (w *world) revoke(cert *x509.Certificate, reason int) {
	w.Helper()
	serial, err := pki.FormatSerial(cert.SerialNumber)
	w.ok(err)
	w.ok(w.store.RevokeCertificate(w.Context(), "api:test", serial, reason))
}

// do sends a request with headers as name, value pairs.
func (w *world) do(method, url string, body []byte, headers ...string) (*http.Response, []byte) {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), method, url, bytes.NewReader(body))
	w.ok(err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := w.http.Client().Transport.RoundTrip(r) // no redirects
	w.ok(err)
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	w.ok(err)
	return resp, read
}

func TestCRLOverHTTP(t *testing.T) {
	w := newWorld(t)
	url := w.http.URL + "/crl/iss.crl"
	if resp, _ := w.do("GET", url, nil); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("before the first: %v", resp.Status)
	}
	life := w.publish()
	cert := w.certificate()
	shard := cert.CRLDistributionPoints[0]
	for _, url := range []string{url, shard} {
		resp, body := w.do("GET", url, nil)
		crl, err := x509.ParseRevocationList(body)
		w.ok(err)
		h := resp.Header
		etag := h.Get("ETag")
		if h.Get("Content-Type") != "application/pkix-crl" || etag != fmt.Sprintf(`"%x"`, crl.Number) || resp.ContentLength != int64(len(body)) ||
			h.Get("Last-Modified") != crl.ThisUpdate.Format(http.TimeFormat) || h.Get("Expires") != crl.NextUpdate.Format(http.TimeFormat) ||
			h.Get("Cache-Control") != "max-age=8640, public, no-transform, must-revalidate" || h.Get("Replay-Nonce") != "" {
			t.Errorf("%s: %v", url, h)
		}
		head, body := w.do("HEAD", url, nil)
		if head.StatusCode != http.StatusOK || len(body) > 0 || head.ContentLength != resp.ContentLength || head.Header.Get("ETag") != etag {
			t.Errorf("HEAD %s: %v", url, head)
		}
		for _, condition := range []struct {
			name, value string
			status      int
		}{
			{"If-None-Match", etag, 304}, {"If-None-Match", "W/" + etag, 304}, {"If-None-Match", `"x", ` + etag, 304}, {"If-None-Match", "*", 304},
			{"If-None-Match", `"x"`, 200}, {"If-None-Match", `"1` + etag[1:], 200},
			{"If-Modified-Since", h.Get("Last-Modified"), 304}, {"If-Modified-Since", crl.ThisUpdate.Add(-time.Second).Format(http.TimeFormat), 200},
		} {
			resp, body := w.do("GET", url, nil, condition.name, condition.value)
			if resp.StatusCode != condition.status || (len(body) > 0) != (condition.status == 200) {
				t.Errorf("%s: %s with %d bytes to %s %s", url, resp.Status, len(body), condition.name, condition.value)
			}
		}
	}

	w.revoke(cert, 1)
	life.Revoked()
	_, before := w.do("GET", shard, nil)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, body := w.do("GET", shard, nil); !bytes.Equal(body, before) {
			before = body
			break
		}
	}
	crl, err := x509.ParseRevocationList(before)
	w.ok(err)
	if len(crl.RevokedCertificateEntries) != 1 || crl.RevokedCertificateEntries[0].SerialNumber.Cmp(cert.SerialNumber) != 0 {
		t.Errorf("the shard lists %v", crl.RevokedCertificateEntries)
	}
	// A cache is not told to keep it longer than it says itself.
	w.advance(23 * time.Hour)
	if resp, _ := w.do("GET", shard, nil); !strings.HasPrefix(resp.Header.Get("Cache-Control"), "max-age=3") {
		t.Errorf("an hour before its end: %v", resp.Header)
	}
	w.advance(2 * time.Hour)
	if resp, _ := w.do("GET", shard, nil); !strings.HasPrefix(resp.Header.Get("Cache-Control"), "max-age=0,") {
		t.Errorf("after its end: %v", resp.Header)
	}
}

func TestPaths(t *testing.T) {
	w := newWorld(t)
	w.publish()
	for path, status := range map[string]int{
		"/aia/iss.cer": 200, "/crl/iss.crl": 200, "/crl/iss/1.crl": 200, "/crl/iss/4.crl": 200,
		"/crl/iss/0.crl": 404, "/crl/iss/5.crl": 404, "/crl/iss/01.crl": 404, "/crl/iss/+1.crl": 404, "/crl/iss/.crl": 404, "/crl/iss/1": 404,
		"/crl/iss": 404, "/crl/other.crl": 404, "/crl/other/1.crl": 404, "/crl/": 404, "/crl/iss/1/2.crl": 404, "/crl/../iss.crl": 404,
		"/aia/iss": 404, "/aia/other.cer": 404, "/ocsp/other": 404, "/ocsp/": 404,
	} {
		if resp, _ := w.do("GET", w.http.URL+path, nil); resp.StatusCode != status {
			t.Errorf("%s: %s, want %d", path, resp.Status, status)
		}
	}
	resp, body := w.do("GET", w.http.URL+"/aia/iss.cer", nil)
	if !bytes.Equal(body, w.issuer.Chain()[0].Raw) || resp.Header.Get("Content-Type") != "application/pkix-cert" {
		t.Errorf("%v", resp.Header)
	}
	for _, path := range []string{"/crl/iss.crl", "/aia/iss.cer"} {
		if resp, _ := w.do("POST", w.http.URL+path, nil); resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("POST %s: %v", path, resp)
		}
	}
	for path, want := range map[string]bool{"/crl/x": true, "/ocsp/x//y": true, "/aia/": true, "/crl": false, "/roots.pem": false, "/x/crl/": false} {
		if Serves(path) != want {
			t.Errorf("Serves(%s) is %v", path, !want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t)
	log := slog.New(slog.DiscardHandler)
	for name, config := range map[string]Config{
		"no store":  {Log: log},
		"no log":    {Store: w.store},
		"no signer": {Store: w.store, Log: log, Issuers: map[string]*issuer.Local{issuerID: w.issuer}},
	} {
		if _, err := New(config); err == nil {
			t.Errorf("%s: made", name)
		}
	}
}
