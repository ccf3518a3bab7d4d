package lifecycle

import (
	"context"
	"sync"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
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
	// caaAtOnceOfAll is how many names of all orders are: each can be many questions,
	// and resolvers serve others too.
	caaAtOnceOfAll = 64
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

// caaRounds sees that an order is checked once at a time, however often a client
// says finalize.
type caaRounds struct {
	mu      sync.Mutex
	ordered map[string]chan struct{} // by order, closed at the end of the round
}

// begin starts the round of an order. When one is under way it waits for that to
// end and returns store.ErrConflict: the order may have changed with it.
func (r *caaRounds) begin(ctx context.Context, orderID string) (end func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if running, ok := r.ordered[orderID]; ok {
		r.mu.Unlock()
		defer r.mu.Lock()
		select {
		case <-running:
			return nil, store.ErrConflict
		case <-ctx.Done():
			return nil, caaBusy()
		}
	}
	ended := make(chan struct{})
	r.ordered[orderID] = ended
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.ordered, orderID)
		close(ended)
	}, nil
}

func caaBusy() error {
	p := acme.RateLimited("the server has too many CAA records to ask for; finalize the order again later")
	p.RetryAfter = 10 * time.Second
	return p
}

// CheckCAA asks again, before an order is issued, for the names whose CAA records
// were not asked within 8 hours. An error that is a *acme.Problem leaves the order
// ready, to be finalized again; store.ErrConflict means that another check of the
// order ended meanwhile, and to look at it again.
func (l *Lifecycle) CheckCAA(ctx context.Context, p *policy.Profile, o *acme.Order, authzs []acme.Authorization) error {
	if p.CAA != policy.CAAReport && p.CAA != policy.CAAEnforce {
		return nil
	}
	due := l.caaDue(o, authzs)
	if len(due) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, caaTime)
	defer cancel()
	end, err := l.caaRounds.begin(ctx, o.ID)
	if err != nil {
		return err
	}
	defer end()
	var mu sync.Mutex
	var problems []*acme.Problem
	var checks sync.WaitGroup
	busy := false
	slots := make(chan struct{}, caaAtOnce)
	for _, name := range due {
		slots <- struct{}{}
		checks.Go(func() {
			defer func() { <-slots }()
			select {
			case l.caaSlots <- struct{}{}:
				defer func() { <-l.caaSlots }()
			case <-ctx.Done():
				mu.Lock()
				defer mu.Unlock()
				busy = true
				return
			}
			if outcome, _ := l.caa(ctx, p, o.AccountID, name.id, name.method); outcome.Problem != nil {
				mu.Lock()
				defer mu.Unlock()
				problems = append(problems, outcome.Problem.For(name.id))
			}
		})
	}
	checks.Wait()
	switch {
	case len(problems) > 0:
		return acme.Compound(problems)
	case busy:
		return caaBusy()
	}
	return nil
}

// caaName is a name to ask for, with the method that validated it.
type caaName struct {
	id     acme.Identifier
	method string
}

// caaDue returns the names of an order whose CAA records are to be asked now.
func (l *Lifecycle) caaDue(o *acme.Order, authzs []acme.Authorization) []caaName {
	var due []caaName
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
		due = append(due, caaName{id, method})
	}
	return due
}
