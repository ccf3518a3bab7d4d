package admin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/store"
)

// Issuer is an issuer as the API shows it.
type Issuer struct {
	store.Issuer
	NotAfter         time.Time `json:"not_after" doc:"When the first certificate of the chain to expire does so."`
	RootSHA256       string    `json:"root_sha256" doc:"Of the root certificate, hexadecimal."`
	PermittedDomains []string  `json:"permitted_domains" nullable:"false" doc:"What its name constraints allow. None: any name."`
	Chains           []Chain   `json:"chains" nullable:"false" doc:"What its certificates are offered with, the default chain first."`
}

type issuerPath struct {
	ID string `path:"id" doc:"Id of the issuer."`
}

type issuerOutput struct{ Body Issuer }

func (a *API) registerIssuers() {
	register(a, huma.Operation{OperationID: "list-issuers", Method: http.MethodGet, Path: "/issuers", Tags: []string{"Issuers"},
		Summary: "List issuers, by id"}, a.listIssuers)
	register(a, huma.Operation{OperationID: "get-issuer", Method: http.MethodGet, Path: "/issuers/{id}", Tags: []string{"Issuers"},
		Summary: "Show an issuer", Errors: []int{http.StatusNotFound}}, a.getIssuer)
}

func (a *API) listIssuers(ctx context.Context, _ *struct{}) (*listOutput[Issuer], error) {
	all, err := a.cfg.Store.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	views := make([]Issuer, 0, len(all))
	for _, issuer := range all {
		view, err := a.showIssuer(ctx, issuer)
		if err != nil {
			return nil, err
		}
		views = append(views, view)
	}
	return wholeList(views), nil
}

func (a *API) getIssuer(ctx context.Context, in *issuerPath) (*issuerOutput, error) {
	return a.issuer(ctx, in.ID)
}

// issuer answers with the issuer as it is stored now.
func (a *API) issuer(ctx context.Context, id string) (*issuerOutput, error) {
	stored, err := a.cfg.Store.Issuer(ctx, id)
	if err != nil {
		return nil, missing(err, "issuer", id)
	}
	view, err := a.showIssuer(ctx, stored)
	return &issuerOutput{view}, err
}

func (a *API) showIssuer(ctx context.Context, issuer store.Issuer) (Issuer, error) {
	chain, err := pki.ParseChainPEM([]byte(issuer.Chain))
	if err != nil {
		return Issuer{}, fmt.Errorf("stored chain of %s: %w", issuer.ID, err)
	}
	sum := sha256.Sum256(chain[len(chain)-1].Raw)
	view := Issuer{Issuer: issuer, NotAfter: chain[0].NotAfter, RootSHA256: hex.EncodeToString(sum[:]), PermittedDomains: []string{}}
	for _, c := range chain {
		if c.NotAfter.Before(view.NotAfter) {
			view.NotAfter = c.NotAfter
		}
	}
	if constraints, known := a.cfg.Constraints(issuer.ID); known && constraints.PermittedDomains != nil {
		view.PermittedDomains = constraints.PermittedDomains
	}
	view.Chains, err = a.chains(ctx, issuer.ID)
	return view, err
}
