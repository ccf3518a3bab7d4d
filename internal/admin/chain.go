package admin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/store"
)

// Chain is a chain that an issuer's certificates are offered with, as the API
// shows it.
type Chain struct {
	ID               string    `json:"id" doc:"\"own\" for the issuer's own chain."`
	Default          bool      `json:"default" doc:"Clients that choose none get it. The others are its alternates."`
	Name             string    `json:"name" doc:"Common name of whoever issued its last certificate, by which clients choose it (--preferred-chain)."`
	NotAfter         time.Time `json:"not_after" doc:"When the first of its certificates to expire does so. From then on it is not offered."`
	RootSHA256       string    `json:"root_sha256,omitempty" doc:"Of its root, hexadecimal; absent when the root was not given."`
	PermittedDomains []string  `json:"permitted_domains" nullable:"false" doc:"What its name constraints allow. None: any name. It is not offered for other names."`
	PEM              string    `json:"pem" doc:"What follows a certificate, without the root."`
	CreatedAt        time.Time `json:"created_at"`
	Warnings         []string  `json:"warnings" nullable:"false" doc:"What is allowed but worth a second look."`
}

type newChainInput struct {
	ID   string `path:"id" doc:"Id of the issuer."`
	Body struct {
		PEM     string `json:"pem" doc:"The issuer's certificate as another CA has signed it, then those of that CA in order, with or without its root."`
		Default bool   `json:"default,omitempty" doc:"Make it the default chain."`
	}
}

type chainPath struct {
	ID    string `path:"id" doc:"Id of the issuer."`
	Chain string `path:"chain" doc:"Id of the chain."`
}

type issuerPatchInput struct {
	ID   string `path:"id" doc:"Id of the issuer."`
	Body struct {
		DefaultChain string `json:"default_chain" doc:"Id of the chain that is to be the default, \"own\" for the issuer's own."`
	}
}

// IssuerCSR is an issuer's request for a certificate.
type IssuerCSR struct {
	PEM string `json:"pem" doc:"PKCS #10, for another CA to sign with the extensions of the request copied."`
}

type (
	chainOutput struct{ Body Chain }
	csrOutput   struct{ Body IssuerCSR }
)

func (a *API) registerChains() {
	tags := []string{"Issuers"}
	register(a, huma.Operation{OperationID: "get-issuer-csr", Method: http.MethodGet, Path: "/issuers/{id}/csr", Tags: tags,
		Summary: "Make a request for another CA to sign the issuer's key", Errors: []int{http.StatusNotFound}}, a.issuerCSR)
	register(a, huma.Operation{OperationID: "add-issuer-chain", Method: http.MethodPost, Path: "/issuers/{id}/chains", Tags: tags,
		Summary: "Add a chain to the root of another CA", DefaultStatus: http.StatusCreated,
		Errors: []int{http.StatusNotFound, http.StatusConflict}}, a.addChain)
	register(a, huma.Operation{OperationID: "remove-issuer-chain", Method: http.MethodDelete, Path: "/issuers/{id}/chains/{chain}", Tags: tags,
		Summary: "Remove a chain that was added", Description: "When it was the default one, the issuer's own is again.",
		DefaultStatus: http.StatusNoContent, Errors: []int{http.StatusNotFound, http.StatusConflict}}, a.removeChain)
	register(a, huma.Operation{OperationID: "update-issuer", Method: http.MethodPatch, Path: "/issuers/{id}", Tags: tags,
		Summary: "Make another chain the default one", Errors: []int{http.StatusNotFound, http.StatusConflict}}, a.updateIssuer)
}

func (a *API) issuerCSR(ctx context.Context, in *issuerPath) (*csrOutput, error) {
	local, ok := a.cfg.Issuers[in.ID]
	if !ok {
		return nil, missing(store.ErrNotFound, "issuer", in.ID)
	}
	der, err := local.CSR()
	if err != nil {
		return nil, err
	}
	if err := a.cfg.Store.RecordIssuerCSR(ctx, actor(ctx), in.ID); err != nil {
		return nil, err
	}
	return &csrOutput{IssuerCSR{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))}}, nil
}

func (a *API) addChain(ctx context.Context, in *newChainInput) (*chainOutput, error) {
	chains, err := a.cfg.Store.IssuerChains(ctx, in.ID)
	if err != nil {
		return nil, missing(err, "issuer", in.ID)
	}
	chain, err := a.checkChain(in.Body.PEM, chains)
	if err != nil {
		return nil, refused(fmt.Errorf("pem: %w", err))
	}
	err = a.cfg.Store.AddIssuerChain(ctx, actor(ctx), in.ID, chain, in.Body.Default)
	if errors.Is(err, store.ErrExists) {
		return nil, problem(http.StatusConflict, "the issuer %q has this chain already, as %s", in.ID, chain.ID())
	}
	if err != nil {
		return nil, missing(err, "issuer", in.ID)
	}
	views, err := a.chains(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	for _, view := range views {
		if view.ID == chain.ID() {
			return &chainOutput{view}, nil
		}
	}
	return nil, missing(store.ErrNotFound, "chain", chain.ID()) // removed at once
}

// checkChain reads a chain and holds it against the issuer's own.
func (a *API) checkChain(text string, chains []store.IssuerChain) (*pki.Chain, error) {
	certs, err := pki.ParseChainPEM([]byte(text))
	if err != nil {
		return nil, err
	}
	chain, err := pki.NewChain(certs)
	if err != nil {
		return nil, err
	}
	for _, c := range chains {
		if c.Own {
			err = chain.Check(c.Chain, a.cfg.Store.Now())
		}
	}
	return chain, err
}

func (a *API) removeChain(ctx context.Context, in *chainPath) (*struct{}, error) {
	if _, err := a.cfg.Store.IssuerChains(ctx, in.ID); err != nil {
		return nil, missing(err, "issuer", in.ID)
	}
	if in.Chain == store.OwnChain {
		return nil, problem(http.StatusConflict, "the issuer's own chain cannot be removed")
	}
	return nil, missing(a.cfg.Store.RemoveIssuerChain(ctx, actor(ctx), in.ID, in.Chain), "chain", in.Chain)
}

func (a *API) updateIssuer(ctx context.Context, in *issuerPatchInput) (*issuerOutput, error) {
	if _, err := a.cfg.Store.IssuerChains(ctx, in.ID); err != nil {
		return nil, missing(err, "issuer", in.ID)
	}
	err := a.cfg.Store.SetDefaultChain(ctx, actor(ctx), in.ID, in.Body.DefaultChain)
	if errors.Is(err, store.ErrConflict) {
		return nil, problem(http.StatusConflict, "the chain %q is the default already", in.Body.DefaultChain)
	}
	if err != nil {
		return nil, missing(err, "chain", in.Body.DefaultChain)
	}
	return a.issuer(ctx, in.ID)
}

// chains returns an issuer's chains as they are stored now.
func (a *API) chains(ctx context.Context, issuerID string) ([]Chain, error) {
	all, err := a.cfg.Store.IssuerChains(ctx, issuerID)
	if err != nil {
		return nil, err
	}
	named := map[string]int{}
	for _, c := range all {
		named[c.Name()]++
	}
	views := make([]Chain, len(all))
	for i, c := range all {
		views[i] = showChain(c)
		if named[c.Name()] > 1 {
			views[i].Warnings = append(views[i].Warnings, fmt.Sprintf("another chain has the name %q too, so clients cannot choose by it", c.Name()))
		}
	}
	return views, nil
}

func showChain(c store.IssuerChain) Chain {
	view := Chain{
		ID: c.ID(), Default: c.Default, Name: c.Name(), NotAfter: c.NotAfter(), PermittedDomains: []string{},
		PEM: string(c.PEM()), CreatedAt: c.CreatedAt, Warnings: []string{},
	}
	if c.Own {
		view.ID = store.OwnChain
	}
	if domains, _ := c.Permitted(); domains != nil {
		view.PermittedDomains = domains
	}
	if root := c.Root(); root != nil {
		sum := sha256.Sum256(root.Raw)
		view.RootSHA256 = hex.EncodeToString(sum[:])
	} else {
		view.Warnings = append(view.Warnings, "its root was not given, so that nobody has verified its last signature")
	}
	if !c.SignsCRLs() {
		view.Warnings = append(view.Warnings, "its first certificate does not let the issuer sign CRLs, so they do not hold under this chain")
	}
	return view
}
