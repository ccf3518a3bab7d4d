package lifecycle

import (
	"context"
	"sync"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/validate"
)

const (
	// caaFresh is how long a CAA check holds. Eight hours is the rule of the public
	// Web, which serves here too.
	caaFresh = 8 * time.Hour
	// caaTime bounds all checks of one order, which a client waits for.
	caaTime = 20 * time.Second
	// caaAtOnce is how many names of an order are asked for at once.
	caaAtOnce = 16
)

// CAA is how CAA records are asked and what they are compared with.
type CAA struct {
	Check       func(context.Context, validate.CAAQuery) validate.Outcome
	Identities  []string                        // the CA's names in the records
	AccountURLs func(accountID string) []string // the URLs of an account (RFC 8657, Section 3)
}

// caa asks whether the CAA records of a name let the account have a certificate
// under the profile. The outcome has no problem where the profile does not obey
// them; passed says that they were asked and do not forbid it.
func (l *Lifecycle) caa(ctx context.Context, p *policy.Profile, accountID string, id acme.Identifier, method string) (outcome validate.Outcome, passed bool) {
	if p.CAA != policy.CAAReport && p.CAA != policy.CAAEnforce || id.Type != acme.DNS {
		return validate.Outcome{}, false
	}
	if l.cfg.CAA.Check == nil {
		return validate.Outcome{Problem: acme.ServerInternal("the server cannot ask for CAA records")}, false
	}
	outcome = l.cfg.CAA.Check(ctx, validate.CAAQuery{
		Identifier: id, Identities: l.cfg.CAA.Identities, AccountURLs: l.cfg.CAA.AccountURLs(accountID), Methods: []string{method},
	})
	if outcome.Problem != nil && p.CAA == policy.CAAReport {
		l.cfg.Log.Warn("CAA would forbid this", "identifier", id.Value, "profile", p.ID, "account", accountID, "problem", outcome.Problem.Detail)
		outcome.Problem = nil
		return outcome, false // the profile may obey them tomorrow
	}
	return outcome, outcome.Problem == nil
}

// CheckCAA asks again, before an order is issued, for the names whose CAA records
// were not asked within 8 hours. The error is a *acme.Problem; the order stays
// ready and can be finalized again.
func (l *Lifecycle) CheckCAA(ctx context.Context, p *policy.Profile, o *acme.Order, authzs []acme.Authorization) error {
	if p.CAA != policy.CAAReport && p.CAA != policy.CAAEnforce {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, caaTime)
	defer cancel()
	var mu sync.Mutex
	var problems []*acme.Problem
	var checks sync.WaitGroup
	slots := make(chan struct{}, caaAtOnce)
	now := l.cfg.Store.Now()
	for i, name := range o.Identifiers {
		id, method := name.Identifier, validate.MethodTrust
		if !o.Trusted() {
			a := &authzs[i]
			if a.Identifier == id.Base() && now.Sub(a.CAACheckedAt) < caaFresh {
				continue
			}
			method = string(a.Attempted)
		}
		slots <- struct{}{}
		checks.Go(func() {
			defer func() { <-slots }()
			if outcome, _ := l.caa(ctx, p, o.AccountID, id, method); outcome.Problem != nil {
				mu.Lock()
				defer mu.Unlock()
				problems = append(problems, outcome.Problem.For(id))
			}
		})
	}
	checks.Wait()
	if len(problems) > 0 {
		return acme.Compound(problems)
	}
	return nil
}
