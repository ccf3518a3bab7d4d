package admin

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl/certctl/internal/store"
)

// NewRenewal pulls the renewal of certificates forward: clients that ask for
// renewal information (RFC 9773) are told the window in place of the derived one.
type NewRenewal struct {
	Serials        []string   `json:"serials,omitempty" maxItems:"1000" doc:"Only these certificates."`
	AccountID      string     `json:"account_id,omitempty" doc:"Only those of this account."`
	ProfileID      string     `json:"profile_id,omitempty" doc:"Only those under this profile."`
	IssuedBefore   *time.Time `json:"issued_before,omitempty" doc:"Only those issued before."`
	All            bool       `json:"all,omitempty" doc:"Every certificate in use; must be said when nothing else selects."`
	From           *time.Time `json:"from,omitempty" doc:"When the window begins; now when left out."`
	Until          time.Time  `json:"until" doc:"When the window ends. Clients choose a time inside at random."`
	ExplanationURL string     `json:"explanation_url,omitempty" doc:"A page that tells people why."`
}

// Renewal says how many certificates a renewal was set for.
type Renewal struct {
	Certificates int `json:"certificates"`
}

type (
	renewalInput  struct{ Body NewRenewal }
	renewalOutput struct{ Body Renewal }
)

func (a *API) registerRenewals() {
	register(a, huma.Operation{OperationID: "create-renewal", Method: http.MethodPost, Path: "/renewals", Tags: []string{"Certificates"},
		Summary: "Pull the renewal of certificates forward"}, a.createRenewal)
}

func (a *API) createRenewal(ctx context.Context, in *renewalInput) (*renewalOutput, error) {
	b := in.Body
	err := cmp.Or(checkTime("issued_before", b.IssuedBefore), checkTime("from", b.From), checkTime("until", &b.Until))
	if err != nil {
		return nil, err
	}
	set := store.RenewalSet{Serials: b.Serials, AccountID: b.AccountID, ProfileID: b.ProfileID}
	if b.IssuedBefore != nil {
		set.IssuedBefore = *b.IssuedBefore
	}
	selects := len(b.Serials) > 0 || b.AccountID != "" || b.ProfileID != "" || b.IssuedBefore != nil
	if selects == b.All {
		return nil, problem(http.StatusUnprocessableEntity, "all: say which certificates, or all of them, not both")
	}
	window := store.Renewal{From: a.cfg.Store.Now().Truncate(time.Second), Until: b.Until.Truncate(time.Second), ExplanationURL: b.ExplanationURL}
	if b.From != nil {
		window.From = b.From.Truncate(time.Second)
	}
	if !window.Until.After(window.From) {
		return nil, problem(http.StatusUnprocessableEntity, "until: the window ends before it begins")
	}
	if u, err := url.Parse(b.ExplanationURL); b.ExplanationURL != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
		return nil, problem(http.StatusUnprocessableEntity, "explanation_url: %q is not the URL of a page", b.ExplanationURL)
	}
	n, err := a.cfg.Store.SetRenewal(ctx, actor(ctx), set, window)
	if err != nil {
		return nil, err
	}
	return &renewalOutput{Renewal{Certificates: n}}, nil
}

// CreateRenewal pulls the renewal of certificates forward.
func (c *Client) CreateRenewal(ctx context.Context, in NewRenewal) (*Renewal, error) {
	return send[Renewal](ctx, c, http.MethodPost, "/renewals", in)
}
