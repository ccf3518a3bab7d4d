package acme

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// registered are the error types that RFC 8555, Section 6.7 and the RFCs after it
// have in the registry of IANA, and the one that draft-ietf-acme-profiles,
// Section 6.3 puts there.
var registered = []string{
	"accountDoesNotExist", "alreadyRevoked", "badCSR", "badNonce", "badPublicKey", "badRevocationReason", "badSignatureAlgorithm",
	"caa", "compound", "connection", "dns", "externalAccountRequired", "incorrectResponse", "invalidContact", "malformed",
	"orderNotReady", "rateLimited", "rejectedIdentifier", "serverInternal", "tls", "unauthorized", "unsupportedContact",
	"unsupportedIdentifier", "userActionRequired",
	"alreadyReplaced", // RFC 9773, Section 7.4
	"invalidProfile",
}

// TestErrorTypesAreRegistered: "Servers MUST NOT use the ACME URN namespace for
// errors not listed in the appropriate IANA registry" (RFC 8555, Section 6.7).
func TestErrorTypesAreRegistered(t *testing.T) {
	source, err := os.ReadFile("problem.go")
	if err != nil {
		t.Fatal(err)
	}
	uses := regexp.MustCompile(`errorNamespace\s*\+\s*"(\w+)"`).FindAllSubmatch(source, -1)
	for _, use := range uses {
		if name := string(use[1]); !slices.Contains(registered, name) {
			t.Errorf("%s is not registered", name)
		}
	}
	if len(uses) != len(registered) {
		t.Errorf("%d types, want the %d that are registered", len(uses), len(registered))
	}
}
