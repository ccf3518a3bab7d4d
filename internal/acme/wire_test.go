package acme

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestRequests reads the payloads of RFC 8555's examples.
func TestRequests(t *testing.T) {
	var account AccountRequest
	if err := UnmarshalPayload([]byte(`{"termsOfServiceAgreed":true,"contact":["mailto:cert-admin@example.org","mailto:admin@example.org"],
		"orders":"ignored","externalAccountBinding":{"protected":"","payload":"","signature":""}}`), &account); err != nil {
		t.Fatal(err)
	}
	if !account.TermsOfServiceAgreed || len(account.Contact) != 2 || account.OnlyReturnExisting ||
		string(account.ExternalAccountBinding) != `{"protected":"","payload":"","signature":""}` {
		t.Errorf("%+v", account)
	}

	// In an update an empty array removes the contacts and absence leaves them.
	for payload, want := range map[string]bool{`{}`: true, `{"contact":null}`: true, `{"contact":[]}`: false} {
		var update AccountRequest
		if err := UnmarshalPayload([]byte(payload), &update); err != nil || (update.Contact == nil) != want {
			t.Errorf("%s: %#v, %v", payload, update.Contact, err)
		}
	}

	var order OrderRequest
	if err := UnmarshalPayload([]byte(`{"identifiers":[{"type":"dns","value":"www.example.org"},{"type":"dns","value":"example.org"}],
		"notBefore":"2016-01-01T00:04:00+04:00","notAfter":"2016-01-08T00:04:00+04:00","replaces":"aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"}`), &order); err != nil {
		t.Fatal(err)
	}
	if len(order.Identifiers) != 2 || order.Identifiers[0].Identifier != (Identifier{DNS, "www.example.org"}) ||
		!order.NotBefore.Equal(time.Date(2015, 12, 31, 20, 4, 0, 0, time.UTC)) || order.Replaces == "" || order.Profile != "" {
		t.Errorf("%+v", order)
	}
	for _, payload := range []string{
		`{"notBefore":"2016-01-01"}`, `{"notBefore":1451606400}`, `{"notBefore":"tomorrow"}`, `{"identifiers":{}}`,
		`{"identifiers":["example.org"]}`, `{"identifiers":[{"type":1}]}`, `{"identifiers":[{"type":"dns","type":"ip"}]}`,
	} {
		wantProblem(t, UnmarshalPayload([]byte(payload), new(OrderRequest)), ErrMalformed, "payload")
	}

	var revoke RevocationRequest
	if err := UnmarshalPayload([]byte(`{"certificate":"MIIEDTCCAvegAwIBAgIRAP8","reason":0}`), &revoke); err != nil || revoke.Reason == nil || *revoke.Reason != 0 || revoke.Certificate[0] != 0x30 {
		t.Errorf("%+v, %v", revoke, err)
	}
	if err := UnmarshalPayload([]byte(`{"certificate":"MIIE"}`), &revoke); err != nil {
		t.Error(err)
	}
	wantProblem(t, UnmarshalPayload([]byte(`{"csr":"MIIE=="}`), new(FinalizeRequest)), ErrMalformed, "padding")
}

// TestObjects writes the examples of RFC 8555, Sections 7.1.1 to 7.1.4, but for
// members at their default, which are left out.
func TestObjects(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, test := range []struct {
		name  string
		value any
		want  string
	}{
		{"directory", Directory{
			NewNonce: "https://example.com/acme/new-nonce", NewAccount: "https://example.com/acme/new-account",
			NewOrder: "https://example.com/acme/new-order", NewAuthz: "https://example.com/acme/new-authz",
			RevokeCert: "https://example.com/acme/revoke-cert", KeyChange: "https://example.com/acme/key-change",
			Meta: &Meta{TermsOfService: "https://example.com/acme/terms/2017-5-30", Website: "https://www.example.com/", CAAIdentities: []string{"example.com"}},
		}, `{"newNonce":"https://example.com/acme/new-nonce","newAccount":"https://example.com/acme/new-account",
			"newOrder":"https://example.com/acme/new-order","newAuthz":"https://example.com/acme/new-authz",
			"revokeCert":"https://example.com/acme/revoke-cert","keyChange":"https://example.com/acme/key-change",
			"meta":{"termsOfService":"https://example.com/acme/terms/2017-5-30","website":"https://www.example.com/","caaIdentities":["example.com"]}}`},
		{"bare directory", Directory{}, `{"newNonce":"","newAccount":"","newOrder":"","revokeCert":"","keyChange":""}`},
		{"account", AccountObject{
			Status: StatusValid, Contact: []string{"mailto:cert-admin@example.org", "mailto:admin@example.org"},
			TermsOfServiceAgreed: true, Orders: "https://example.com/acme/orders/rzGoeA",
		}, `{"status":"valid","contact":["mailto:cert-admin@example.org","mailto:admin@example.org"],
			"termsOfServiceAgreed":true,"orders":"https://example.com/acme/orders/rzGoeA"}`},
		{"order", OrderObject{
			Status: StatusValid, Expires: at("2016-01-20T14:09:07.99Z"),
			Identifiers: []Identifier{{DNS, "www.example.org"}, {DNS, "example.org"}},
			NotBefore:   at("2016-01-01T00:00:00Z"), NotAfter: at("2016-01-08T00:00:00Z"),
			Authorizations: []string{"https://example.com/acme/authz/PAniVnsZcis", "https://example.com/acme/authz/r4HqLzrSrpI"},
			Finalize:       "https://example.com/acme/order/TOlocE8rfgo/finalize", Certificate: "https://example.com/acme/cert/mAt3xBGaobw",
		}, `{"status":"valid","expires":"2016-01-20T14:09:07.99Z",
			"identifiers":[{"type":"dns","value":"www.example.org"},{"type":"dns","value":"example.org"}],
			"notBefore":"2016-01-01T00:00:00Z","notAfter":"2016-01-08T00:00:00Z",
			"authorizations":["https://example.com/acme/authz/PAniVnsZcis","https://example.com/acme/authz/r4HqLzrSrpI"],
			"finalize":"https://example.com/acme/order/TOlocE8rfgo/finalize","certificate":"https://example.com/acme/cert/mAt3xBGaobw"}`},
		{"authorization", AuthorizationObject{
			Status: StatusValid, Expires: at("2015-03-01T14:09:07.99Z"), Identifier: Identifier{DNS, "www.example.org"},
			Challenges: []ChallengeObject{{
				Type: HTTP01, URL: "https://example.com/acme/chall/prV_B7yEyA4", Status: StatusValid,
				Token: "DGyRejmCefe7v4NfDGDKfA", Validated: at("2014-12-01T12:05:58.16Z"),
			}},
		}, `{"identifier":{"type":"dns","value":"www.example.org"},"status":"valid","expires":"2015-03-01T14:09:07.99Z",
			"challenges":[{"type":"http-01","url":"https://example.com/acme/chall/prV_B7yEyA4","status":"valid",
			"validated":"2014-12-01T12:05:58.16Z","token":"DGyRejmCefe7v4NfDGDKfA"}]}`},
		{"renewal information", RenewalInfo{
			SuggestedWindow: RenewalWindow{at("2025-01-02T04:00:00Z"), at("2025-01-03T04:00:00Z")},
			ExplanationURL:  "https://acme.example.com/docs/ari",
		}, `{"suggestedWindow":{"start":"2025-01-02T04:00:00Z","end":"2025-01-03T04:00:00Z"},"explanationURL":"https://acme.example.com/docs/ari"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := json.Marshal(test.value)
			want := strings.NewReplacer("\n", "", "\t", "").Replace(test.want)
			if err != nil || string(got) != want {
				t.Errorf("%s, %v; want %s", got, err, want)
			}
		})
	}
}
