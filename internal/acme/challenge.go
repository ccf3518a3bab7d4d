package acme

import (
	"encoding/base64"
	"fmt"
	"io"
	"time"
)

// ChallengeType names a way to prove control of an identifier
// (RFC 8555, Section 9.7.8).
type ChallengeType string

// The challenge types this server runs.
const (
	HTTP01    ChallengeType = "http-01"     // RFC 8555, Section 8.3
	DNS01     ChallengeType = "dns-01"      // RFC 8555, Section 8.4
	TLSALPN01 ChallengeType = "tls-alpn-01" // RFC 8737
)

// Proves reports whether the challenge can prove control of an identifier. A
// wildcard stands for every name below one, for which no single host can speak
// (RFC 8555, Section 8.3); an address has no DNS record (RFC 8738, Section 7).
func (t ChallengeType) Proves(id Identifier) bool {
	switch t {
	case HTTP01, TLSALPN01:
		return !id.Wildcard()
	case DNS01:
		return id.Type == DNS
	default:
		return false
	}
}

// TrustedToken is the token of the challenges in authorizations that were born
// valid. No key authorization is ever checked against it; it is there because
// some clients refuse a challenge without one.
const TrustedToken = "authorized-by-profile-no-challenge-was-run"

// Challenge is one way to fulfil an authorization (RFC 8555, Section 7.1.5).
type Challenge struct {
	Type        ChallengeType
	Token       string
	RespondedAt time.Time // the client said that it is ready
	ValidatedAt time.Time
	Problem     *Problem
}

// Status derives the challenge's state (RFC 8555, Section 7.1.6).
func (c *Challenge) Status() Status {
	switch {
	case c.Problem != nil:
		return StatusInvalid
	case !c.ValidatedAt.IsZero():
		return StatusValid
	case !c.RespondedAt.IsZero():
		return StatusProcessing
	default:
		return StatusPending
	}
}

// NewToken returns a challenge token with 256 bits of entropy in the base64url
// alphabet (RFC 8555, Section 8.1 asks for 128).
func NewToken(random io.Reader) (string, error) {
	var b [32]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("challenge token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b[:]), nil
}
