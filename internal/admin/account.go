package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/store"
)

// Account is an ACME account as the API shows it.
type Account struct {
	ID            string      `json:"id"`
	Status        acme.Status `json:"status" enum:"valid,deactivated"`
	Contacts      []string    `json:"contacts" nullable:"false"`
	Thumbprint    string      `json:"thumbprint" doc:"Of the account's key (RFC 7638)."`
	EABBound      bool        `json:"eab_bound" doc:"Bound to at least one external account key."`
	EABKeyIDs     []string    `json:"eab_key_ids,omitempty" doc:"The external account keys, disabled ones too; not in lists."`
	TermsAgreedAt *time.Time  `json:"terms_agreed_at,omitempty"`
	CreatedAt     time.Time   `json:"created_at"`
	DeactivatedAt *time.Time  `json:"deactivated_at,omitempty"`
}

type (
	accountPath struct {
		ID string `path:"id"`
	}
	accountOutput struct{ Body Account }
)

func (a *API) registerAccounts() {
	tags := []string{"Accounts"}
	register(a, huma.Operation{OperationID: "list-accounts", Method: http.MethodGet, Path: "/accounts", Tags: tags,
		Summary: "List accounts, the newest first"}, a.listAccounts)
	register(a, huma.Operation{OperationID: "get-account", Method: http.MethodGet, Path: "/accounts/{id}", Tags: tags,
		Summary: "Show an account", Errors: []int{http.StatusNotFound}}, a.getAccount)
	register(a, huma.Operation{OperationID: "deactivate-account", Method: http.MethodPost, Path: "/accounts/{id}/deactivate", Tags: tags,
		Summary: "Deactivate an account for good", Description: "Its open orders end. Its certificates stay valid until they expire or are revoked.",
		Errors: []int{http.StatusNotFound, http.StatusConflict}}, a.deactivateAccount)
}

func showAccount(account *acme.Account) Account {
	view := Account{
		ID:            account.ID,
		Status:        account.Status(),
		Contacts:      account.Contacts,
		Thumbprint:    account.Key.Thumbprint(),
		EABBound:      account.BoundExternally,
		TermsAgreedAt: when(account.TermsAgreedAt),
		CreatedAt:     account.CreatedAt,
		DeactivatedAt: when(account.DeactivatedAt),
	}
	if view.Contacts == nil {
		view.Contacts = []string{}
	}
	return view
}

func (a *API) listAccounts(ctx context.Context, in *Page) (*listOutput[Account], error) {
	all, err := a.cfg.Store.Accounts(ctx, in.Before, in.Limit+1)
	if err != nil {
		return nil, err
	}
	return pageOf(all, in.Limit, func(account *acme.Account) string { return account.ID }, showAccount), nil
}

// account answers with the account as it is stored now.
func (a *API) account(ctx context.Context, id string) (*accountOutput, error) {
	account, err := a.cfg.Store.Account(ctx, id)
	if err != nil {
		return nil, missing(err, "account", id)
	}
	view := showAccount(account)
	if view.EABKeyIDs, err = a.cfg.Store.BoundEABKeys(ctx, id); err != nil {
		return nil, err
	}
	return &accountOutput{view}, nil
}

func (a *API) getAccount(ctx context.Context, in *accountPath) (*accountOutput, error) {
	return a.account(ctx, in.ID)
}

func (a *API) deactivateAccount(ctx context.Context, in *accountPath) (*accountOutput, error) {
	err := a.cfg.Store.DeactivateAccount(ctx, actor(ctx), in.ID)
	if errors.Is(err, store.ErrConflict) {
		return nil, problem(http.StatusConflict, "the account %q is deactivated already", in.ID)
	}
	if err != nil {
		return nil, missing(err, "account", in.ID)
	}
	return a.account(ctx, in.ID)
}
