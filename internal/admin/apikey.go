package admin

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl/certctl/internal/store"
)

// NewAPIKey is an API key to be created.
type NewAPIKey struct {
	Name string     `json:"name" pattern:"^[a-z0-9][a-z0-9._-]*$" maxLength:"63" doc:"Names the holder in the audit log; never given twice."`
	Role store.Role `json:"role" enum:"admin,auditor" doc:"An admin may do everything, an auditor may read everything."`
}

// CreatedAPIKey is a new API key with its secret, which is shown this once.
type CreatedAPIKey struct {
	store.APIKey
	Key string `json:"key" doc:"To be sent as \"Authorization: Bearer KEY\"."`
}

type (
	createAPIKeyInput  struct{ Body NewAPIKey }
	createAPIKeyOutput struct{ Body CreatedAPIKey }
	apiKeyPath         struct {
		Name string `path:"name"`
	}
)

func (a *API) registerAPIKeys() {
	tags := []string{"API keys"}
	register(a, huma.Operation{OperationID: "create-api-key", Method: http.MethodPost, Path: "/api-keys", Tags: tags,
		Summary: "Create an API key", DefaultStatus: http.StatusCreated, Errors: []int{http.StatusConflict}}, a.createAPIKey)
	register(a, huma.Operation{OperationID: "list-api-keys", Method: http.MethodGet, Path: "/api-keys", Tags: tags,
		Summary: "List API keys, without their secrets, by name"}, a.listAPIKeys)
	register(a, huma.Operation{OperationID: "disable-api-key", Method: http.MethodDelete, Path: "/api-keys/{name}", Tags: tags,
		Summary: "Disable an API key for good", Description: "The key that the request is made with cannot be disabled, so that nobody locks himself out.",
		DefaultStatus: http.StatusNoContent, Errors: []int{http.StatusNotFound, http.StatusConflict}}, a.disableAPIKey)
}

func (a *API) createAPIKey(ctx context.Context, in *createAPIKeyInput) (*createAPIKeyOutput, error) {
	key := NewKey()
	err := a.cfg.Store.CreateAPIKey(ctx, actor(ctx), in.Body.Name, key, in.Body.Role)
	if errors.Is(err, store.ErrExists) {
		return nil, problem(http.StatusConflict, "the name %q is taken, perhaps by a disabled key", in.Body.Name)
	}
	if err != nil {
		return nil, err
	}
	stored, err := a.cfg.Store.APIKey(ctx, in.Body.Name)
	if err != nil {
		return nil, err
	}
	return &createAPIKeyOutput{CreatedAPIKey{stored, key}}, nil
}

func (a *API) listAPIKeys(ctx context.Context, _ *struct{}) (*listOutput[store.APIKey], error) {
	all, err := a.cfg.Store.APIKeys(ctx)
	if err != nil {
		return nil, err
	}
	return wholeList(all), nil
}

func (a *API) disableAPIKey(ctx context.Context, in *apiKeyPath) (*struct{}, error) {
	if in.Name == caller(ctx).Name {
		return nil, problem(http.StatusConflict, "the API key %q is the one that this request is made with; use another to disable it", in.Name)
	}
	k, err := a.cfg.Store.APIKey(ctx, in.Name)
	if err != nil {
		return nil, missing(err, "API key", in.Name)
	}
	if k.DisabledAt != nil {
		return nil, problem(http.StatusConflict, "the API key %q is disabled already", in.Name)
	}
	err = a.cfg.Store.DisableAPIKey(ctx, actor(ctx), in.Name)
	return nil, missing(err, "API key in use", in.Name)
}
