package responder

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl/internal/lifecycle"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/store"
)

const (
	ocspLife    = 24 * time.Hour // from this update to the next
	ocspRefresh = ocspLife / 2   // signed anew when older
	// ocspMaxAge is how long HTTP caches may keep an answer, and so how long a
	// revocation takes to get past them.
	ocspMaxAge = time.Hour

	ocspRequestType  = "application/ocsp-request"
	ocspResponseType = "application/ocsp-response"
)

// errNotOurs says that the responder has no record of a certificate.
var errNotOurs = errors.New("no record of the certificate")

// ocsp answers an OCSP request, which is the rest of the path in base64 or the body
// (RFC 6960, Appendix A). What OCSP has an error status for is answered with 200:
// clients read the body of nothing else.
func (s *Responder) ocsp(w http.ResponseWriter, r *http.Request, of *served, encoded string) {
	der, status := readOCSP(w, r, encoded)
	if status != 0 {
		http.Error(w, http.StatusText(status), status)
		return
	}
	request, err := pki.ParseOCSPRequest(der)
	if err != nil {
		refuse(w, pki.OCSPMalformedRequest)
		return
	}
	answer, err := s.answer(r.Context(), of, request)
	switch {
	case errors.Is(err, errNotOurs) || errors.Is(err, store.ErrNotFound):
		refuse(w, pki.OCSPUnauthorized)
		return
	case err != nil:
		if r.Context().Err() == nil {
			s.cfg.Log.Error("OCSP request was not answered", "issuer", of.id, "serial", request.CertID.Serial, "error", err)
		}
		refuse(w, pki.OCSPInternalError)
		return
	}
	s.give(w, r, request, answer)
}

// readOCSP returns the request in DER, or the HTTP status that refuses it.
func readOCSP(w http.ResponseWriter, r *http.Request, encoded string) (der []byte, status int) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		// Clients append "/" and the base64 to the URL, some to one that ends in "/".
		encoded = strings.TrimLeft(encoded, "/")
		// RFC 5019, Section 5: no CR or LF, which the decoder would skip.
		if strings.ContainsAny(encoded, "\r\n") {
			return nil, 0
		}
		der, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return nil, 0 // no request: malformedRequest
		}
		return der, 0
	case http.MethodPost:
		if encoded != "" {
			return nil, http.StatusNotFound
		}
		if media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(media), ocspRequestType) {
			return nil, http.StatusUnsupportedMediaType
		}
		der, err := io.ReadAll(http.MaxBytesReader(w, r.Body, pki.MaxOCSPRequest))
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return nil, http.StatusRequestEntityTooLarge
		}
		if err != nil {
			return nil, http.StatusBadRequest
		}
		return der, 0
	}
	w.Header().Set("Allow", "GET, HEAD, POST")
	return nil, http.StatusMethodNotAllowed
}

// refuse answers with an error status. It is signed by nobody and must not be
// cached (RFC 5019, Section 6.2).
func refuse(w http.ResponseWriter, status pki.OCSPErrorStatus) {
	body := status.Response()
	w.Header().Set("Content-Type", ocspResponseType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // a client that is gone is no error of ours
}

// answer returns the answer to a request. One with a nonce is signed for this
// request alone. Of a certificate that another issuer signed, and of one that says
// itself that nothing will be known of its revocation, there is no record here.
func (s *Responder) answer(ctx context.Context, of *served, request *pki.OCSPRequest) (*store.OCSPAnswer, error) {
	id := &request.CertID
	if id.Serial == "" || !of.hashes.Issued(id) {
		return nil, errNotOurs
	}
	key := of.ocsp.Current()
	now := s.cfg.Store.Now() // before the status is read, which so is known to have been correct then
	sign := func(status store.RevocationStatus) (*store.OCSPAnswer, error) {
		if status.IssuerID != of.id || status.NoRevAvail {
			return nil, errNotOurs
		}
		return sign(of.id, key, request, status, now)
	}
	if request.Nonce != nil {
		status, err := s.cfg.Store.RevocationStatus(ctx, id.Serial)
		if err != nil {
			return nil, err
		}
		return sign(status)
	}
	return s.cfg.Store.OCSPAnswer(ctx, id.Serial, id.Form(), func(kept *store.OCSPAnswer) bool {
		return kept.Signer == key.Serial && kept.IssuerID == of.id && now.Sub(kept.ThisUpdate) < ocspRefresh && now.Before(kept.NextUpdate)
	}, sign)
}

// sign says what is recorded of a certificate.
func sign(issuerID string, key *lifecycle.OCSPKey, request *pki.OCSPRequest, status store.RevocationStatus, now time.Time) (*store.OCSPAnswer, error) {
	if status.RevokedAt.After(now) {
		now = status.RevokedAt
	}
	now = now.Truncate(time.Second)
	next := now.Add(ocspLife)
	if end := key.Certificate.NotAfter; next.After(end) {
		next = end
	}
	response := pki.OCSPResponse{CertID: &request.CertID, RevokedAt: status.RevokedAt, Reason: status.Reason,
		ThisUpdate: now, NextUpdate: next, Nonce: request.Nonce}
	der, err := response.Sign(rand.Reader, key.Certificate, key.Key)
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum(der) // as RFC 5019, Section 6.2 recommends
	return &store.OCSPAnswer{IssuerID: issuerID, Signer: key.Serial, DER: der, ETag: `"` + hex.EncodeToString(sum[:]) + `"`,
		ThisUpdate: now, NextUpdate: next}, nil
}

// give writes an answer with the headers of RFC 5019, Section 5. An answer to a
// nonce is of use to nobody else.
func (s *Responder) give(w http.ResponseWriter, r *http.Request, request *pki.OCSPRequest, answer *store.OCSPAnswer) {
	h := w.Header()
	if request.Nonce != nil {
		h.Set("Cache-Control", "max-age=0, private, no-transform, must-revalidate")
	} else {
		h.Set("ETag", answer.ETag)
		h.Set("Expires", answer.NextUpdate.UTC().Format(http.TimeFormat))
		cached(w, min(ocspMaxAge, answer.NextUpdate.Sub(s.cfg.Store.Now())-time.Second))
	}
	h.Set("Last-Modified", answer.ThisUpdate.UTC().Format(http.TimeFormat))
	if r.Method != http.MethodPost {
		// Judged by the ETag only: a revocation may come in the second of the answer before.
		serve(w, r, ocspResponseType, time.Time{}, answer.DER)
		return
	}
	h.Set("Content-Type", ocspResponseType)
	h.Set("Content-Length", strconv.Itoa(len(answer.DER)))
	_, _ = w.Write(answer.DER) // a client that is gone is no error of ours
}
