package acmeserver

import (
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

// renewalInfo answers when a certificate should be renewed (RFC 9773, Section
// 4.1). Anybody may ask.
func (s *Server) renewalInfo(r *request) (*response, error) {
	cert, err := s.byCertID(r, r.args[0])
	if err != nil {
		return nil, err
	}
	now := s.cfg.Store.Now()
	if !cert.NotAfter.After(now) {
		return nil, noSuch("certificate in use")
	}
	info := &acme.RenewalInfo{}
	window := policy.RenewalWindow(cert.Serial, cert.NotBefore, cert.NotAfter)
	switch {
	case !cert.RevokedAt.IsZero():
		window = policy.RevokedWindow(cert.NotBefore, cert.RevokedAt)
	case !cert.Renewal.From.IsZero():
		window = policy.Window{Start: cert.Renewal.From, End: cert.Renewal.Until}
		info.ExplanationURL = cert.Renewal.ExplanationURL
	}
	info.SuggestedWindow.Start, info.SuggestedWindow.End = window.Start.UTC(), window.End.UTC()
	poll := policy.RenewalPoll(s.cfg.ARIPollInterval, now, cert.NotAfter)
	return &response{body: info, retryAfter: poll, cacheFor: min(poll, time.Minute)}, nil
}

// byCertID finds a certificate by its identifier.
func (s *Server) byCertID(r *request, text string) (*store.Certificate, error) {
	id, err := acme.ParseCertID(text)
	if err != nil {
		return nil, err
	}
	cert, err := s.cfg.Store.Certificate(r.Context(), id.Serial)
	if errors.Is(err, store.ErrNotFound) {
		return nil, noSuch("certificate")
	}
	if err != nil {
		return nil, err
	}
	if !s.issuedBy(cert, id) || !s.reaches(r, cert.ProfileID) {
		return nil, noSuch("certificate")
	}
	return cert, nil
}

// reaches reports whether a profile is that of the directory in the URL, or one
// that an order under it may select.
func (s *Server) reaches(r *request, profileID string) bool {
	if profileID == r.profile {
		return true
	}
	rules, err := s.cfg.Store.Profile(r.Context(), r.profile)
	return err == nil && slices.Contains(rules.Profile().OfferedProfiles, profileID)
}

// issuedBy reports whether the identifier names the certificate's issuer.
func (s *Server) issuedBy(cert *store.Certificate, id acme.CertID) bool {
	signer, ok := s.cfg.Issuers[cert.IssuerID]
	return ok && hex.EncodeToString(signer.Chain()[0].SubjectKeyId) == id.KeyID
}

// replaced checks the certificate that an order says it renews (RFC 9773, Section
// 5): it is the same account's and shares a name with the order.
func (s *Server) replaced(r *request, certID string, ids []acme.Identifier) (serial string, err error) {
	id, err := acme.ParseCertID(certID)
	if err != nil {
		return "", err
	}
	cert, err := s.cfg.Store.Certificate(r.Context(), id.Serial)
	if errors.Is(err, store.ErrNotFound) || err == nil && (cert.AccountID != r.account.ID || !s.issuedBy(cert, id)) {
		return "", acme.Unauthorized("the certificate that the order replaces is not one of this account")
	}
	if err != nil {
		return "", err
	}
	for _, name := range cert.Names {
		for _, id := range ids {
			if id.Value == name {
				return cert.Serial, nil
			}
		}
	}
	return "", acme.Malformed("the certificate that the order replaces has none of its names")
}
