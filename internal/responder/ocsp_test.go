package responder

import (
	"bytes"
	"crypto"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"

	"github.com/certctl/certctl/internal/lifecycle"
	"github.com/certctl/certctl/internal/pki"
)

func (w *world) request(cert *x509.Certificate, hash crypto.Hash) []byte {
	w.Helper()
	der, err := ocsp.CreateRequest(cert, w.issuer.Chain()[0], &ocsp.RequestOptions{Hash: hash})
	w.ok(err)
	return der
}

// withNonce adds a nonce to a plain request.
func withNonce(t testing.TB, request, nonce []byte) []byte {
	t.Helper()
	input := cryptobyte.String(request)
	var outer, tbs cryptobyte.String
	if !input.ReadASN1(&outer, cbasn1.SEQUENCE) || !outer.ReadASN1(&tbs, cbasn1.SEQUENCE) {
		t.Fatal("not a request")
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(tbs)
			b.AddBytes(nonceExtensions(nonce, 2))
		})
	})
	return b.BytesOrPanic()
}

// nonceExtensions is Extensions with a nonce under an explicit tag.
func nonceExtensions(nonce []byte, tag uint8) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.Tag(tag).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier([]int{1, 3, 6, 1, 5, 5, 7, 48, 1, 2})
				b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nonce) })
			})
		})
	})
	return b.BytesOrPanic()
}

func (w *world) post(der []byte) (*http.Response, []byte) {
	w.Helper()
	return w.do("POST", w.http.URL+"/ocsp/iss", der, "Content-Type", "application/ocsp-request")
}

func (w *world) get(der []byte, headers ...string) (*http.Response, []byte) {
	w.Helper()
	return w.do("GET", w.http.URL+"/ocsp/iss/"+url.QueryEscape(base64.StdEncoding.EncodeToString(der)), nil, headers...)
}

// status reads the answer about a certificate, and verifies it.
func (w *world) status(cert *x509.Certificate, body []byte) *ocsp.Response {
	w.Helper()
	read, err := ocsp.ParseResponseForCert(body, cert, w.issuer.Chain()[0])
	if err != nil {
		w.Fatalf("%x: %v", body, err)
	}
	if read.SerialNumber.Cmp(cert.SerialNumber) != 0 {
		w.Errorf("the answer is about %x", read.SerialNumber)
	}
	return read
}

func TestOCSP(t *testing.T) {
	w := newWorld(t)
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		cert := w.certificate()
		request := w.request(cert, hash)
		resp, body := w.post(request)
		got, first := w.get(request)
		if !bytes.Equal(body, first) {
			t.Error("GET and POST are answered differently")
		}
		good := w.status(cert, body)
		if good.Status != ocsp.Good || good.IssuerHash != hash || good.NextUpdate.Sub(good.ThisUpdate) != ocspLife {
			t.Errorf("%+v", good)
		}
		sum := sha1.Sum(body)
		for _, resp := range []*http.Response{resp, got} {
			h := resp.Header
			if resp.StatusCode != 200 || h.Get("Content-Type") != "application/ocsp-response" || resp.ContentLength != int64(len(body)) ||
				h.Get("Last-Modified") != good.ProducedAt.Format(http.TimeFormat) || h.Get("ETag") != `"`+hex.EncodeToString(sum[:])+`"` ||
				h.Get("Expires") != good.NextUpdate.Format(http.TimeFormat) || h.Get("Date") == "" || h.Get("Replay-Nonce") != "" ||
				h.Get("Cache-Control") != "max-age=3600, public, no-transform, must-revalidate" {
				t.Errorf("%s %v", resp.Status, h)
			}
		}
		if resp, body := w.get(request, "If-None-Match", got.Header.Get("ETag")); resp.StatusCode != 304 || len(body) > 0 {
			t.Errorf("the same again: %s", resp.Status)
		}

		w.revoke(cert, pki.ReasonKeyCompromise)
		for _, ask := range []func() (*http.Response, []byte){
			func() (*http.Response, []byte) { return w.post(request) },
			func() (*http.Response, []byte) { return w.get(request) },
			func() (*http.Response, []byte) { return w.get(request, "If-None-Match", got.Header.Get("ETag")) },
			// The second in which the answer before was made has not passed.
			func() (*http.Response, []byte) {
				return w.get(request, "If-Modified-Since", got.Header.Get("Last-Modified"))
			},
		} {
			resp, body := ask()
			if resp.StatusCode != 200 {
				t.Errorf("after the revocation: %s", resp.Status)
				continue
			}
			revoked := w.status(cert, body)
			if revoked.Status != ocsp.Revoked || revoked.RevocationReason != ocsp.KeyCompromise || revoked.RevokedAt.After(revoked.ThisUpdate) ||
				revoked.ThisUpdate.Sub(revoked.RevokedAt) > 10*time.Second {
				t.Errorf("%+v", revoked)
			}
		}
	}
}

// TestOCSPRefuses: every error status comes with 200, and no cache may keep it.
func TestOCSPRefuses(t *testing.T) {
	w := newWorld(t)
	other := newWorld(t)
	cert := w.certificate()
	plain := w.request(cert, crypto.SHA1)
	never := *cert
	never.SerialNumber = new(big.Int).Add(cert.SerialNumber, big.NewInt(1))
	small := *cert
	small.SerialNumber = big.NewInt(1)
	leadingZero := bytes.Replace(plain, append([]byte{2, 16}, cert.SerialNumber.Bytes()...), append([]byte{2, 17, 0}, cert.SerialNumber.Bytes()...), 1)
	for i := range 5 { // the tags around it are one byte longer
		leadingZero[[]int{1, 3, 5, 7, 9}[i]]++
	}
	hidden := w.certificate(func(l *pki.Leaf) { l.Point(w.issuer.Pointers(l.Serial).WithoutRevocation()) })
	var noResponder ocsp.ResponseError
	for _, test := range []struct {
		name    string
		request []byte
		want    ocsp.ResponseStatus
	}{
		{"nothing", nil, ocsp.Malformed},
		{"text", []byte("status?"), ocsp.Malformed},
		{"cut short", plain[:len(plain)-1], ocsp.Malformed},
		{"a tail", append(bytes.Clone(plain), 0), ocsp.Malformed},
		{"a leading zero in the serial", leadingZero, ocsp.Malformed},
		{"a nonce of 0 octets", withNonce(t, plain, nil), ocsp.Malformed},
		{"a nonce of 129 octets", withNonce(t, plain, make([]byte, 129)), ocsp.Malformed},
		{"never issued", w.request(&never, crypto.SHA1), ocsp.Unauthorized},
		{"a serial of another CA", w.request(&small, crypto.SHA1), ocsp.Unauthorized},
		{"another issuer", other.request(cert, crypto.SHA1), ocsp.Unauthorized},
		{"another issuer, SHA-256", other.request(cert, crypto.SHA256), ocsp.Unauthorized},
		{"another hash", w.request(cert, crypto.SHA384), ocsp.Unauthorized},
		{"no revocation information", w.request(hidden, crypto.SHA1), ocsp.Unauthorized},
		{"no revocation information, with a nonce", withNonce(t, w.request(hidden, crypto.SHA1), []byte{1}), ocsp.Unauthorized},
		{"never issued, with a nonce", withNonce(t, w.request(&never, crypto.SHA1), []byte{1}), ocsp.Unauthorized},
	} {
		for method, ask := range map[string]func([]byte) (*http.Response, []byte){
			"POST": w.post, "GET": func(der []byte) (*http.Response, []byte) { return w.get(der) },
		} {
			resp, body := ask(test.request)
			_, err := ocsp.ParseResponse(body, nil)
			if !errors.As(err, &noResponder) || noResponder.Status != test.want || resp.StatusCode != 200 ||
				resp.Header.Get("Content-Type") != "application/ocsp-response" || resp.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s, %s: %s %x, %v, want %v", method, test.name, resp.Status, body, err, test.want)
			}
		}
	}
	w.revoke(hidden, 1) // is recorded, and tells nobody
	if _, body := w.post(w.request(hidden, crypto.SHA1)); !bytes.Equal(body, ocsp.UnauthorizedErrorResponse) {
		t.Errorf("%x", body)
	}
	w.store.Close()
	if resp, body := w.post(plain); !bytes.Equal(body, ocsp.InternalErrorErrorResponse) || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("without a database: %x", body)
	}
}

func TestOCSPTransport(t *testing.T) {
	w := newWorld(t)
	cert := w.certificate()
	request := w.request(cert, crypto.SHA256)
	encoded := base64.StdEncoding.EncodeToString(request)
	// One whose base64 has "//" and "+", which a path cleaner would ruin.
	nonce := bytes.Repeat([]byte{0xff, 0xff, 0xef, 0xbe}, 8)
	odd := base64.StdEncoding.EncodeToString(withNonce(t, request, nonce))
	for shift := 0; !strings.Contains(odd, "//") || !strings.Contains(odd, "+"); shift++ {
		if shift == 3 {
			t.Fatal("no such nonce")
		}
		nonce = append([]byte{0xff}, nonce...)
		odd = base64.StdEncoding.EncodeToString(withNonce(t, request, nonce))
	}
	u := w.http.URL + "/ocsp/iss"
	const media = "application/ocsp-request"
	for _, test := range []struct {
		name, method, url string
		body              []byte
		media             string
		status            int
	}{
		{"escaped", "GET", u + "/" + url.QueryEscape(odd), nil, "", 200},
		{"escaped as a path", "GET", u + "/" + url.PathEscape(odd), nil, "", 200},
		{"as it is", "GET", u + "/" + odd, nil, "", 200},
		{"after a slash too many", "GET", u + "//" + odd, nil, "", 200},
		{"HEAD", "HEAD", u + "/" + encoded, nil, "", 200},
		{"POST", "POST", u, request, media, 200},
		{"POST with a parameter", "POST", u, request, "Application/OCSP-Request; charset=binary", 200},
		{"POST to a slash", "POST", u + "/", request, media, 200},
		{"POST to a request", "POST", u + "/" + encoded, request, media, 404},
		{"POST of a form", "POST", u, request, "application/x-www-form-urlencoded", 415},
		{"POST without a type", "POST", u, request, "", 415},
		{"large", "POST", u, make([]byte, pki.MaxOCSPRequest+1), media, 413},
		{"PUT", "PUT", u, request, media, 405},
		{"OPTIONS", "OPTIONS", u, nil, "", 405},
	} {
		resp, body := w.do(test.method, test.url, test.body, "Content-Type", test.media)
		if resp.StatusCode != test.status {
			t.Errorf("%s: %s", test.name, resp.Status)
		}
		switch {
		case test.status == 200 && test.method == "HEAD" && (len(body) > 0 || resp.ContentLength < 500):
			t.Errorf("%s: %v", test.name, resp)
		case test.status == 200 && test.method != "HEAD":
			w.status(cert, body)
		case test.status == 405 && resp.Header.Get("Allow") != "GET, HEAD, POST":
			t.Errorf("%s: %v", test.name, resp.Header)
		}
	}
	for _, bad := range []string{"", "%0a" + encoded, encoded[:20] + "%0d%0a" + encoded[20:], encoded + "!", strings.TrimRight(encoded, "=") + "!", "%25", encoded + "/" + encoded} {
		if _, body := w.do("GET", u+"/"+bad, nil); !bytes.Equal(body, ocsp.MalformedRequestErrorResponse) {
			t.Errorf("GET %s: %x", bad, body)
		}
	}
}

func TestOCSPNonce(t *testing.T) {
	w := newWorld(t)
	cert := w.certificate()
	plain := w.request(cert, crypto.SHA1)
	_, kept := w.post(plain)
	for _, n := range []int{1, 15, 16, 32, 33, 128} {
		nonce := bytes.Repeat([]byte{byte(n)}, n)
		request := withNonce(t, plain, nonce)
		resp, first := w.post(request)
		_, second := w.get(request)
		if bytes.Equal(first, second) {
			t.Errorf("%d octets: a kept answer", n)
		}
		for _, body := range [][]byte{first, second} {
			// responseExtensions is tagged 1.
			if w.status(cert, body).Status != ocsp.Good || !bytes.Contains(body, nonceExtensions(nonce, 1)) {
				t.Errorf("%d octets: the nonce is not in %x", n, body)
			}
		}
		// RFC 5019, Section 6.2: no "no-cache" and no "no-store" in an authoritative response.
		if cc := resp.Header.Get("Cache-Control"); cc != "max-age=0, private, no-transform, must-revalidate" || resp.Header.Get("ETag") != "" {
			t.Errorf("%d octets: %v", n, resp.Header)
		}
	}
	if _, again := w.post(plain); !bytes.Equal(again, kept) {
		t.Error("an answer to a nonce took the place of the kept one")
	}
	w.revoke(cert, 0)
	if _, body := w.post(withNonce(t, plain, []byte{1})); w.status(cert, body).Status != ocsp.Revoked {
		t.Error("not revoked")
	}
}

func TestOCSPIsRefreshed(t *testing.T) {
	w := newWorld(t)
	cert := w.certificate()
	request := w.request(cert, crypto.SHA1)
	ask := func() []byte {
		t.Helper()
		_, body := w.get(request)
		w.status(cert, body)
		return body
	}
	first := ask()
	w.advance(ocspRefresh - time.Minute)
	if resp, body := w.get(request); !bytes.Equal(first, body) || !strings.HasPrefix(resp.Header.Get("Cache-Control"), "max-age=3600,") {
		t.Errorf("signed again before half its life: %v", resp.Header)
	}
	w.advance(2 * time.Minute)
	second := ask()
	if bytes.Equal(first, second) || !w.status(cert, second).ThisUpdate.After(w.status(cert, first).ThisUpdate) {
		t.Error("not signed again after half its life")
	}
	// Another key signs.
	w.ok(w.store.RevokeCertificate(w.Context(), "api:test", w.signer.Current().Serial, 1))
	signer := w.signer.Current()
	w.renewed()
	if third := ask(); bytes.Equal(second, third) || bytes.Equal(w.status(cert, third).Certificate.Raw, signer.Certificate.Raw) {
		t.Error("an answer of the key before is given")
	}
}

// renewed restarts the responder, which takes a new key when its own is revoked.
func (w *world) renewed() {
	w.Helper()
	signer, err := lifecycle.NewOCSPSigner(w.Context(), w.store, w.issuer)
	w.ok(err)
	w.handler.issuers[issuerID].ocsp = signer
}

// TestOCSPEndsWithItsSigner: no answer outlives the certificate that it is verified with.
func TestOCSPEndsWithItsSigner(t *testing.T) {
	w := newWorld(t)
	cert := w.certificate()
	end := w.signer.Current().Certificate.NotAfter
	w.advance(end.Sub(w.store.Now()) - time.Hour)
	resp, body := w.post(w.request(cert, crypto.SHA1))
	if got := w.status(cert, body).NextUpdate; !got.Equal(end) {
		t.Errorf("the next update is %v, the certificate ends %v", got, end)
	}
	if cc := resp.Header.Get("Cache-Control"); !strings.HasPrefix(cc, "max-age=35") {
		t.Errorf("%s", cc)
	}
	w.advance(2 * time.Hour)
	if _, body := w.post(w.request(cert, crypto.SHA1)); !bytes.Equal(body, ocsp.InternalErrorErrorResponse) {
		t.Errorf("after the end of the signer: %x", body)
	}
}

// TestOCSPWhileRevoking asks all the time while certificates are revoked: an answer
// to a request that was sent after a revocation was acknowledged says so.
func TestOCSPWhileRevoking(t *testing.T) {
	w := newWorld(t)
	const rounds, askers = 20, 4
	for range rounds {
		cert := w.certificate()
		requests := [][]byte{w.request(cert, crypto.SHA1), w.request(cert, crypto.SHA256)}
		var acknowledged atomic.Bool
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for asker := range askers {
			wg.Go(func() {
				for {
					before := acknowledged.Load()
					rec := httptest.NewRecorder()
					r := httptest.NewRequest("POST", "/ocsp/iss", bytes.NewReader(requests[asker%2]))
					r.Header.Set("Content-Type", "application/ocsp-request")
					w.handler.ServeHTTP(rec, r)
					answer, err := ocsp.ParseResponseForCert(rec.Body.Bytes(), cert, w.issuer.Chain()[0])
					if err != nil || before && answer.Status != ocsp.Revoked {
						t.Errorf("asked after the revocation: %+v, %v", answer, err)
						return
					}
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
		w.revoke(cert, 1)
		acknowledged.Store(true)
		for _, request := range requests {
			if _, body := w.get(request); w.status(cert, body).Status != ocsp.Revoked {
				t.Error("the next answer is not that it is revoked")
			}
		}
		close(stop)
		wg.Wait()
	}
}

// TestOpenSSL has another implementation ask over HTTP and verify, with and without
// a nonce, and check the chain with the CRL that the certificate points to.
func TestOpenSSL(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	write := func(name string, der []byte) string {
		path := filepath.Join(dir, name)
		w.ok(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
		return path
	}
	root, issuing := write("root.pem", w.issuer.Root().Raw), write("issuing.pem", w.issuer.Chain()[0].Raw)
	good, revoked := w.certificate(), w.certificate()
	w.revoke(revoked, pki.ReasonKeyCompromise)
	run := func(args ...string) string {
		out, err := exec.Command("openssl", args...).CombinedOutput()
		return fmt.Sprintf("%s%v", out, err)
	}
	goodPath, revokedPath := write("good.pem", good.Raw), write("revoked.pem", revoked.Raw)
	for _, options := range []struct{ hash, nonce string }{{"-sha1", "-nonce"}, {"-sha1", "-no_nonce"}, {"-sha256", "-nonce"}, {"-sha256", "-no_nonce"}} {
		for path, want := range map[string]string{goodPath: "good.pem: good", revokedPath: "revoked.pem: revoked"} {
			// The hash is for the -cert behind it.
			out := run("ocsp", options.hash, "-issuer", issuing, "-cert", path, options.nonce, "-url", good.OCSPServer[0], "-CAfile", root)
			if !strings.Contains(out, "Response verify OK") || !strings.Contains(out, want) || strings.Contains(out, "WARNING") {
				t.Errorf("%v: %s", options, out)
			}
			if strings.Contains(want, "revoked") && !strings.Contains(out, "Reason: keyCompromise") {
				t.Errorf("%v: %s", options, out)
			}
		}
	}
	w.publish()
	for path, want := range map[string]string{goodPath: "OK", revokedPath: "certificate revoked"} {
		for _, crl := range []string{map[string]*x509.Certificate{goodPath: good, revokedPath: revoked}[path].CRLDistributionPoints[0], w.http.URL + CRLPath(issuerID)} {
			_, der := w.do("GET", crl, nil)
			file := filepath.Join(dir, "crl.pem")
			w.ok(os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), 0o600))
			if out := run("crl", "-in", file, "-CAfile", issuing, "-noout"); !strings.Contains(out, "verify OK") {
				t.Errorf("%s: %s", crl, out)
			}
			if out := run("verify", "-crl_check", "-extended_crl", "-CRLfile", file, "-CAfile", root, "-untrusted", issuing, path); !strings.Contains(out, want) {
				t.Errorf("%s with %s: %s", path, crl, out)
			}
		}
	}
}

// BenchmarkOCSP answers from memory, through the handler.
func BenchmarkOCSP(b *testing.B) {
	w := newWorld(b)
	path := "/ocsp/iss/" + url.QueryEscape(base64.StdEncoding.EncodeToString(w.request(w.certificate(), crypto.SHA1)))
	benchmark(b, w, path)
}

// BenchmarkCRL tells who has the CRL that it is the newest.
func BenchmarkCRL(b *testing.B) {
	w := newWorld(b)
	w.publish()
	resp, _ := w.do("GET", w.http.URL+"/crl/iss.crl", nil)
	benchmark(b, w, "/crl/iss.crl", "If-None-Match", resp.Header.Get("ETag"))
}

func benchmark(b *testing.B, w *world, path string, header ...string) {
	r := httptest.NewRequest("GET", path, nil)
	if len(header) > 0 {
		r.Header.Set(header[0], header[1])
	}
	b.ReportAllocs()
	for b.Loop() {
		w.handler.ServeHTTP(discard{http.Header{}}, r)
	}
}

type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}
