package acme

// A Directory tells clients the URL of each ACME operation: "this should be
// the only URL needed to configure clients" (RFC 8555, Section 7.1.1). What is
// not served is left empty and so is absent.
type Directory struct {
	NewNonce   string `json:"newNonce"`
	NewAccount string `json:"newAccount"`
	NewOrder   string `json:"newOrder"`
	// "If the ACME server does not implement pre-authorization (Section 7.4.1),
	// it MUST omit the 'newAuthz' field of the directory."
	NewAuthz   string `json:"newAuthz,omitempty"`
	RevokeCert string `json:"revokeCert"`
	KeyChange  string `json:"keyChange"`
	// The base URL of renewal information (RFC 9773, Section 3).
	RenewalInfo string `json:"renewalInfo,omitempty"`
	// "Each field in the object is an item of metadata relating to the service
	// provided by the ACME server."
	Meta *Meta `json:"meta,omitempty"`
}

// Meta is the "meta" of a directory (RFC 8555, Section 7.1.1).
type Meta struct {
	// "A URL identifying the current terms of service."
	TermsOfService string `json:"termsOfService,omitempty"`
	// "An HTTP or HTTPS URL locating a website providing more information about
	// the ACME server."
	Website string `json:"website,omitempty"`
	// "The hostnames that the ACME server recognizes as referring to itself for
	// the purposes of CAA record validation."
	CAAIdentities []string `json:"caaIdentities,omitempty"`
	// "If this field is present and set to 'true', then the CA requires that
	// all newAccount requests include an 'externalAccountBinding' field."
	ExternalAccountRequired bool `json:"externalAccountRequired,omitempty"`
	// "Indicates if an ACME server supports authorization of subdomains"
	// (RFC 9444, Section 4.4).
	SubdomainAuthAllowed bool `json:"subdomainAuthAllowed,omitempty"`
	// "A map of profile names to URLs" (draft-ietf-acme-profiles, Section 3).
	Profiles map[string]string `json:"profiles,omitempty"`
}
