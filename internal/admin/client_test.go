package admin

import (
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

func (f *fixture) client(key string) *Client {
	f.t.Helper()
	c, err := NewClient(ClientConfig{URL: f.server.URL + "/", Key: key})
	f.noError(err)
	return c
}

// TestClient calls every method once against the real API.
func TestClient(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	c := f.client(f.admin)
	account := f.account()
	serial := f.issued(account, "a.test")
	order, _ := f.order(account, true, "b.test")

	name, domains := "Web", []string{"web.test"}
	p, err := c.CreateProfile(ctx, NewProfile{ID: "web", ProfilePatch: policy.ProfilePatch{AllowedDomains: &domains}})
	f.noError(err)
	p, err = c.UpdateProfile(ctx, p.ID, policy.ProfilePatch{Name: &name})
	f.noError(err)
	shown, err := c.Profile(ctx, "web")
	f.noError(err)
	if p.Name != "Web" || shown.Revision != 2 {
		t.Errorf("updated %+v, shown %+v", p, shown)
	}
	k, err := c.CreateEABKey(ctx, NewEABKey{ProfileIDs: []string{"web"}})
	f.noError(err)
	bound, err := c.BindEABKey(ctx, k.KeyID, account.ID)
	f.noError(err)
	if !bound.EABBound {
		t.Errorf("bound %+v", bound)
	}
	f.noError(c.DisableEABKey(ctx, k.KeyID))
	f.noError(c.ArchiveProfile(ctx, "web"))
	key, err := c.CreateAPIKey(ctx, NewAPIKey{Name: "ci", Role: store.RoleAdmin})
	f.noError(err)
	f.noError(c.DisableAPIKey(ctx, key.Name))

	profiles, err := c.Profiles(ctx, true)
	f.noError(err)
	inUse, err := c.Profiles(ctx, false)
	f.noError(err)
	keys, err := c.EABKeys(ctx)
	f.noError(err)
	apiKeys, err := c.APIKeys(ctx)
	f.noError(err)
	issuers, err := c.Issuers(ctx)
	f.noError(err)
	if len(profiles.Items) != 2 || len(inUse.Items) != 1 || len(keys.Items) != 1 || len(apiKeys.Items) != 3 || len(issuers.Items) != 1 {
		t.Errorf("lists of %d, %d, %d, %d, %d", len(profiles.Items), len(inUse.Items), len(keys.Items), len(apiKeys.Items), len(issuers.Items))
	}

	cross, root := f.foreign("Corp Root", signsAll)
	csr, err := c.IssuerCSR(ctx, "iss-local")
	f.noError(err)
	chain, err := c.AddChain(ctx, "iss-local", string(pki.EncodePEM(cross, root)), false)
	f.noError(err)
	standard, err := c.SetDefaultChain(ctx, "iss-local", chain.ID)
	f.noError(err)
	f.noError(c.RemoveChain(ctx, "iss-local", chain.ID))
	iss, err := c.Issuer(ctx, "iss-local")
	f.noError(err)
	if !strings.Contains(csr.PEM, "REQUEST") || chain.Default || standard.Chains[0].ID != chain.ID || len(iss.Chains) != 1 {
		t.Errorf("request %q, chain %+v, as default %+v, issuer %+v", csr.PEM, chain, standard, iss)
	}

	orders, err := c.Orders(ctx, OrderQuery{AccountID: account.ID, ProfileID: "default", Name: "b.test", Page: Page{Limit: 1}})
	f.noError(err)
	if len(orders.Items) != 1 || orders.Items[0].ID != order.ID {
		t.Errorf("orders %+v", orders)
	}
	if o, err := c.Order(ctx, order.ID); err != nil || len(o.Authorizations) != 1 {
		t.Errorf("order %+v, %v", o, err)
	}
	certs, err := c.Certificates(ctx, CertificateQuery{AccountID: account.ID, ProfileID: "default", Name: "a.test"})
	f.noError(err)
	if len(certs.Items) != 1 || certs.Items[0].Serial != serial {
		t.Errorf("certificates %+v", certs)
	}
	if cert, err := c.RevokeCertificate(ctx, serial, 4); err != nil || cert.Status != CertificateRevoked {
		t.Errorf("revoked %+v, %v", cert, err)
	}
	if cert, err := c.Certificate(ctx, serial); err != nil || *cert.RevocationReason != 4 {
		t.Errorf("certificate %+v, %v", cert, err)
	}
	events, err := c.AuditEvents(ctx, AuditQuery{Actor: "api:root", Action: "certificate_revoked", ResourceID: serial})
	if err != nil || len(events.Items) != 1 {
		t.Errorf("events %+v, %v", events, err)
	}
	if a, err := c.DeactivateAccount(ctx, account.ID); err != nil || a.DeactivatedAt == nil {
		t.Errorf("account %+v, %v", a, err)
	}
	if a, err := c.Account(ctx, account.ID); err != nil || a.DeactivatedAt == nil || len(a.EABKeyIDs) != 1 {
		t.Errorf("account %+v, %v", a, err)
	}
	first, err := c.Accounts(ctx, Page{Limit: 1})
	if err != nil || len(first.Items) != 1 {
		t.Errorf("accounts %+v, %v", first, err)
	}
}

func TestClientRefusals(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	_, err := f.client("ck_wrong").Issuers(ctx)
	wantAPIError(t, err, 401, "the API key is unknown or disabled; check CERTCTL_API_KEY or --api-key")
	_, err = f.client(f.auditor).DeactivateAccount(ctx, "x")
	wantAPIError(t, err, 403, `the API key "eyes" has the role auditor, which may read but not change anything`)
	c := f.client(f.admin)
	_, err = c.Order(ctx, "no such/../order")
	wantAPIError(t, err, 404, `there is no order "no such/../order"`)
	_, err = c.CreateProfile(ctx, NewProfile{ID: "X Y"})
	if err == nil || !strings.Contains(err.Error(), "id: ") || !strings.Contains(err.Error(), "; allowed_domains: ") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
	_, err = c.CreateAPIKey(ctx, NewAPIKey{Name: "x", Role: "king"})
	wantAPIError(t, err, 422, `role: expected value to be one of "admin, auditor"`)
	_, err = c.Accounts(ctx, Page{Limit: 5000})
	wantAPIError(t, err, 422, "query.limit: expected number <= 1000")
}

func wantAPIError(t *testing.T, err error, status int, detail string) {
	t.Helper()
	var refusal *APIError
	if !errors.As(err, &refusal) || refusal.Status != status || err.Error() != detail {
		t.Errorf("got %v, want %d %s", err, status, detail)
	}
}

func TestClientConfig(t *testing.T) {
	notPEM := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(notPEM, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, cfg := range map[string]ClientConfig{
		"no API key":               {URL: "https://localhost:8443"},
		"printable ASCII":          {URL: "https://localhost:8443", Key: "a\nb"},
		"not the URL of a server":  {URL: "localhost", Key: "k"},
		`"https://a/api" is not`:   {URL: "https://a/api", Key: "k"},
		"does not begin with":      {URL: "ftp://localhost", Key: "k"},
		"unencrypted":              {URL: "http://certctl.example.com", Key: "k"},
		"no such file":             {URL: "https://localhost", Key: "k", RootsFile: "/nonexistent"},
		"no certificate in PEM":    {URL: "https://localhost", Key: "k", RootsFile: notPEM},
		`"https://u:p@h" is not`:   {URL: "https://u:p@h", Key: "k"},
		`"https://h:x" is not`:     {URL: "https://h:x", Key: "k"},
		`"http://[::2]" would`:     {URL: "http://[::2]", Key: "k"},
		`"https://h/?a=b" is not `: {URL: "https://h/?a=b", Key: "k"},
	} {
		if _, err := NewClient(cfg); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v, want %s", cfg, err, want)
		}
	}
	for _, url := range []string{"http://localhost:1", "http://127.0.0.2", "http://[::1]:80", "https://h/"} {
		if _, err := NewClient(ClientConfig{URL: url, Key: "k"}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestClientSaysWhatToDo meets what an operator meets who points the client at
// the wrong thing.
func TestClientSaysWhatToDo(t *testing.T) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/issuers"):
			_, _ = w.Write([]byte("hello"))
		case strings.HasSuffix(r.URL.Path, "/api-keys"):
			http.Redirect(w, r, "https://elsewhere.test", http.StatusFound)
		case strings.HasSuffix(r.URL.Path, "/eab-keys"):
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusTeapot)
			_, _ = w.Write([]byte("{\"status\": 418, \"detail\": \"a\\nb\\u001b[31m\"}"))
		}
	})
	secure := httptest.NewTLSServer(hello)
	defer secure.Close()
	plain := httptest.NewServer(hello)
	defer plain.Close()
	closed := httptest.NewTLSServer(hello)
	closed.Close()

	roots := filepath.Join(t.TempDir(), "roots.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if err := os.WriteFile(roots, text, 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(url, rootsFile string, question func(*Client) error) error {
		c, err := NewClient(ClientConfig{URL: url, Key: "k", RootsFile: rootsFile})
		if err != nil {
			t.Fatal(err)
		}
		return question(c)
	}
	issuers := func(c *Client) error { _, err := c.Issuers(t.Context()); return err }
	apiKeys := func(c *Client) error { _, err := c.APIKeys(t.Context()); return err }
	eabKeys := func(c *Client) error { _, err := c.EABKeys(t.Context()); return err }
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"unknown authority", ask(secure.URL, "", issuers), "--roots-file"},
		{"refused", ask(closed.URL, "", issuers), `start the server with "certctl server"`},
		{"plain HTTP", ask("https"+strings.TrimPrefix(plain.URL, "http"), "", issuers), "does not speak TLS"},
		{"other name", ask(strings.Replace(secure.URL, "127.0.0.1", "localhost", 1), roots, issuers), "CERTCTL_TLS_SANS"},
		{"other server", ask(secure.URL, roots, issuers), "not certctl's API"},
		{"redirect", ask(secure.URL, roots, apiKeys), `"302 Found"`},
		{"unknown host", ask("https://nothing..invalid", "", issuers), "is not found"},
		{"control characters", ask(secure.URL, roots, eabKeys), "a b [31m"},
	} {
		if tt.err == nil || !strings.Contains(tt.err.Error(), tt.want) || strings.ContainsAny(tt.err.Error(), "\n\x1b") {
			t.Errorf("%s: %v, want %s", tt.name, tt.err, tt.want)
		}
	}
}
