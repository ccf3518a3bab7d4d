package acme

import (
	"encoding/json"
	"time"
)

// AccountRequest is the payload of newAccount and of an account update
// (RFC 8555, Sections 7.3, 7.3.2 and 7.3.6).
type AccountRequest struct {
	// "An array of URLs that the server can use to contact the client for
	// issues related to this account." In an update, nil leaves the contacts as
	// they are and an empty array removes them.
	Contact []string `json:"contact,omitempty"`
	// "Including this field in a newAccount request, with a value of true,
	// indicates the client's agreement with the terms of service."
	TermsOfServiceAgreed bool `json:"termsOfServiceAgreed,omitempty"`
	// "If this field is present with the value 'true', then the server MUST NOT
	// create a new account if one does not already exist."
	OnlyReturnExisting bool `json:"onlyReturnExisting,omitempty"`
	// "Including this field in a newAccount request indicates approval by the
	// holder of an existing non-ACME account to bind that account to this ACME
	// account." For ParseEAB.
	ExternalAccountBinding json.RawMessage `json:"externalAccountBinding,omitempty"`
	// "The server MUST ignore any updates to [...] the 'status' field (except
	// as allowed by Section 7.3.6)": "deactivated".
	Status Status `json:"status,omitempty"`
}

// AccountObject is the body of answers about an account (RFC 8555,
// Section 7.1.2).
type AccountObject struct {
	// "Possible values are 'valid', 'deactivated', and 'revoked'."
	Status Status `json:"status"`
	// "An array of URLs that the server can use to contact the client for
	// issues related to this account."
	Contact []string `json:"contact,omitempty"`
	// "The client's agreement with the terms of service."
	TermsOfServiceAgreed bool `json:"termsOfServiceAgreed,omitempty"`
	// "The account object the CA returns MUST include an
	// 'externalAccountBinding' field with the same value as the field in the
	// request", and must not when the binding was not verified (Section 7.3.4).
	ExternalAccountBinding json.RawMessage `json:"externalAccountBinding,omitempty"`
	// "A URL from which a list of orders submitted by this account can be
	// fetched via a POST-as-GET request."
	Orders string `json:"orders"`
}

// OrdersList is the body behind the "orders" of an account: "a JSON object
// whose 'orders' field is an array of URLs" (RFC 8555, Section 7.1.2.1).
type OrdersList struct {
	Orders []string `json:"orders"`
}

// OrderRequest is the payload of newOrder: "a subset of the order object"
// (RFC 8555, Section 7.4).
type OrderRequest struct {
	// "An array of identifier objects that the client wishes to submit an order
	// for." As sent: ParseIdentifier has not seen them.
	Identifiers []OrderRequestIdentifier `json:"identifiers"`
	// "The requested value of the notBefore field in the certificate, in the
	// date format defined in [RFC3339]."
	NotBefore *time.Time `json:"notBefore,omitempty"`
	// "The requested value of the notAfter field in the certificate, in the
	// date format defined in [RFC3339]."
	NotAfter *time.Time `json:"notAfter,omitempty"`
	// "A string uniquely identifying a previously issued certificate that this
	// order is intended to replace" (RFC 9773, Section 5).
	Replaces string `json:"replaces,omitempty"`
	// "A string uniquely identifying the profile which will be used to affect
	// issuance of the certificate requested by this Order"
	// (draft-ietf-acme-profiles, Section 4).
	Profile string `json:"profile,omitempty"`
}

// OrderObject is the body of answers about an order (RFC 8555, Section 7.1.3).
type OrderObject struct {
	// "Possible values are 'pending', 'ready', 'processing', 'valid', and
	// 'invalid'."
	Status Status `json:"status"`
	// "The timestamp after which the server will consider this order invalid."
	Expires time.Time `json:"expires,omitzero"`
	// "An array of identifier objects that the order pertains to."
	Identifiers []Identifier `json:"identifiers"`
	// "The requested value of the notBefore field in the certificate."
	NotBefore time.Time `json:"notBefore,omitzero"`
	// "The requested value of the notAfter field in the certificate."
	NotAfter time.Time `json:"notAfter,omitzero"`
	// "The error that occurred while processing the order, if any."
	Error *Problem `json:"error,omitempty"`
	// "For pending orders, the authorizations that the client needs to complete
	// before the requested certificate can be issued [...] For final orders
	// [...], the authorizations that were completed."
	Authorizations []string `json:"authorizations"`
	// "A URL that a CSR must be POSTed to once all of the order's
	// authorizations are satisfied to finalize the order."
	Finalize string `json:"finalize"`
	// "A URL for the certificate that has been issued in response to this
	// order."
	Certificate string `json:"certificate,omitempty"`
	// If the server accepts the field, "it MUST reflect that field in the
	// response" (RFC 9773, Section 5).
	Replaces string `json:"replaces,omitempty"`
	// "The server responds with an Order object including the selected
	// profile" (draft-ietf-acme-profiles, Section 4).
	Profile string `json:"profile,omitempty"`
}

// FinalizeRequest is the payload of a request to an order's finalize URL
// (RFC 8555, Section 7.4).
type FinalizeRequest struct {
	// "A CSR encoding the parameters for the certificate being requested. The
	// CSR is sent in the base64url-encoded version of the DER format."
	CSR Base64URL `json:"csr"`
}

// AuthorizationRequest is the payload of newAuthz (RFC 8555, Section 7.4.1).
type AuthorizationRequest struct {
	// "The identifier to appear in the resulting authorization object."
	Identifier struct {
		Identifier
		// "An ACME client sets this flag to indicate to the server that it is
		// requesting an authorization for the subdomains subordinate to the
		// specified domain identifier value" (RFC 9444, Section 4.2).
		SubdomainAuthAllowed bool `json:"subdomainAuthAllowed,omitempty"`
	} `json:"identifier"`
}

// OrderRequestIdentifier is an identifier in a newOrder request.
type OrderRequestIdentifier struct {
	Identifier
	// "This is an ancestor domain of the requested identifier. The client MUST be
	// able to fulfill a challenge against the ancestor domain" (RFC 9444, Section
	// 4.3).
	AncestorDomain string `json:"ancestorDomain,omitempty"`
}

// AuthorizationUpdate is the payload of a request to an authorization:
// "the static object {"status": "deactivated"}" (RFC 8555, Section 7.5.2).
type AuthorizationUpdate struct {
	Status Status `json:"status"`
}

// AuthorizationObject is the body of answers about an authorization (RFC 8555,
// Section 7.1.4).
type AuthorizationObject struct {
	// "The identifier that the account is authorized to represent." Never with
	// the wildcard label: see Identifier.Base.
	Identifier Identifier `json:"identifier"`
	// "Possible values are 'pending', 'valid', 'invalid', 'deactivated',
	// 'expired', and 'revoked'."
	Status Status `json:"status"`
	// "The timestamp after which the server will consider this authorization
	// invalid."
	Expires time.Time `json:"expires,omitzero"`
	// "For pending authorizations, the challenges that the client can fulfill
	// [...]. For valid authorizations, the challenge that was validated. For
	// invalid authorizations, the challenge that was attempted and failed."
	Challenges []ChallengeObject `json:"challenges"`
	// "This field MUST be present and true for authorizations created as a
	// result of a newOrder request containing a DNS identifier with a value that
	// was a wildcard domain name. For other authorizations, it MUST be absent."
	Wildcard bool `json:"wildcard,omitempty"`
	// "If present, this field MUST be true for authorizations where ACME server
	// policy allows certificates to be issued for any subdomain subordinate to
	// the domain specified in the identifier field" (RFC 9444, Section 4.1).
	SubdomainAuthAllowed bool `json:"subdomainAuthAllowed,omitempty"`
}

// ChallengeObject is the body of answers about a challenge (RFC 8555,
// Section 8).
type ChallengeObject struct {
	// "The type of challenge encoded in the object."
	Type ChallengeType `json:"type"`
	// "The URL to which a response can be posted."
	URL string `json:"url"`
	// "Possible values are 'pending', 'processing', 'valid', and 'invalid'."
	Status Status `json:"status"`
	// "The time at which the server validated this challenge."
	Validated time.Time `json:"validated,omitzero"`
	// "Error that occurred while the server was validating the challenge, if
	// any. [...] A challenge object with an error MUST have status equal to
	// 'invalid'."
	Error *Problem `json:"error,omitempty"`
	// "A random value that uniquely identifies the challenge" (Section 8.3).
	Token string `json:"token"`
}

// RevocationRequest is the payload of revokeCert (RFC 8555, Section 7.6).
type RevocationRequest struct {
	// "The certificate to be revoked, in the base64url-encoded version of the
	// DER format."
	Certificate Base64URL `json:"certificate"`
	// "One of the revocation reasonCodes defined in Section 5.3.1 of [RFC5280]
	// [...]. If this field is not set, the server SHOULD omit the reasonCode CRL
	// entry extension."
	Reason *int `json:"reason,omitempty"`
}

// RenewalInfo says when a certificate had best be renewed (RFC 9773,
// Section 4.2).
type RenewalInfo struct {
	// "Two keys, 'start' and 'end', whose values are timestamps, [...] which
	// bound the window of time in which the CA recommends renewing the
	// certificate."
	SuggestedWindow RenewalWindow `json:"suggestedWindow"`
	// "A URL pointing to a page that may explain why the suggested renewal
	// window has its current value."
	ExplanationURL string `json:"explanationURL,omitempty"`
}

// RenewalWindow is the window of a RenewalInfo: "a RenewalInfo object in which
// the end timestamp equals or precedes the start timestamp is invalid".
type RenewalWindow struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}
