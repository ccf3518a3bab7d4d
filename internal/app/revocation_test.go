package app

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/certctl/certctl/internal/pki"
)

// TestPointersAreServed follows what stands in a certificate of the server: what is
// advertised works.
func TestPointersAreServed(t *testing.T) {
	cfg, err := parse(t, "--data-dir", t.TempDir(), "--public-url", "http://pki.test")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listen, cfg.PublicListen = "127.0.0.1:0", "127.0.0.1:0"
	s := &server{cfg: *cfg, log: slog.New(slog.DiscardHandler)}
	defer s.close()
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.lifecycle.Run(running) }()
	defer func() { stop(); <-done }()

	tlsCert, err := s.cert.Get(nil)
	if err != nil {
		t.Fatal(err)
	}
	cert, issuing := tlsCert.Leaf, s.issuers[localIssuer].Chain()[0]
	do := func(method, url string, body []byte) *httptest.ResponseRecorder {
		t.Helper()
		path, ok := strings.CutPrefix(url, "http://pki.test/")
		if !ok {
			t.Fatalf("a pointer to %s", url)
		}
		r := httptest.NewRequest(method, "/"+path, bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/ocsp-request")
		recorder := httptest.NewRecorder()
		s.listeners.public.handler.ServeHTTP(recorder, r)
		return recorder
	}
	if got := do("GET", cert.IssuingCertificateURL[0], nil); !bytes.Equal(got.Body.Bytes(), issuing.Raw) {
		t.Errorf("%d", got.Code)
	}
	serial, err := pki.FormatSerial(cert.SerialNumber)
	if err != nil {
		t.Fatal(err)
	}
	if want := s.issuers[localIssuer].Pointers(serial).CRL[0]; cert.CRLDistributionPoints[0] != want || !strings.HasPrefix(want, "http://pki.test/crl/iss-local/") {
		t.Errorf("the CRL is at %s, want %s", cert.CRLDistributionPoints, want)
	}
	for _, url := range []string{cert.CRLDistributionPoints[0], "http://pki.test/crl/iss-local.crl", "http://pki.test/crl/iss-local/64.crl"} {
		got := do("GET", url, nil)
		for ; got.Code == http.StatusServiceUnavailable; got = do("GET", url, nil) {
			time.Sleep(10 * time.Millisecond)
		}
		crl, err := x509.ParseRevocationList(got.Body.Bytes())
		if err != nil || crl.CheckSignatureFrom(issuing) != nil {
			t.Errorf("%s: %d, %v", url, got.Code, err)
		}
	}
	request, err := ocsp.CreateRequest(cert, issuing, nil)
	if err != nil {
		t.Fatal(err)
	}
	encoded := "/" + base64.StdEncoding.EncodeToString(request)
	for _, got := range []*httptest.ResponseRecorder{
		do("POST", cert.OCSPServer[0], request), do("GET", cert.OCSPServer[0]+encoded, nil), do("GET", cert.OCSPServer[0]+"/"+encoded, nil),
	} {
		answer, err := ocsp.ParseResponseForCert(got.Body.Bytes(), cert, issuing)
		if err != nil || answer.Status != ocsp.Good {
			t.Errorf("%d, %v", got.Code, err)
		}
	}
	if got := do("GET", "http://pki.test/roots.pem", nil); got.Code != http.StatusOK {
		t.Errorf("roots: %d", got.Code)
	}
}
