package admin

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

// get asks for a T.
func get[T any](ctx context.Context, c *Client, path string) (*T, error) {
	return send[T](ctx, c, http.MethodGet, path, nil)
}

// send asks for something to be done, of which a T is the result.
func send[T any](ctx context.Context, c *Client, method, path string, in any) (*T, error) {
	out := new(T)
	if err := c.call(ctx, method, path, in, out); err != nil {
		return nil, err
	}
	return out, nil
}

func (c *Client) remove(ctx context.Context, path string) error {
	return c.call(ctx, http.MethodDelete, path, nil, nil)
}

// at joins a path of which the ids are others' words.
func at(collection, id string, below ...string) string {
	path := collection + "/" + url.PathEscape(id)
	for _, part := range below {
		path += "/" + part
	}
	return path
}

// query is the query of a URL without what is empty.
type query url.Values

func (q query) set(name, value string) query {
	if value != "" {
		url.Values(q).Set(name, value)
	}
	return q
}

func (q query) page(p Page) query {
	q.set("before", p.Before)
	if p.Limit != 0 {
		q.set("limit", strconv.Itoa(p.Limit))
	}
	return q
}

func (q query) of(path string) string {
	if len(q) == 0 {
		return path
	}
	return path + "?" + url.Values(q).Encode()
}

// CreateProfile creates a profile.
func (c *Client) CreateProfile(ctx context.Context, p NewProfile) (*Profile, error) {
	return send[Profile](ctx, c, http.MethodPost, "/profiles", p)
}

// Profiles lists profiles, the archived ones when asked for.
func (c *Client) Profiles(ctx context.Context, archived bool) (*List[Profile], error) {
	q := query{}
	if archived {
		q.set("archived", "true")
	}
	return get[List[Profile]](ctx, c, q.of("/profiles"))
}

// Profile returns a profile, archived or not.
func (c *Client) Profile(ctx context.Context, id string) (*Profile, error) {
	return get[Profile](ctx, c, at("/profiles", id))
}

// UpdateProfile changes a profile.
func (c *Client) UpdateProfile(ctx context.Context, id string, patch policy.ProfilePatch) (*Profile, error) {
	return send[Profile](ctx, c, http.MethodPatch, at("/profiles", id), patch)
}

// ArchiveProfile ends a profile.
func (c *Client) ArchiveProfile(ctx context.Context, id string) error {
	return c.remove(ctx, at("/profiles", id))
}

// CreateEABKey creates an external account key.
func (c *Client) CreateEABKey(ctx context.Context, k NewEABKey) (*CreatedEABKey, error) {
	return send[CreatedEABKey](ctx, c, http.MethodPost, "/eab-keys", k)
}

// EABKeys lists the external account keys.
func (c *Client) EABKeys(ctx context.Context) (*List[store.EABKey], error) {
	return get[List[store.EABKey]](ctx, c, "/eab-keys")
}

// DisableEABKey ends an external account key.
func (c *Client) DisableEABKey(ctx context.Context, kid string) error {
	return c.remove(ctx, at("/eab-keys", kid))
}

// BindEABKey binds an account to an external account key.
func (c *Client) BindEABKey(ctx context.Context, kid, accountID string) (*Account, error) {
	in := map[string]string{"account_id": accountID}
	return send[Account](ctx, c, http.MethodPost, at("/eab-keys", kid, "bindings"), in)
}

// Accounts lists a page of accounts.
func (c *Client) Accounts(ctx context.Context, p Page) (*List[Account], error) {
	return get[List[Account]](ctx, c, query{}.page(p).of("/accounts"))
}

// Account returns an account.
func (c *Client) Account(ctx context.Context, id string) (*Account, error) {
	return get[Account](ctx, c, at("/accounts", id))
}

// DeactivateAccount ends an account.
func (c *Client) DeactivateAccount(ctx context.Context, id string) (*Account, error) {
	return send[Account](ctx, c, http.MethodPost, at("/accounts", id, "deactivate"), nil)
}

// Orders lists a page of orders.
func (c *Client) Orders(ctx context.Context, q OrderQuery) (*List[Order], error) {
	values := query{}.set("account_id", q.AccountID).set("profile_id", q.ProfileID).set("name", q.Name).page(q.Page)
	return get[List[Order]](ctx, c, values.of("/orders"))
}

// Order returns an order with its authorizations.
func (c *Client) Order(ctx context.Context, id string) (*Order, error) {
	return get[Order](ctx, c, at("/orders", id))
}

// Certificates lists a page of certificates.
func (c *Client) Certificates(ctx context.Context, q CertificateQuery) (*List[Certificate], error) {
	values := query{}.set("account_id", q.AccountID).set("profile_id", q.ProfileID).set("name", q.Name).page(q.Page)
	return get[List[Certificate]](ctx, c, values.of("/certificates"))
}

// Certificate returns a certificate.
func (c *Client) Certificate(ctx context.Context, serial string) (*Certificate, error) {
	return get[Certificate](ctx, c, at("/certificates", serial))
}

// RevokeCertificate revokes a certificate for a reason of RFC 5280, Section
// 5.3.1.
func (c *Client) RevokeCertificate(ctx context.Context, serial string, reason int) (*Certificate, error) {
	in := map[string]int{"reason": reason}
	return send[Certificate](ctx, c, http.MethodPost, at("/certificates", serial, "revoke"), in)
}

// AuditEvents lists a page of audit events.
func (c *Client) AuditEvents(ctx context.Context, q AuditQuery) (*List[audit.Event], error) {
	values := query{}.set("actor", q.Actor).set("action", q.Action).set("resource_id", q.ResourceID).page(q.Page)
	return get[List[audit.Event]](ctx, c, values.of("/audit-events"))
}

// Issuers lists the issuers.
func (c *Client) Issuers(ctx context.Context) (*List[Issuer], error) {
	return get[List[Issuer]](ctx, c, "/issuers")
}

// Issuer returns an issuer with its chains.
func (c *Client) Issuer(ctx context.Context, id string) (*Issuer, error) {
	return get[Issuer](ctx, c, at("/issuers", id))
}

// IssuerCSR returns a request for another CA to sign an issuer's key.
func (c *Client) IssuerCSR(ctx context.Context, id string) (*IssuerCSR, error) {
	return get[IssuerCSR](ctx, c, at("/issuers", id, "csr"))
}

// AddChain adds a chain, in PEM, to those of an issuer, as its default one if
// wanted.
func (c *Client) AddChain(ctx context.Context, issuerID, pem string, standard bool) (*Chain, error) {
	in := map[string]any{"pem": pem, "default": standard}
	return send[Chain](ctx, c, http.MethodPost, at("/issuers", issuerID, "chains"), in)
}

// RemoveChain removes a chain of an issuer.
func (c *Client) RemoveChain(ctx context.Context, issuerID, id string) error {
	return c.remove(ctx, at("/issuers", issuerID, "chains", url.PathEscape(id)))
}

// SetDefaultChain makes a chain of an issuer the default one; "own" is its own.
func (c *Client) SetDefaultChain(ctx context.Context, issuerID, id string) (*Issuer, error) {
	in := map[string]string{"default_chain": id}
	return send[Issuer](ctx, c, http.MethodPatch, at("/issuers", issuerID), in)
}

// CreateAPIKey creates an API key.
func (c *Client) CreateAPIKey(ctx context.Context, k NewAPIKey) (*CreatedAPIKey, error) {
	return send[CreatedAPIKey](ctx, c, http.MethodPost, "/api-keys", k)
}

// APIKeys lists the API keys.
func (c *Client) APIKeys(ctx context.Context) (*List[store.APIKey], error) {
	return get[List[store.APIKey]](ctx, c, "/api-keys")
}

// DisableAPIKey ends an API key.
func (c *Client) DisableAPIKey(ctx context.Context, name string) error {
	return c.remove(ctx, at("/api-keys", name))
}
