package admin

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/store"
)

func TestCreateProfile(t *testing.T) {
	f := newFixture(t)
	a := f.do("POST", "/profiles", f.admin, `{"id": "web", "acme_auth_mode": "challenge", "allowed_domains": ["WWW.example.com", ".test"],
		"max_ttl_seconds": 3600, "allow_wildcards": false, "eab_required": true}`).want(t, 201)
	if a.header.Get("ETag") != `"1"` {
		t.Errorf("ETag %s", a.header.Get("ETag"))
	}
	p := decode[Profile](t, a)
	if p.Name != "web" || p.IssuerID != "iss-local" || p.Revision != 1 || strings.Join(p.AllowedDomains, " ") != ".test www.example.com" ||
		p.MaxTTLSeconds != 3600 || p.DefaultTTLSeconds != 0 || !p.EABRequired || len(p.KeyTypes) == 0 || p.CreatedAt.IsZero() || p.Warnings == nil {
		t.Errorf("created %+v", p)
	}
	f.hasEvent("profile_created", "api:root", "web")
	if got := f.do("GET", "/profiles/web", f.auditor, "").want(t, 200).body; got != a.body {
		t.Errorf("shown %s, created %s", got, a.body)
	}
	f.do("POST", "/profiles", f.admin, `{"id": "open", "acme_auth_mode": "challenge", "allowed_domains": ["example.com"], "denied_domains": [".example.com"]}`).
		want(t, 201, `"warnings":["allowed_domains: \"example.com\" has no effect`)

	for _, tt := range []struct{ name, body, want string }{
		{"trust without names", `{"id": "x"}`, "must name its domains"},
		{"open", `{"id": "x", "allowed_domains": ["*"]}`, "would be open"},
		{"outside of the CA", `{"id": "x", "allowed_domains": [".example.org"]}`, "reaches beyond"},
		{"grammar", `{"id": "x", "allowed_domains": ["a..b"]}`, "allowed_domains"},
		{"issuer", `{"id": "x", "allowed_domains": [".test"], "issuer_id": "other"}`, `there is no issuer \"other\"`},
		{"id", `{"id": "Not An Id", "allowed_domains": [".test"]}`, "id:"},
		{"no id", `{"allowed_domains": [".test"]}`, "id"},
		{"mode", `{"id": "x", "allowed_domains": [".test"], "acme_auth_mode": "believe"}`, "body.acme_auth_mode"},
		{"challenge type", `{"id": "x", "allowed_domains": [".test"], "challenge_types": ["smoke-01"]}`, "body.challenge_types"},
		{"lifetime", `{"id": "x", "allowed_domains": [".test"], "max_ttl_seconds": 1}`, "max_ttl_seconds"},
		{"lifetime of astronomers", `{"id": "x", "allowed_domains": [".test"], "max_ttl_seconds": 1e300}`, ""},
		{"default lifetime", `{"id": "x", "allowed_domains": [".test"], "max_ttl_seconds": 3600, "default_ttl_seconds": 7200}`, "default_ttl_seconds"},
		{"type", `{"id": "x", "allowed_domains": ".test"}`, "body.allowed_domains"},
		{"null", `{"id": "x", "allowed_domains": null}`, "must name its domains"},
		{"what the store writes", `{"id": "x", "allowed_domains": [".test"], "revision": 7}`, "body.revision"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.do("POST", "/profiles", f.admin, tt.body).want(t, 422, tt.want)
		})
	}
	f.do("GET", "/profiles/x", f.admin, "").want(t, 404, `there is no profile \"x\"`)
	f.do("POST", "/profiles", f.admin, `{"id": "web", "allowed_domains": [".test"]}`).want(t, 409, "taken")
}

func TestUpdateProfile(t *testing.T) {
	f := newFixture(t)
	a := f.do("PATCH", "/profiles/default", f.admin, `{"name": "All", "denied_domains": ["no.test"]}`).want(t, 200, `"name":"All"`, `"no.test"`, `".test"`)
	if a.header.Get("ETag") != `"2"` {
		t.Errorf("ETag %s", a.header.Get("ETag"))
	}
	f.do("PATCH", "/profiles/default", f.admin, `{"denied_domains": []}`).want(t, 200, `"denied_domains":[]`, `"revision":3`)
	f.do("PATCH", "/profiles/default", f.admin, `{"denied_domains": []}`).want(t, 200, `"revision":3`) // nothing changed
	f.do("PATCH", "/profiles/default", f.admin, `{}`).want(t, 200, `"revision":3`)
	f.do("PATCH", "/profiles/default", f.admin, `{"allowed_domains": ["*"]}`).want(t, 422, "would be open")
	f.do("PATCH", "/profiles/default", f.admin, `{"issuer_id": "other"}`).want(t, 422, "no issuer")
	f.do("PATCH", "/profiles/default", f.admin, `{"id": "renamed"}`).want(t, 422, "body.id")
	f.do("PATCH", "/profiles/none", f.admin, `{"name": "x"}`).want(t, 404)
	f.hasEvent("profile_updated", "api:root", "default")

	match := func(value string) map[string]string { return map[string]string{"If-Match": value} }
	f.doWith("PATCH", "/profiles/default", f.admin, `{"name": "A"}`, match(`"2"`)).want(t, 412, `its ETag is now \"3\"`)
	f.doWith("PATCH", "/profiles/default", f.admin, `{"name": "A"}`, match(`W/"3"`)).want(t, 412)
	f.doWith("PATCH", "/profiles/default", f.admin, `{"name": "A"}`, match(`"2", "3"`)).want(t, 200, `"revision":4`)
	f.doWith("PATCH", "/profiles/default", f.admin, `{"name": "B"}`, match(`*`)).want(t, 200, `"revision":5`)
}

// TestUpdateProfileRace holds that of changes made at once each is either in the
// last revision or refused with 409.
func TestUpdateProfileRace(t *testing.T) {
	f := newFixture(t)
	var wg sync.WaitGroup
	statuses := make([]int, 8)
	for i := range statuses {
		wg.Go(func() {
			field := []string{`"denied_domains": ["no.test"]`, `"allow_wildcards": true`, `"eab_required": true`, `"max_ttl_seconds": 86401`}[i%4]
			statuses[i] = f.do("PATCH", "/profiles/default", f.admin, "{"+field+"}").status
		})
	}
	wg.Wait()
	p, err := f.store.StoredProfile(t.Context(), "default")
	f.noError(err)
	has := []bool{len(p.DeniedDomains) == 1, p.AllowWildcards, p.EABRequired, p.MaxTTLSeconds == 86401}
	for i, status := range statuses {
		if status != 200 && status != 409 {
			t.Errorf("status %d", status)
		}
		if status == 200 && !has[i%4] {
			t.Errorf("change %d was answered 200 and is lost: %+v", i, p)
		}
	}
}

// TestServerWideEAB holds that a setting of the server is not written into a
// profile by a change of something else.
func TestServerWideEAB(t *testing.T) {
	f := newFixture(t, func(c *store.Config) { c.EABRequired = true })
	f.do("PATCH", "/profiles/default", f.admin, `{"name": "x"}`).want(t, 200, `"eab_required":false`, `"revision":2`)
	f.do("GET", "/profiles/default", f.admin, "").want(t, 200, `"eab_required":false`)
	if rules, err := f.store.Profile(t.Context(), "default"); err != nil || !rules.Profile().EABRequired {
		t.Errorf("requests are decided without EAB: %v", err)
	}
}

func TestArchiveProfile(t *testing.T) {
	f := newFixture(t)
	f.do("DELETE", "/profiles/default", f.admin, "").want(t, 204)
	f.do("DELETE", "/profiles/default", f.admin, "").want(t, 409, "is archived")
	f.do("PATCH", "/profiles/default", f.admin, `{"name": "x"}`).want(t, 409, "is archived")
	f.do("DELETE", "/profiles/none", f.admin, "").want(t, 404)
	f.do("GET", "/profiles/default", f.admin, "").want(t, 200, `"archived_at"`)
	f.do("GET", "/profiles", f.admin, "").want(t, 200, `"items":[]`)
	f.do("GET", "/profiles?archived=true", f.admin, "").want(t, 200, `"id":"default"`)
	f.do("POST", "/profiles", f.admin, `{"id": "default", "allowed_domains": [".test"]}`).want(t, 409, "archived")
	f.do("POST", "/eab-keys", f.admin, `{"profile_ids": ["default"]}`).want(t, 422, "no profile")
}

func TestEABKeys(t *testing.T) {
	f := newFixture(t)
	a := f.do("POST", "/eab-keys", f.admin, `{"profile_ids": ["default"], "allowed_domains": ["A.test"]}`).want(t, 201, `"allowed_domains":["a.test"]`)
	key := decode[CreatedEABKey](t, a)
	secret, err := base64.RawURLEncoding.DecodeString(key.HMACKey)
	if err != nil || len(secret) != 32 || key.KeyID == "" || key.Reusable || key.CreatedAt.IsZero() {
		t.Errorf("created %+v, %v", key, err)
	}
	if stored, err := f.store.EABSecret(t.Context(), key.KeyID); err != nil || string(stored) != string(secret) {
		t.Errorf("stored another secret: %v", err)
	}
	list := f.do("GET", "/eab-keys", f.auditor, "").want(t, 200, key.KeyID)
	if strings.Contains(list.body, "hmac") || strings.Contains(list.body, key.HMACKey) {
		t.Errorf("the list tells the secret: %s", list.body)
	}

	one, other := f.account(), f.account()
	bind := "/eab-keys/" + key.KeyID + "/bindings"
	f.do("POST", bind, f.admin, `{"account_id": "`+one.ID+`"}`).want(t, 200, `"eab_bound":true`, `"eab_key_ids":["`+key.KeyID+`"]`)
	f.hasEvent("acme_account_eab_bound", "api:root", one.ID)
	f.do("POST", bind, f.admin, `{"account_id": "`+one.ID+`"}`).want(t, 200) // again
	f.do("POST", bind, f.admin, `{"account_id": "`+other.ID+`"}`).want(t, 409, "binds no more accounts")
	f.do("POST", bind, f.admin, `{"account_id": "nobody"}`).want(t, 404, "no account")
	f.do("POST", "/eab-keys/none/bindings", f.admin, `{"account_id": "`+one.ID+`"}`).want(t, 404, "no external account key")
	f.noError(f.store.DeactivateAccount(t.Context(), "api:test", other.ID))
	f.do("POST", bind, f.admin, `{"account_id": "`+other.ID+`"}`).want(t, 409, "deactivated")

	f.do("DELETE", "/eab-keys/"+key.KeyID, f.admin, "").want(t, 204)
	f.do("DELETE", "/eab-keys/"+key.KeyID, f.admin, "").want(t, 409, "disabled already")
	f.do("DELETE", "/eab-keys/none", f.admin, "").want(t, 404)
	f.do("GET", "/eab-keys", f.admin, "").want(t, 200, `"disabled_at"`, `"accounts":["`+one.ID+`"]`)

	for body, want := range map[string]string{
		`{"profile_ids": []}`:       "profile_ids",
		`{"profile_ids": null}`:     "profile_ids",
		`{}`:                        "profile_ids",
		`{"profile_ids": ["none"]}`: `no profile \"none\"`,
		`{"profile_ids": ["default"], "allowed_domains": ["a b"]}`:                  "allowed_domains",
		`{"profile_ids": ["default"], "allowed_domains": [".org"]}`:                 "reaches beyond",
		`{"profile_ids": ["default"], "expires_at": "2001-01-01T00:00:00Z"}`:        "has passed",
		`{"profile_ids": ["default"], "expires_at": "tomorrow"}`:                    "expires_at",
		`{"profile_ids": ["default"], "expires_at": "2001-01-01T00:00:00Z", "x":1}`: "body.x",
	} {
		f.do("POST", "/eab-keys", f.admin, body).want(t, 422, want)
	}
	future := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	f.do("POST", "/eab-keys", f.admin, `{"profile_ids": ["default"], "reusable": true, "expires_at": "`+future+`"}`).want(t, 201, future, `"reusable":true`)
}

func TestAccounts(t *testing.T) {
	f := newFixture(t)
	account := f.account("mailto:a@example.com")
	order, _ := f.order(account, true, "a.test")
	f.do("GET", "/accounts", f.auditor, "").want(t, 200, account.ID, `"status":"valid"`, `"mailto:a@example.com"`, account.Key.Thumbprint())
	f.do("GET", "/accounts/"+account.ID, f.auditor, "").want(t, 200, `"contacts":["mailto:a@example.com"]`)
	f.do("GET", "/accounts/nobody", f.admin, "").want(t, 404, `there is no account \"nobody\"`)
	f.do("POST", "/accounts/nobody/deactivate", f.admin, "").want(t, 404)
	f.do("POST", "/accounts/"+account.ID+"/deactivate", f.admin, "").want(t, 200, `"status":"deactivated"`, `"deactivated_at"`)
	f.hasEvent("acme_account_deactivated", "api:root", account.ID)
	f.do("POST", "/accounts/"+account.ID+"/deactivate", f.admin, "").want(t, 409, "deactivated already")
	f.do("GET", "/orders/"+order.ID, f.admin, "").want(t, 200, `"status":"invalid"`, "the account was deactivated")
}

func TestOrders(t *testing.T) {
	f := newFixture(t)
	alice, bob := f.account(), f.account()
	trusted, _ := f.order(alice, true, "a.test", "*.b.test")
	failed, authzs := f.order(bob, false, "fails.test")
	f.failValidation(&authzs[0])
	pending, _ := f.order(bob, false, "later.test")
	done, _ := f.order(alice, true, "done.test")
	serial := f.issue(done, time.Now().UTC().Truncate(time.Second), time.Now().UTC().Truncate(time.Second).Add(time.Hour))

	for _, tt := range []struct {
		query string
		want  []string // ids, newest first
	}{
		{"", []string{done.ID, pending.ID, failed.ID, trusted.ID}},
		{"?account_id=" + bob.ID, []string{pending.ID, failed.ID}},
		{"?name=A.test.", []string{trusted.ID}},
		{"?name=*.b.test", []string{trusted.ID}},
		{"?name=test", nil},
		{"?profile_id=default&name=fails.test", []string{failed.ID}},
		{"?profile_id=other", nil},
	} {
		list := decode[List[Order]](t, f.do("GET", "/orders"+tt.query, f.auditor, "").want(t, 200))
		var got []string
		for _, o := range list.Items {
			got = append(got, o.ID)
		}
		if strings.Join(got, " ") != strings.Join(tt.want, " ") {
			t.Errorf("%s: %v, want %v", tt.query, got, tt.want)
		}
	}

	o := decode[Order](t, f.do("GET", "/orders/"+failed.ID, f.auditor, "").want(t, 200, "connection refused"))
	if o.Status != acme.StatusInvalid || o.Reason != "validation of fails.test by http-01 failed: 192.0.2.1:80 refused the connection" ||
		len(o.Authorizations) != 1 || o.Authorizations[0].Status != acme.StatusInvalid || o.Authorizations[0].Problem.Type != acme.ErrConnection {
		t.Errorf("failed: %+v", o)
	}
	o = decode[Order](t, f.do("GET", "/orders/"+trusted.ID, f.auditor, "").want(t, 200))
	if o.Status != acme.StatusReady || !o.Trusted || len(o.Authorizations) != 2 || !o.Authorizations[1].Wildcard || o.Reason != "" || o.Serial != "" {
		t.Errorf("trusted: %+v", o)
	}
	o = decode[Order](t, f.do("GET", "/orders/"+done.ID, f.auditor, "").want(t, 200))
	if o.Status != acme.StatusValid || o.Serial != serial || o.IssuedAt == nil || o.FinalizedAt == nil {
		t.Errorf("done: %+v", o)
	}
	o = decode[Order](t, f.do("GET", "/orders/"+pending.ID, f.auditor, "").want(t, 200))
	if o.Status != acme.StatusPending || o.Authorizations[0].Offered[0] != acme.HTTP01 || o.Authorizations[0].Trace != nil {
		t.Errorf("pending: %+v", o)
	}
	f.do("GET", "/orders/none", f.admin, "").want(t, 404, `there is no order \"none\"`)
	f.do("GET", "/orders?status=valid", f.admin, "").want(t, 422, "query.status")
}

func TestWhyInvalid(t *testing.T) {
	now := time.Now()
	order := acme.Order{ExpiresAt: now.Add(time.Hour)}
	expired := acme.Order{ExpiresAt: now}
	id := acme.Identifier{Type: acme.DNS, Value: "a.test"}
	for want, got := range map[string]string{
		"the order expired before it was finalized": whyInvalid(&expired, nil, now),
		"an authorization was deactivated":          whyInvalid(&acme.Order{ExpiresAt: now.Add(1), DeactivatedAuthzs: []string{"x-0"}}, nil, now),
		"the authorization of a.test was deactivated": whyInvalid(&order,
			[]acme.Authorization{{Identifier: id, DeactivatedAt: now}}, now),
		"the authorization of a.test expired": whyInvalid(&order,
			[]acme.Authorization{{Identifier: id, ExpiresAt: now.Add(time.Hour)}, {Identifier: id, ExpiresAt: now, ValidatedAt: now}}, now),
		"validation of a.test failed: no": whyInvalid(&order,
			[]acme.Authorization{{Identifier: id, Problem: acme.Connection("no")}}, now),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestCertificates(t *testing.T) {
	f := newFixture(t)
	account := f.account()
	serial := f.issued(account, "a.test", "b.test")
	past, _ := f.order(account, true, "old.test")
	now := time.Now().UTC().Truncate(time.Second)
	old := f.issue(past, now.Add(-2*time.Hour), now.Add(-time.Hour))

	f.do("GET", "/certificates", f.auditor, "").want(t, 200, serial, old, `"status":"expired"`, `"status":"valid"`)
	list := decode[List[Certificate]](t, f.do("GET", "/certificates?name=B.test&account_id="+account.ID+"&profile_id=default", f.auditor, "").want(t, 200))
	if len(list.Items) != 1 || list.Items[0].Serial != serial || list.Items[0].PEM != "" {
		t.Errorf("found %+v", list.Items)
	}
	c := decode[Certificate](t, f.do("GET", "/certificates/"+serial, f.auditor, "").want(t, 200))
	block, rest := pem.Decode([]byte(c.PEM))
	issuing, rest := pem.Decode(rest)
	if block == nil || issuing == nil || len(rest) != 0 {
		t.Fatalf("PEM %s", c.PEM)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	f.noError(err)
	above, err := x509.ParseCertificate(issuing.Bytes)
	f.noError(err)
	if err := leaf.CheckSignatureFrom(above); err != nil || c.KeyType != "ecdsa-p256" || len(c.SHA256) != 64 || c.AccountID != account.ID || c.OrderID == "" {
		t.Errorf("%v %+v", err, c)
	}

	revoke := "/certificates/" + serial + "/revoke"
	f.do("POST", revoke, f.admin, `{"reason": 2}`).want(t, 422, "reason: 2")
	f.do("POST", revoke, f.admin, `{"reason": 1.5}`).want(t, 422, "body.reason")
	f.do("POST", revoke, f.admin, `{"reason": 4}`).want(t, 200, `"status":"revoked"`, `"revocation_reason":4`, `"revoked_at"`)
	f.hasEvent("certificate_revoked", "api:root", serial)
	if strings.Join(f.revoked, " ") != "iss-local" {
		t.Errorf("told of revocations by %v", f.revoked)
	}
	f.do("POST", revoke, f.admin, `{"reason": 0}`).want(t, 409, "revoked already")
	none := strings.Repeat("7", 32)
	f.do("GET", "/certificates/"+none, f.admin, "").want(t, 404, none)
	f.do("POST", "/certificates/"+none+"/revoke", f.admin, `{}`).want(t, 404, none)
	f.do("POST", "/certificates/"+old+"/revoke", f.admin, `{}`).want(t, 200, `"revocation_reason":0`)
}

func TestRenewals(t *testing.T) {
	f := newFixture(t)
	account := f.account()
	serial, other := f.issued(account, "a.test"), f.issued(account, "b.test")
	until := time.Now().UTC().Add(time.Hour).Truncate(time.Second)
	body := func(rest string) string { return `{"until": "` + until.Format(time.RFC3339) + `"` + rest + `}` }

	f.do("POST", "/renewals", f.auditor, body(`, "all": true`)).want(t, 403)
	f.do("POST", "/renewals", f.admin, body("")).want(t, 422, "all: say which")
	f.do("POST", "/renewals", f.admin, body(`, "all": true, "profile_id": "default"`)).want(t, 422, "all: say which")
	f.do("POST", "/renewals", f.admin, body(`, "all": true, "from": "2999-01-01T00:00:00Z"`)).want(t, 422, "until:")
	f.do("POST", "/renewals", f.admin, body(`, "all": true, "explanation_url": "javascript:1"`)).want(t, 422, "explanation_url")
	f.do("POST", "/renewals", f.admin, body(`, "serials": ["`+serial+`"], "explanation_url": "https://wiki.test/why"`)).want(t, 200, `"certificates":1`)
	f.hasEvent("certificate_renewal_set", "api:root", "set")
	c, err := f.store.Certificate(t.Context(), serial)
	f.noError(err)
	if !c.Renewal.Until.Equal(until) || c.Renewal.ExplanationURL != "https://wiki.test/why" || c.Renewal.From.IsZero() {
		t.Errorf("renewal %+v", c.Renewal)
	}
	c, err = f.store.Certificate(t.Context(), other)
	f.noError(err)
	if !c.Renewal.From.IsZero() {
		t.Errorf("another certificate has the renewal %+v", c.Renewal)
	}
	f.do("POST", "/renewals", f.admin, body(`, "profile_id": "none"`)).want(t, 200, `"certificates":0`)
	f.do("POST", "/renewals", f.admin, body(`, "issued_before": "2001-01-01T00:00:00Z"`)).want(t, 200, `"certificates":0`)
	f.do("POST", "/renewals", f.admin, body(`, "account_id": "`+account.ID+`"`)).want(t, 200, `"certificates":2`)
	f.do("POST", "/certificates/"+serial+"/revoke", f.admin, `{}`).want(t, 200)
	f.do("POST", "/renewals", f.admin, body(`, "all": true`)).want(t, 200, `"certificates":1`)
}

func TestAuditEvents(t *testing.T) {
	f := newFixture(t)
	account := f.account()
	f.issued(account, "a.test")
	for query, want := range map[string]int{
		"?actor=api:root":                    1, // the profile
		"?action=acme_account_created":       1,
		"?resource_id=default":               1,
		"?actor=acme:" + account.ID:          4,
		"?actor=api:root&resource_id=nobody": 0,
	} {
		list := decode[List[audit.Event]](t, f.do("GET", "/audit-events"+query, f.auditor, "").want(t, 200))
		if len(list.Items) != want {
			t.Errorf("%s: %d events, want %d: %+v", query, len(list.Items), want, list.Items)
		}
	}
	f.do("GET", "/audit-events?action=certificate_issued", f.auditor, "").want(t, 200, `"details":{`, `"names":["a.test"]`)
}

func TestIssuers(t *testing.T) {
	f := newFixture(t)
	list := decode[List[Issuer]](t, f.do("GET", "/issuers", f.auditor, "").want(t, 200, "BEGIN CERTIFICATE"))
	if len(list.Items) != 1 || list.Items[0].ID != "iss-local" || list.Items[0].NotAfter.Before(time.Now()) || len(list.Items[0].RootSHA256) != 64 ||
		strings.Join(list.Items[0].PermittedDomains, " ") != "test example.com" {
		t.Errorf("issuers %+v", list.Items)
	}
	f.do("GET", "/issuers", "", "").want(t, 401)
}
