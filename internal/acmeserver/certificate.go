package acmeserver

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/netip"
	"strconv"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/store"
)

// certificate answers with a certificate and a chain, without the root
// (RFC 8555, Section 7.4.2): the default chain, or at /cert/SERIAL/N another that
// carries the certificate.
func (s *Server) certificate(r *request) (*response, error) {
	if len(r.payload) > 0 {
		return nil, notAsGet()
	}
	cert, err := s.cfg.Store.Certificate(r.Context(), r.args[0])
	if errors.Is(err, store.ErrNotFound) || err == nil && (cert.AccountID != r.account.ID || cert.ProfileID != r.profile) {
		return nil, noSuch("certificate")
	}
	if err != nil {
		return nil, err
	}
	chains, err := s.cfg.Store.OfferedChains(r.Context(), cert)
	if errors.Is(err, store.ErrNotFound) {
		return nil, acme.ServerInternal("the issuer of this certificate is not there")
	}
	if err != nil {
		return nil, err
	}
	chosen := 0
	if len(r.args) > 1 {
		chosen, err = strconv.Atoi(r.args[1])
		if err != nil || chosen < 1 || chosen >= len(chains) || strconv.Itoa(chosen) != r.args[1] {
			return nil, noSuch("chain")
		}
	}
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.DER})
	resp := &response{pem: append(leaf, chains[chosen].PEM()...)}
	for i := range chains {
		switch {
		case i == chosen:
		case i == 0:
			resp.links = append(resp.links, acme.Link{Rel: "alternate", URL: r.resourceURL("cert", cert.Serial)})
		default:
			resp.links = append(resp.links, acme.Link{Rel: "alternate", URL: r.resourceURL("cert", cert.Serial, strconv.Itoa(i))})
		}
	}
	return resp, nil
}

// revokeCert revokes a certificate for its account or for the holder of its key
// (RFC 8555, Section 7.6).
func (s *Server) revokeCert(r *request) (*response, error) {
	var req struct {
		Certificate acme.Base64URL `json:"certificate"`
		Reason      *int           `json:"reason"`
	}
	if err := acme.UnmarshalPayload(r.payload, &req); err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(req.Certificate)
	if err != nil {
		return nil, acme.Malformed("the certificate cannot be parsed")
	}
	reason := 0
	if req.Reason != nil {
		reason = *req.Reason
	}
	if !pki.ValidReason(reason) {
		return nil, acme.BadRevocationReason("the reason code %d is not accepted; accepted are 0, 1, 3, 4, 5 and 9 (RFC 5280, Section 5.3.1)", reason)
	}
	cert, err := s.issued(r, parsed)
	if err != nil {
		return nil, err
	}
	actor := audit.CertificateKey(cert.Serial)
	if r.account != nil {
		actor = audit.Account(r.account.ID)
	}
	if err := s.mayRevoke(r, cert, parsed.PublicKey); err != nil {
		return nil, err
	}
	err = s.cfg.Store.RevokeCertificate(r.Context(), actor, cert.Serial, reason)
	if errors.Is(err, store.ErrConflict) {
		return nil, acme.AlreadyRevoked("the certificate is revoked already")
	}
	if err != nil {
		return nil, err
	}
	s.cfg.Lifecycle.Revoked()
	return &response{}, nil
}

// issued finds the very certificate that was sent among those we issued.
func (s *Server) issued(r *request, parsed *x509.Certificate) (*store.Certificate, error) {
	serial, err := pki.FormatSerial(parsed.SerialNumber)
	if err != nil {
		return nil, noSuch("certificate")
	}
	cert, err := s.cfg.Store.Certificate(r.Context(), serial)
	if errors.Is(err, store.ErrNotFound) || err == nil && !bytes.Equal(cert.DER, parsed.Raw) {
		return nil, noSuch("certificate")
	}
	return cert, err
}

// accountMayRevoke lets an account revoke what was issued to it, and what it holds
// validated authorizations for, all names of it, under the certificate's profile.
// An authorization by trust proves nothing and gives no right over others'.
func (s *Server) accountMayRevoke(r *request, cert *store.Certificate) error {
	if cert.AccountID == r.account.ID {
		return nil
	}
	ids := make([]acme.Identifier, len(cert.Names))
	for i, name := range cert.Names {
		ids[i] = acme.Identifier{Type: acme.DNS, Value: name}
		if _, err := netip.ParseAddr(name); err == nil {
			ids[i].Type = acme.IP
		}
	}
	holds, err := s.cfg.Store.HoldsAuthorizations(r.Context(), r.account.ID, cert.ProfileID, ids)
	if err == nil && !holds {
		err = acme.Unauthorized("the certificate was not issued to this account, which has not validated all of its names under profile %q either", cert.ProfileID)
	}
	return err
}

func (s *Server) mayRevoke(r *request, cert *store.Certificate, key crypto.PublicKey) error {
	if cert.ProfileID == "" || !s.reaches(r, cert.ProfileID) {
		return acme.Unauthorized("the certificate was not issued under profile %q", r.profile)
	}
	if r.account != nil {
		return s.accountMayRevoke(r, cert)
	}
	own, ok := key.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !own.Equal(r.key.Public()) {
		return acme.Unauthorized("the request is signed neither by the certificate's account nor with its key")
	}
	return nil
}
