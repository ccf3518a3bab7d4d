package admin

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

func TestNewRefuses(t *testing.T) {
	f := newFixture(t)
	constraints := func(string) (policy.Constraints, bool) { return policy.Constraints{}, true }
	defaults := func() policy.Profile { return policy.Profile{} }
	for _, cfg := range []Config{
		{Constraints: constraints, Defaults: defaults},
		{Store: f.store, Defaults: defaults},
		{Store: f.store, Constraints: constraints},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

// everyOperation has each operation once with a request that would be fine.
var everyOperation = []struct{ method, path, body string }{
	{"POST", "/renewals", `{"all": true, "until": "2999-01-01T00:00:00Z"}`},
	{"POST", "/profiles", `{"id": "web", "allowed_domains": ["web.test"]}`},
	{"GET", "/profiles", ""},
	{"GET", "/profiles/default", ""},
	{"PATCH", "/profiles/default", `{"name": "Default"}`},
	{"DELETE", "/profiles/default", ""},
	{"POST", "/eab-keys", `{"profile_ids": ["default"]}`},
	{"GET", "/eab-keys", ""},
	{"DELETE", "/eab-keys/x", ""},
	{"POST", "/eab-keys/x/bindings", `{"account_id": "x"}`},
	{"GET", "/accounts", ""},
	{"GET", "/accounts/x", ""},
	{"POST", "/accounts/x/deactivate", ""},
	{"GET", "/orders", ""},
	{"GET", "/orders/x", ""},
	{"GET", "/certificates", ""},
	{"GET", "/certificates/x", ""},
	{"POST", "/certificates/x/revoke", `{"reason": 0}`},
	{"GET", "/audit-events", ""},
	{"GET", "/issuers", ""},
	{"GET", "/issuers/x", ""},
	{"PATCH", "/issuers/x", `{"default_chain": "own"}`},
	{"GET", "/issuers/x/csr", ""},
	{"POST", "/issuers/x/chains", `{"pem": "x"}`},
	{"DELETE", "/issuers/x/chains/x", ""},
	{"POST", "/api-keys", `{"name": "ci", "role": "admin"}`},
	{"GET", "/api-keys", ""},
	{"DELETE", "/api-keys/x", ""},
}

func TestEveryOperationNeedsAKey(t *testing.T) {
	f := newFixture(t)
	before := f.do("GET", "/audit-events?limit=1000", f.auditor, "").want(t, 200).body
	for _, op := range everyOperation {
		a := f.do(op.method, op.path, "", op.body).want(t, 401, "carries no API key")
		if got := a.header.Get("WWW-Authenticate"); got != "Bearer" {
			t.Errorf("WWW-Authenticate %q", got)
		}
		f.do(op.method, op.path, "ck_wrong", op.body).want(t, 401, "unknown or disabled")
		f.doWith(op.method, op.path, "", op.body, map[string]string{"Authorization": "Basic " + f.admin}).want(t, 401)

		a = f.do(op.method, op.path, f.auditor, op.body)
		if op.method != "GET" {
			a.want(t, 403, `the API key \"eyes\" has the role auditor`)
		} else if a.status == 403 {
			t.Errorf("an auditor may not %s %s", op.method, op.path)
		}
	}
	if after := f.do("GET", "/audit-events?limit=1000", f.auditor, "").body; after != before {
		t.Errorf("something was changed: %s", after)
	}
}

// TestEveryOperationIsListed keeps everyOperation and what the API says of itself
// the same.
func TestEveryOperationIsListed(t *testing.T) {
	f := newFixture(t)
	a := f.do("GET", "/openapi.json", "", "").want(t, 200, `"openapi":"3.1.0"`)
	if got := a.header.Get("Content-Type"); got != "application/openapi+json" {
		t.Errorf("Content-Type %q", got)
	}
	doc := decode[struct {
		Paths map[string]map[string]struct {
			Security []map[string][]string
		}
		Components struct {
			Schemas map[string]struct{ Properties map[string]json.RawMessage }
		}
	}](t, a)
	var listed []string
	for path, operations := range doc.Paths {
		for method, op := range operations {
			path := strings.NewReplacer("{id}", "x", "{kid}", "x", "{serial}", "x", "{name}", "x", "{chain}", "x").Replace(strings.TrimPrefix(path, Prefix))
			listed = append(listed, strings.ToUpper(method)+" "+path)
			if len(op.Security) != 1 {
				t.Errorf("%s %s does not say that it needs a key", method, path)
			}
		}
	}
	var known []string
	for _, op := range everyOperation {
		known = append(known, op.method+" "+strings.ReplaceAll(op.path, "/profiles/default", "/profiles/x"))
	}
	slices.Sort(listed)
	slices.Sort(known)
	if !slices.Equal(listed, known) {
		t.Errorf("the API lists\n%s\nthe test\n%s", strings.Join(listed, "\n"), strings.Join(known, "\n"))
	}
	for _, name := range []string{"Profile", "NewProfile", "ProfilePatch"} {
		for field, schema := range doc.Components.Schemas[name].Properties {
			switch field {
			case "created_at", "updated_at", "archived_at":
				continue
			}
			if !strings.Contains(string(schema), `"description"`) && !(name == "Profile" && field == "id") {
				t.Errorf("%s.%s has no description: %s", name, field, schema)
			}
		}
	}
}

// TestBodies sends what no operation takes to every operation with a body.
func TestBodies(t *testing.T) {
	f := newFixture(t)
	for _, op := range everyOperation {
		if op.body == "" {
			continue
		}
		f.do(op.method, op.path, f.admin, "{").want(t, 400)
		f.do(op.method, op.path, f.admin, op.body+"x").want(t, 400)
		f.do(op.method, op.path, f.admin, "null").want(t, 422)
		f.do(op.method, op.path, f.admin, "[]").want(t, 422)
		f.do(op.method, op.path, f.admin, `{"unknown": 1,`+op.body[1:]).want(t, 422, "body.unknown", "unexpected property")
		f.do(op.method, op.path, f.admin, strings.Replace(op.body, "}", `,"NAME": "x"}`, 1)).want(t, 422, "body.NAME", "unexpected property")
		f.do(op.method, op.path, f.admin, strings.Replace(op.body, "}", ","+op.body[1:], 1)).want(t, 400, "duplicate")
		f.do(op.method, op.path, f.admin, `{"name": "`+strings.Repeat("x", maxBody)+`"}`).want(t, 413)
		f.doWith(op.method, op.path, f.admin, op.body, map[string]string{"Content-Type": "text/plain"}).want(t, 415)
		f.do(op.method, op.path, f.admin, "").want(t, 400, "body is required")
	}
}

func TestPaths(t *testing.T) {
	f := newFixture(t)
	f.do("GET", "/nothing", f.admin, "").want(t, 404, OpenAPIPath)
	f.do("GET", "/nothing", "", "").want(t, 401)
	f.do("GET", "/profiles/", f.admin, "").want(t, 404)
	a := f.do("PUT", "/profiles/default", f.admin, "{}").want(t, 405, "DELETE, GET, HEAD, PATCH")
	if got := a.header.Get("Allow"); got != "DELETE, GET, HEAD, PATCH" {
		t.Errorf("Allow %q", got)
	}
	f.do("HEAD", "/profiles", f.auditor, "").want(t, 200)
	f.do("POST", "/openapi.json", "", "{}")
	f.do("GET", "/profiles/%00%2f..", f.admin, "").want(t, 404)
	f.do("GET", "/profiles?archive=true", f.admin, "").want(t, 422, "query.archive", "unknown query parameter")
	f.do("GET", "/docs", f.admin, "").want(t, 404)
}

func TestPages(t *testing.T) {
	f := newFixture(t)
	account := f.account()
	for range 3 {
		f.issued(account, "a.test")
		f.account()
	}
	for _, path := range []string{"/accounts", "/orders", "/certificates", "/audit-events"} {
		for _, limit := range []string{"0", "-1", "1001", "x", "1e3"} {
			f.do("GET", path+"?limit="+limit, f.admin, "").want(t, 422, "query.limit")
		}
		type item struct{ ID, Serial string }
		all := decode[List[item]](t, f.do("GET", path, f.admin, "").want(t, 200))
		if len(all.Items) < 3 || all.Next != "" {
			t.Fatalf("%s: %d items, next %q", path, len(all.Items), all.Next)
		}
		var paged []item
		next := ""
		for {
			page := decode[List[item]](t, f.do("GET", path+"?limit=2&before="+next, f.admin, "").want(t, 200))
			paged = append(paged, page.Items...)
			if next = page.Next; next == "" {
				break
			}
			if len(page.Items) != 2 {
				t.Fatalf("%s: a page of %d", path, len(page.Items))
			}
		}
		if !slices.Equal(all.Items, paged) {
			t.Errorf("%s: pages %v, whole %v", path, paged, all.Items)
		}
		f.do("GET", path+"?limit=1000&before=0", f.admin, "").want(t, 200, `"items":[]`)
	}
}

// TestBrokenBody holds that a body that cannot be read is the client's fault.
func TestBrokenBody(t *testing.T) {
	f := newFixture(t)
	conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
	f.noError(err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST "+Prefix+"/profiles HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+f.admin+
		"\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nnot a chunk\r\n")
	f.noError(err)
	answer, err := io.ReadAll(conn)
	f.noError(err)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") || !strings.Contains(string(answer), "could not be read") {
		t.Errorf("got %s", answer)
	}
}

// TestOurFault holds that what goes wrong on our side is told to the log and not
// to the client.
func TestOurFault(t *testing.T) {
	f := newFixture(t)
	f.noError(f.store.CreateIssuer(t.Context(), "api:test", store.Issuer{ID: "broken", Kind: "local", Name: "x", Chain: "secret"}, nil))
	a := f.do("GET", "/issuers", f.admin, "").want(t, 500, "internal error")
	if strings.Contains(a.body, "chain") {
		t.Errorf("the client was told: %s", a.body)
	}
	if !strings.Contains(f.log.String(), "stored chain of broken") {
		t.Errorf("the log was not told: %s", f.log.String())
	}
}

func TestGivenUp(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, Prefix+"/profiles", nil)
	r.Header.Set("Authorization", "Bearer "+f.admin)
	f.server.Config.Handler.ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable && w.Code != http.StatusOK {
		t.Errorf("status %d", w.Code)
	}
	if strings.Contains(f.log.String(), "ERROR") {
		t.Errorf("a client that gave up is logged as our error: %s", f.log.String())
	}
}

func TestDisabledKeyIsOut(t *testing.T) {
	f := newFixture(t)
	created := decode[CreatedAPIKey](t, f.do("POST", "/api-keys", f.admin, `{"name": "ci", "role": "admin"}`).want(t, 201))
	if !strings.HasPrefix(created.Key, "ck_") || len(created.Key) != 3+43 || created.Role != store.RoleAdmin || time.Since(created.CreatedAt) > time.Minute {
		t.Errorf("created %+v", created)
	}
	f.do("GET", "/profiles", created.Key, "").want(t, 200)
	f.do("POST", "/api-keys", created.Key, `{"name": "more", "role": "auditor"}`).want(t, 201, `"role":"auditor"`)
	f.hasEvent("api_key_created", "api:ci", "more")
	f.do("DELETE", "/api-keys/ci", created.Key, "").want(t, 409, "the one that this request is made with")
	f.do("GET", "/profiles", created.Key, "").want(t, 200)
	f.do("DELETE", "/api-keys/ci", f.admin, "").want(t, 204)
	f.do("GET", "/profiles", created.Key, "").want(t, 401, "unknown or disabled")
	f.do("DELETE", "/api-keys/ci", f.admin, "").want(t, 409, "disabled already")
	f.do("DELETE", "/api-keys/nobody", f.admin, "").want(t, 404, `no API key \"nobody\"`)

	f.do("POST", "/api-keys", f.admin, `{"name": "ci", "role": "admin"}`).want(t, 409, "taken")
	f.do("POST", "/api-keys", f.admin, `{"name": "Big Name", "role": "admin"}`).want(t, 422, "body.name")
	f.do("POST", "/api-keys", f.admin, `{"name": "x", "role": "king"}`).want(t, 422, "body.role")
	f.do("POST", "/api-keys", f.admin, `{"name": "x"}`).want(t, 422, "role")

	list := f.do("GET", "/api-keys", f.auditor, "").want(t, 200, `"name":"root"`, `"disabled_at"`)
	if keys := decode[List[store.APIKey]](t, list); len(keys.Items) != 4 || strings.Contains(list.body, "hash") || strings.Contains(list.body, "ck_") {
		t.Errorf("keys %s", list.body)
	}
}
