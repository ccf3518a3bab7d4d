package admin

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/store"
)

// CertificateStatus is the state of a certificate now.
type CertificateStatus string

// The states of a certificate.
const (
	CertificateValid   CertificateStatus = "valid"
	CertificateNotYet  CertificateStatus = "not_yet_valid"
	CertificateExpired CertificateStatus = "expired"
	CertificateRevoked CertificateStatus = "revoked"
)

// Certificate is an issued certificate as the API shows it. It has no account,
// profile and order when it is the server's own.
type Certificate struct {
	Serial           string            `json:"serial" doc:"32 lower-case hexadecimal digits."`
	Status           CertificateStatus `json:"status" enum:"valid,not_yet_valid,expired,revoked"`
	Names            []string          `json:"names" nullable:"false"`
	IssuerID         string            `json:"issuer_id"`
	ProfileID        string            `json:"profile_id,omitempty"`
	AccountID        string            `json:"account_id,omitempty"`
	OrderID          string            `json:"order_id,omitempty"`
	NotBefore        time.Time         `json:"not_before"`
	NotAfter         time.Time         `json:"not_after"`
	IssuedAt         time.Time         `json:"issued_at"`
	RevokedAt        *time.Time        `json:"revoked_at,omitempty"`
	RevocationReason *int              `json:"revocation_reason,omitempty" doc:"RFC 5280, Section 5.3.1."`
	KeyType          string            `json:"key_type,omitempty" doc:"Not in lists."`
	SHA256           string            `json:"sha256,omitempty" doc:"Of the certificate, hexadecimal; not in lists."`
	PEM              string            `json:"pem,omitempty" doc:"The certificate and its issuers but the root, as ACME clients get them; not in lists."`
}

// CertificateQuery selects certificates; empty fields select all.
type CertificateQuery struct {
	AccountID string `query:"account_id"`
	ProfileID string `query:"profile_id"`
	Name      string `query:"name" doc:"One of the certificate's names or addresses."`
	Page
}

type (
	certificatePath struct {
		Serial string `path:"serial" doc:"32 lower-case hexadecimal digits."`
	}
	certificateOutput      struct{ Body Certificate }
	revokeCertificateInput struct {
		Serial string `path:"serial" doc:"32 lower-case hexadecimal digits."`
		Body   struct {
			Reason int `json:"reason,omitempty" doc:"RFC 5280, Section 5.3.1: 0 unspecified, 1 keyCompromise, 3 affiliationChanged, 4 superseded, 5 cessationOfOperation, 9 privilegeWithdrawn."`
		}
	}
)

func (a *API) registerCertificates() {
	tags := []string{"Certificates"}
	register(a, huma.Operation{OperationID: "list-certificates", Method: http.MethodGet, Path: "/certificates", Tags: tags,
		Summary: "List certificates, the newest first"}, a.listCertificates)
	register(a, huma.Operation{OperationID: "get-certificate", Method: http.MethodGet, Path: "/certificates/{serial}", Tags: tags,
		Summary: "Show a certificate", Errors: []int{http.StatusNotFound}}, a.getCertificate)
	register(a, huma.Operation{OperationID: "revoke-certificate", Method: http.MethodPost, Path: "/certificates/{serial}/revoke", Tags: tags,
		Summary: "Revoke a certificate for good", Errors: []int{http.StatusNotFound, http.StatusConflict}}, a.revokeCertificate)
}

func showCertificate(c *store.Certificate, now time.Time) Certificate {
	view := Certificate{
		Serial:    c.Serial,
		Status:    CertificateValid,
		Names:     c.Names,
		IssuerID:  c.IssuerID,
		ProfileID: c.ProfileID,
		AccountID: c.AccountID,
		OrderID:   c.OrderID,
		NotBefore: c.NotBefore,
		NotAfter:  c.NotAfter,
		IssuedAt:  c.IssuedAt,
		RevokedAt: when(c.RevokedAt),
	}
	switch {
	case view.RevokedAt != nil:
		view.Status = CertificateRevoked
		view.RevocationReason = &c.Reason
	case now.After(c.NotAfter):
		view.Status = CertificateExpired
	case now.Before(c.NotBefore):
		view.Status = CertificateNotYet
	}
	return view
}

func (a *API) listCertificates(ctx context.Context, in *CertificateQuery) (*listOutput[Certificate], error) {
	all, err := a.cfg.Store.Certificates(ctx, store.CertificateQuery{
		AccountID: in.AccountID, ProfileID: in.ProfileID, Name: canonicalName(in.Name), Before: in.Before, Limit: in.Limit + 1})
	if err != nil {
		return nil, err
	}
	now := a.cfg.Store.Now()
	return pageOf(all, in.Limit, func(c *store.Certificate) string { return c.Serial },
		func(c *store.Certificate) Certificate { return showCertificate(c, now) }), nil
}

// certificate answers with the certificate as it is stored now.
func (a *API) certificate(ctx context.Context, serial string) (*certificateOutput, error) {
	c, err := a.cfg.Store.Certificate(ctx, serial)
	if err != nil {
		return nil, missing(err, "certificate with the serial", serial)
	}
	view := showCertificate(c, a.cfg.Store.Now())
	parsed, err := x509.ParseCertificate(c.DER)
	if err != nil {
		return nil, fmt.Errorf("stored certificate %s: %w", serial, err)
	}
	if keyType, err := pki.KeyTypeOf(parsed.PublicKey); err == nil {
		view.KeyType = string(keyType)
	}
	sum := sha256.Sum256(c.DER)
	view.SHA256 = hex.EncodeToString(sum[:])
	chains, err := a.cfg.Store.OfferedChains(ctx, c)
	if err != nil {
		return nil, err
	}
	view.PEM = string(pki.EncodePEM(parsed)) + string(chains[0].PEM())
	return &certificateOutput{view}, nil
}

func (a *API) getCertificate(ctx context.Context, in *certificatePath) (*certificateOutput, error) {
	return a.certificate(ctx, in.Serial)
}

func (a *API) revokeCertificate(ctx context.Context, in *revokeCertificateInput) (*certificateOutput, error) {
	c, err := a.cfg.Store.Certificate(ctx, in.Serial)
	if err != nil {
		return nil, missing(err, "certificate with the serial", in.Serial)
	}
	if !pki.ValidReason(in.Body.Reason) {
		return nil, problem(http.StatusUnprocessableEntity, "reason: %d is not a reason that a certificate can be revoked for", in.Body.Reason)
	}
	err = a.cfg.Store.RevokeCertificate(ctx, actor(ctx), c.Serial, in.Body.Reason)
	if errors.Is(err, store.ErrConflict) {
		return nil, problem(http.StatusConflict, "the certificate %s is revoked already", c.Serial)
	}
	if err != nil {
		return nil, err
	}
	a.cfg.Revoked(c.IssuerID)
	return a.certificate(ctx, c.Serial)
}
