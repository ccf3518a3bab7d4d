// Package audit defines the events of the audit log: what happened, to what,
// by whom. Every change of state writes one in its own transaction; an event
// is never changed or removed.
package audit

import (
	"encoding/json"
	"time"
)

// Event is one entry of the audit log.
type Event struct {
	ID           string          `json:"id"`
	Actor        string          `json:"actor"`
	Action       Action          `json:"action"`
	ResourceType string          `json:"resource_type"`
	ResourceID   string          `json:"resource_id"`
	Details      json.RawMessage `json:"details"`
	CreatedAt    time.Time       `json:"created_at"`
}

// Action says what was done.
type Action string

// The actions. Users query them; a name, once released, stays.
const (
	AccountCreated        Action = "acme_account_created"
	AccountContactUpdated Action = "acme_account_contact_updated"
	AccountTermsAgreed    Action = "acme_account_terms_agreed"
	AccountDeactivated    Action = "acme_account_deactivated"
	AccountKeyRolled      Action = "acme_account_key_rolled"
	AccountEABBound       Action = "acme_account_eab_bound"

	OrderCreated             Action = "acme_order_created"
	OrderFinalized           Action = "acme_order_finalized"
	OrderFailed              Action = "acme_order_failed"
	AuthorizationCreated     Action = "acme_authorization_created"
	AuthorizationDeactivated Action = "acme_authorization_deactivated"
	ChallengeProcessing      Action = "acme_challenge_processing"
	ChallengeCompleted       Action = "acme_challenge_completed"

	CertificateIssued  Action = "certificate_issued"
	CertificateRevoked Action = "certificate_revoked"
	RenewalSet         Action = "certificate_renewal_set"

	CRLPublished Action = "crl_published"

	IssuerCSRCreated      Action = "issuer_csr_created"
	IssuerChainAdded      Action = "issuer_chain_added"
	IssuerChainRemoved    Action = "issuer_chain_removed"
	IssuerDefaultChainSet Action = "issuer_default_chain_set"

	ServerStarted   Action = "server_started"
	IssuerCreated   Action = "issuer_created"
	ProfileCreated  Action = "profile_created"
	ProfileUpdated  Action = "profile_updated"
	ProfileArchived Action = "profile_archived"
	EABKeyCreated   Action = "eab_key_created"
	EABKeyDisabled  Action = "eab_key_disabled"
	APIKeyCreated   Action = "api_key_created"
	APIKeyDisabled  Action = "api_key_disabled"
)

// TimeFormat is how an event's time is written: RFC 3339 in UTC with
// milliseconds, so that text order is time order.
const TimeFormat = "2006-01-02T15:04:05.000Z"

// Account names an ACME account as actor.
func Account(id string) string { return "acme:" + id }

// CertificateKey names the holder of a certificate's key as actor.
func CertificateKey(serial string) string { return "acme-cert-key:" + serial }

// System names a background task as actor.
func System(task string) string { return "acme-system:" + task }

// APIKey names the holder of an API key as actor.
func APIKey(name string) string { return "api:" + name }
