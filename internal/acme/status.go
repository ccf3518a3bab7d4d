package acme

// Status is the state of an account, order, authorization or challenge
// (RFC 8555, Section 7.1.6). It is never stored: every status is derived from
// recorded facts and the time.
type Status string

// The statuses of RFC 8555, Section 7.1.6.
const (
	StatusPending     Status = "pending"
	StatusReady       Status = "ready"
	StatusProcessing  Status = "processing"
	StatusValid       Status = "valid"
	StatusInvalid     Status = "invalid"
	StatusDeactivated Status = "deactivated"
	StatusExpired     Status = "expired"
	StatusRevoked     Status = "revoked"
)
