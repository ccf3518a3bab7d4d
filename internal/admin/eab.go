package admin

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

// hmacKeySize is that of the hash of HS256, which RFC 7518, Section 3.2 asks of
// a key for it.
const hmacKeySize = 32

// NewEABKey is an external account key to be created.
type NewEABKey struct {
	ProfileIDs     []string   `json:"profile_ids" minItems:"1" maxItems:"1000" nullable:"false" doc:"The profiles that accounts bound to the key may order under."`
	AllowedDomains []string   `json:"allowed_domains,omitempty" maxItems:"10000" nullable:"false" doc:"Domain rules as in profiles, within what the profiles allow. None: all that they allow."`
	Reusable       bool       `json:"reusable,omitempty" doc:"The key binds any number of accounts instead of one."`
	ExpiresAt      *time.Time `json:"expires_at,omitempty" doc:"When the key stops binding accounts. What bound accounts may do goes on."`
}

// CreatedEABKey is a new external account key with its secret, which is shown
// this once.
type CreatedEABKey struct {
	store.EABKey
	HMACKey string `json:"hmac_key" doc:"The key in base64url without padding, as ACME clients take it."`
}

type (
	createEABKeyInput  struct{ Body NewEABKey }
	createEABKeyOutput struct{ Body CreatedEABKey }
	eabKeyPath         struct {
		KeyID string `path:"kid"`
	}
	bindEABKeyInput struct {
		KeyID string `path:"kid"`
		Body  struct {
			AccountID string `json:"account_id"`
		}
	}
)

func (a *API) registerEABKeys() {
	tags := []string{"External account keys"}
	register(a, huma.Operation{OperationID: "create-eab-key", Method: http.MethodPost, Path: "/eab-keys", Tags: tags,
		Summary: "Create an external account key", DefaultStatus: http.StatusCreated}, a.createEABKey)
	register(a, huma.Operation{OperationID: "list-eab-keys", Method: http.MethodGet, Path: "/eab-keys", Tags: tags,
		Summary: "List external account keys, without their secrets"}, a.listEABKeys)
	register(a, huma.Operation{OperationID: "disable-eab-key", Method: http.MethodDelete, Path: "/eab-keys/{kid}", Tags: tags,
		Summary: "Disable an external account key", Description: "What bound accounts may do because of it ends too.",
		DefaultStatus: http.StatusNoContent, Errors: []int{http.StatusNotFound, http.StatusConflict}}, a.disableEABKey)
	register(a, huma.Operation{OperationID: "bind-eab-key", Method: http.MethodPost, Path: "/eab-keys/{kid}/bindings", Tags: tags,
		Summary: "Bind an account to an external account key", Description: "As if the account had sent the key itself.",
		Errors: []int{http.StatusNotFound, http.StatusConflict}}, a.bindEABKey)
}

func (a *API) createEABKey(ctx context.Context, in *createEABKeyInput) (*createEABKeyOutput, error) {
	domains, err := policy.NormalizeDomains(in.Body.AllowedDomains)
	if err != nil {
		return nil, refused(err)
	}
	for _, id := range in.Body.ProfileIDs {
		if err := a.checkEABProfile(ctx, id, domains); err != nil {
			return nil, err
		}
	}
	if err := checkTime("expires_at", in.Body.ExpiresAt); err != nil {
		return nil, err
	}
	if at := in.Body.ExpiresAt; at != nil && !at.After(a.cfg.Store.Now()) {
		return nil, problem(http.StatusUnprocessableEntity, "expires_at: %s has passed", at.Format(time.RFC3339))
	}
	hmacKey := make([]byte, hmacKeySize)
	rand.Read(hmacKey)
	k := store.EABKey{
		KeyID:          a.cfg.Store.NewID(),
		ProfileIDs:     in.Body.ProfileIDs,
		AllowedDomains: domains,
		Reusable:       in.Body.Reusable,
		ExpiresAt:      in.Body.ExpiresAt,
	}
	if err := a.cfg.Store.CreateEABKey(ctx, actor(ctx), k, hmacKey); err != nil {
		return nil, err
	}
	stored, err := a.cfg.Store.EABKey(ctx, k.KeyID)
	if err != nil {
		return nil, err
	}
	return &createEABKeyOutput{CreatedEABKey{stored, base64.RawURLEncoding.EncodeToString(hmacKey)}}, nil
}

// checkEABProfile refuses a profile that nobody can order under, and domains
// that its issuer can never sign.
func (a *API) checkEABProfile(ctx context.Context, id string, domains []string) error {
	p, err := a.cfg.Store.StoredProfile(ctx, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && p.ArchivedAt != nil {
		return problem(http.StatusUnprocessableEntity, "profile_ids: there is no profile %q in use", id)
	}
	if err != nil {
		return err
	}
	constraints, _ := a.cfg.Constraints(p.IssuerID)
	if err := constraints.CheckDomains(domains); err != nil {
		return refused(err)
	}
	return nil
}

func (a *API) listEABKeys(ctx context.Context, _ *struct{}) (*listOutput[store.EABKey], error) {
	all, err := a.cfg.Store.EABKeys(ctx)
	if err != nil {
		return nil, err
	}
	return wholeList(all), nil
}

func (a *API) disableEABKey(ctx context.Context, in *eabKeyPath) (*struct{}, error) {
	k, err := a.cfg.Store.EABKey(ctx, in.KeyID)
	if err != nil {
		return nil, missing(err, "external account key", in.KeyID)
	}
	if k.DisabledAt != nil {
		return nil, problem(http.StatusConflict, "the external account key %q is disabled already", in.KeyID)
	}
	err = a.cfg.Store.DisableEABKey(ctx, actor(ctx), in.KeyID)
	return nil, missing(err, "external account key in use", in.KeyID)
}

func (a *API) bindEABKey(ctx context.Context, in *bindEABKeyInput) (*accountOutput, error) {
	if _, err := a.cfg.Store.EABKey(ctx, in.KeyID); err != nil {
		return nil, missing(err, "external account key", in.KeyID)
	}
	account, err := a.cfg.Store.Account(ctx, in.Body.AccountID)
	if err != nil {
		return nil, missing(err, "account", in.Body.AccountID)
	}
	if !account.DeactivatedAt.IsZero() {
		return nil, problem(http.StatusConflict, "the account %q is deactivated", account.ID)
	}
	err = a.cfg.Store.BindEABKey(ctx, actor(ctx), account.ID, in.KeyID)
	if errors.Is(err, store.ErrEABKey) {
		return nil, problem(http.StatusConflict, "the external account key %q binds no more accounts: it is disabled, expired, or was for one account", in.KeyID)
	}
	if err != nil {
		return nil, err
	}
	return a.account(ctx, account.ID)
}
