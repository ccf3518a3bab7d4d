package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/store"
)

// Order is an order as the API shows it.
type Order struct {
	ID             string            `json:"id"`
	Status         acme.Status       `json:"status" enum:"pending,ready,processing,valid,invalid"`
	Reason         string            `json:"reason,omitempty" doc:"Why the order is invalid, in a line."`
	AccountID      string            `json:"account_id"`
	ProfileID      string            `json:"profile_id"`
	Identifiers    []acme.Identifier `json:"identifiers" nullable:"false"`
	Trusted        bool              `json:"trusted" doc:"Authorized by its profile; no challenge was run."`
	NotBefore      *time.Time        `json:"not_before,omitempty" doc:"As the client asked."`
	NotAfter       *time.Time        `json:"not_after,omitempty" doc:"As the client asked."`
	CreatedAt      time.Time         `json:"created_at"`
	ExpiresAt      time.Time         `json:"expires_at"`
	FinalizedAt    *time.Time        `json:"finalized_at,omitempty"`
	IssuedAt       *time.Time        `json:"issued_at,omitempty"`
	Serial         string            `json:"serial,omitempty" doc:"Of the certificate."`
	Problem        *acme.Problem     `json:"problem,omitempty" doc:"As the client sees it."`
	Authorizations []Authorization   `json:"authorizations,omitempty" doc:"Not in lists."`
}

// Authorization is an authorization of an order as the API shows it.
type Authorization struct {
	ID            string               `json:"id"`
	Identifier    acme.Identifier      `json:"identifier"`
	Wildcard      bool                 `json:"wildcard,omitempty"`
	Status        acme.Status          `json:"status" enum:"pending,valid,invalid,deactivated,expired"`
	Offered       []acme.ChallengeType `json:"offered,omitempty" doc:"The challenges that the client could choose from."`
	Attempted     acme.ChallengeType   `json:"attempted,omitempty" doc:"The challenge that the client chose."`
	AttemptedAt   *time.Time           `json:"attempted_at,omitempty"`
	ValidatedAt   *time.Time           `json:"validated_at,omitempty"`
	DeactivatedAt *time.Time           `json:"deactivated_at,omitempty"`
	ExpiresAt     time.Time            `json:"expires_at"`
	Problem       *acme.Problem        `json:"problem,omitempty" doc:"As the client sees it."`
	Trace         json.RawMessage      `json:"trace,omitempty" doc:"What the last validation did, step by step; the client does not see it."`
}

// OrderQuery selects orders; empty fields select all.
type OrderQuery struct {
	AccountID string `query:"account_id"`
	ProfileID string `query:"profile_id"`
	Name      string `query:"name" doc:"One of the order's names or addresses."`
	Page
}

type (
	orderPath struct {
		ID string `path:"id"`
	}
	orderOutput struct{ Body Order }
)

func (a *API) registerOrders() {
	tags := []string{"Orders"}
	register(a, huma.Operation{OperationID: "list-orders", Method: http.MethodGet, Path: "/orders", Tags: tags,
		Summary: "List orders, the newest first"}, a.listOrders)
	register(a, huma.Operation{OperationID: "get-order", Method: http.MethodGet, Path: "/orders/{id}", Tags: tags,
		Summary: "Show an order and how its validations went", Errors: []int{http.StatusNotFound}}, a.getOrder)
}

func showOrder(o *acme.Order, authzs []acme.Authorization, now time.Time) Order {
	view := Order{
		ID:          o.ID,
		Status:      o.Status(authzs, now),
		AccountID:   o.AccountID,
		ProfileID:   o.ProfileID,
		Identifiers: o.Names(),
		Trusted:     o.Trusted(),
		NotBefore:   when(o.NotBefore),
		NotAfter:    when(o.NotAfter),
		CreatedAt:   o.CreatedAt,
		ExpiresAt:   o.ExpiresAt,
		FinalizedAt: when(o.ClaimedAt),
		IssuedAt:    when(o.IssuedAt),
		Problem:     o.Problem,
	}
	if view.Status == acme.StatusValid {
		view.Serial = o.Serial
	}
	if view.Status == acme.StatusInvalid {
		view.Reason = whyInvalid(o, authzs, now)
	}
	return view
}

// whyInvalid says what made an order invalid: its problem, or what follows from
// time and from authorizations that were given up.
func whyInvalid(o *acme.Order, authzs []acme.Authorization, now time.Time) string {
	if o.Problem != nil {
		reasons := []string{o.Problem.Detail}
		for _, sub := range o.Problem.Subproblems {
			reasons = append(reasons, sub.Detail)
		}
		return strings.Join(reasons, ": ")
	}
	if len(o.DeactivatedAuthzs) > 0 {
		return "an authorization was deactivated"
	}
	if !now.Before(o.ExpiresAt) {
		return "the order expired before it was finalized"
	}
	for i := range authzs {
		z := &authzs[i]
		switch status := z.Status(now); {
		case status == acme.StatusPending || status == acme.StatusValid:
		case z.Problem != nil:
			return fmt.Sprintf("validation of %s failed: %s", z.Identifier.Value, z.Problem.Detail)
		case status == acme.StatusDeactivated:
			return fmt.Sprintf("the authorization of %s was deactivated", z.Identifier.Value)
		default:
			return fmt.Sprintf("the authorization of %s expired", z.Identifier.Value)
		}
	}
	return ""
}

func showAuthorization(z *acme.Authorization, now time.Time) Authorization {
	return Authorization{
		ID:            z.ID,
		Identifier:    z.Identifier,
		Wildcard:      z.Wildcard,
		Status:        z.Status(now),
		Offered:       z.Offered,
		Attempted:     z.Attempted,
		AttemptedAt:   when(z.AttemptedAt),
		ValidatedAt:   when(z.ValidatedAt),
		DeactivatedAt: when(z.DeactivatedAt),
		ExpiresAt:     z.ExpiresAt,
		Problem:       z.Problem,
	}
}

// canonicalName is how a name is stored; what is no name is found nowhere.
func canonicalName(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

func (a *API) listOrders(ctx context.Context, in *OrderQuery) (*listOutput[Order], error) {
	orders, authzs, err := a.cfg.Store.Orders(ctx, store.OrderQuery{
		AccountID: in.AccountID, ProfileID: in.ProfileID, Name: canonicalName(in.Name), Before: in.Before, Limit: in.Limit + 1})
	if err != nil {
		return nil, err
	}
	now := a.cfg.Store.Now()
	return pageOf(orders, in.Limit, func(o *acme.Order) string { return o.ID },
		func(o *acme.Order) Order { return showOrder(o, authzs[o.ID], now) }), nil
}

func (a *API) getOrder(ctx context.Context, in *orderPath) (*orderOutput, error) {
	o, authzs, err := a.cfg.Store.Order(ctx, in.ID)
	if err != nil {
		return nil, missing(err, "order", in.ID)
	}
	now := a.cfg.Store.Now()
	view := showOrder(o, authzs, now)
	for i := range authzs {
		z := showAuthorization(&authzs[i], now)
		trace, err := a.cfg.Store.Trace(ctx, z.ID)
		if err != nil {
			return nil, err
		}
		if trace != "" && trace != "null" {
			z.Trace = json.RawMessage(trace)
		}
		view.Authorizations = append(view.Authorizations, z)
	}
	for i := range o.Identifiers {
		if z, ok := o.TrustedAuthorization(i); ok {
			view.Authorizations = append(view.Authorizations, showAuthorization(&z, now))
		}
	}
	return &orderOutput{view}, nil
}
