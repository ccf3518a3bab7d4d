package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

const (
	// ClaimLease is how long a claim belongs to who made it.
	ClaimLease = 15 * time.Second
	// takeAtOnce bounds how many claims are taken over in one step.
	takeAtOnce = 64
)

// Begin issues a claim in the background. The channel tells when that is done;
// the caller need not wait so long, Run does.
func (l *Lifecycle) Begin(ctx context.Context, c *store.Claim, p *policy.Profile, csr *pki.CSR) <-chan error {
	done := make(chan error, 1)
	background := context.WithoutCancel(ctx) // a client that hangs up ends nothing
	l.issuing.Go(func() { done <- l.Issue(background, c, p, csr) })
	return done
}

// Issue signs a claim under the profile that it was made with, and ends its
// order: with the certificate, or with a problem when it can never be signed. An
// error means that the claim stands and will be taken over.
func (l *Lifecycle) Issue(ctx context.Context, c *store.Claim, p *policy.Profile, csr *pki.CSR) error {
	der, refusal := l.sign(ctx, c, p, csr)
	if refusal != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return l.refuse(ctx, c, refusal)
	}
	return l.cfg.Store.FinishOrder(ctx, c, der)
}

// refuse ends an order that cannot be issued, and logs why.
func (l *Lifecycle) refuse(ctx context.Context, c *store.Claim, refusal error) error {
	log := l.cfg.Log.With("order", c.OrderID, "serial", c.Serial)
	var linted *pki.LintError
	if errors.As(refusal, &linted) {
		log.Error("order cannot be issued: linting refuses the certificate", "issuer", c.IssuerID, "lints", linted.Findings)
		return l.cfg.Store.FailOrder(ctx, c, lintProblem(linted))
	}
	log.Error("order cannot be issued", "error", refusal)
	return l.cfg.Store.FailOrder(ctx, c, acme.ServerInternal("the issuer %s refused to sign this certificate", c.IssuerID))
}

// lintProblem tells the client which lints refuse its certificate. The type says
// what the client could change: the names, or the key. Else the fault is ours or
// the operator's, as when a profile gives certificates a longer life than the
// lints allow that it chose.
func lintProblem(linted *pki.LintError) *acme.Problem {
	problem := acme.ServerInternal
	switch {
	case linted.OfNames():
		problem = acme.RejectedIdentifier
	case linted.OfKey():
		problem = acme.BadCSR
	}
	return problem("the certificate was %v", linted)
}

func (l *Lifecycle) sign(ctx context.Context, c *store.Claim, p *policy.Profile, csr *pki.CSR) ([]byte, error) {
	signer, ok := l.cfg.Issuers[c.IssuerID]
	if !ok {
		return nil, fmt.Errorf("issuer %s is not configured", c.IssuerID)
	}
	leaf := p.Leaf(csr, c.Identifiers, c.Serial, c.NotBefore, c.NotAfter)
	leaf.Point(c.Pointers)
	return signer.Issue(ctx, leaf)
}

// takeClaims finishes claims that their makers left.
func (l *Lifecycle) takeClaims(ctx context.Context) error {
	claims, err := l.cfg.Store.TakeClaims(ctx, ClaimLease, takeAtOnce)
	if err != nil {
		return err
	}
	var errs []error
	for i := range claims {
		if err := l.reissue(ctx, &claims[i]); err != nil && !errors.Is(err, store.ErrConflict) {
			errs = append(errs, fmt.Errorf("order %s: %w", claims[i].OrderID, err))
		}
	}
	return errors.Join(errs...)
}

// reissue signs a claim from what it recorded.
func (l *Lifecycle) reissue(ctx context.Context, c *store.Claim) error {
	l.cfg.Log.Warn("taking over an order that was claimed and not finished", "order", c.OrderID, "serial", c.Serial)
	p, err := l.cfg.Store.ProfileRevision(ctx, c.ProfileID, c.ProfileRevision)
	if err != nil {
		return err
	}
	csr, err := pki.ParseCSR(c.CSR)
	if err != nil { // it could be read once; this version is stricter, or the row is broken
		l.cfg.Log.Error("order cannot be issued: its stored CSR cannot be read any more", "order", c.OrderID, "serial", c.Serial, "error", err)
		return l.cfg.Store.FailOrder(ctx, c, acme.BadCSR("the CSR that the order was finalized with cannot be read any more: %v; make a new order", err))
	}
	return l.Issue(ctx, c, &p, csr)
}
