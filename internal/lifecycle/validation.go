package lifecycle

import (
	"context"
	"errors"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
	"github.com/certctl/certctl/internal/validate"
)

const (
	// ValidationLease is how long an attempt belongs to who took it: longer than a
	// probe can take.
	ValidationLease = 45 * time.Second
	// maxAttempts bounds how often a refused connection is tried again. Some clients
	// open their listener only after they said that they are ready.
	maxAttempts = 6
	// maxQueued bounds the attempts that wait in memory; more wait in the store.
	maxQueued = 4096
	// maxQueuedByOne bounds those of one account, so that one with many names does
	// not fill the queue.
	maxQueuedByOne = 128
)

// retryAfter is the pause before the attempt after the given one: 7.5 seconds in
// all.
func retryAfter(attempt int) time.Duration {
	return time.Duration(attempt) * 500 * time.Millisecond
}

// Validate hands over an attempt that a response to a challenge has leased. It
// does not wait.
func (l *Lifecycle) Validate(v *store.Validation) {
	queue, ok := l.validations[v.Authorization.Attempted]
	if ok && queue.put(v) {
		return
	}
	l.cfg.Log.Warn("validation waits in the database", "authorization", v.Authorization.ID, "challenge", v.Authorization.Attempted)
}

// takeValidations takes up attempts that are due: retries, and those whose lease
// ran out.
func (l *Lifecycle) takeValidations(ctx context.Context) error {
	for t, queue := range l.validations {
		room := min(maxQueued-queue.len(), 256)
		if room <= 0 {
			continue
		}
		taken, err := l.cfg.Store.TakeValidations(ctx, t, ValidationLease, room, queue.full())
		if err != nil {
			return err
		}
		for i := range taken {
			l.Validate(&taken[i])
		}
	}
	return nil
}

// validator works on one attempt after another.
func (l *Lifecycle) validator(ctx context.Context, queue *fairQueue) {
	for {
		v, ok := queue.take()
		if !ok {
			return
		}
		if err := l.attempt(ctx, v); err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrConflict) {
			l.cfg.Log.Error("validation was not recorded", "authorization", v.Authorization.ID, "error", err)
		}
		queue.settle(v) // also when it came to no result
		queue.done(v)
	}
}

// attempt probes once and records what came of it. A shutdown in the middle
// records nothing: the lease runs out and the attempt is made again.
func (l *Lifecycle) attempt(ctx context.Context, v *store.Validation) error {
	a := &v.Authorization
	account, err := l.cfg.Store.Account(ctx, a.AccountID)
	if err != nil {
		return err
	}
	rules, err := l.cfg.Store.Profile(ctx, a.ProfileID)
	if errors.Is(err, store.ErrNotFound) {
		l.validations[a.Attempted].settle(v)
		gone := acme.InvalidProfile("the profile %q was archived: nothing is validated or issued under it any more", a.ProfileID)
		return l.cfg.Store.FinishValidation(ctx, v, gone, 0, nil)
	}
	if err != nil {
		return err
	}
	p := rules.Profile()
	outcome := l.cfg.Probe(ctx, a.Attempted, validate.Target{
		Identifier:       a.Identifier,
		Token:            a.Token,
		KeyAuthorization: acme.KeyAuthorization(a.Token, account.Key),
		RedirectAllowed:  l.redirects(ctx, a),
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if outcome.Problem == nil {
		outcome = l.mayIssue(ctx, p, v, outcome)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	l.validations[a.Attempted].settle(v)
	if outcome.Problem != nil && outcome.Retry && v.Attempt < maxAttempts {
		l.cfg.Log.Info("validation is tried again", "authorization", a.ID, "identifier", a.Identifier.Value, "attempt", v.Attempt,
			"problem", outcome.Problem.Detail, "trace", outcome.Trace)
		return l.cfg.Store.RetryValidation(ctx, v, retryAfter(v.Attempt))
	}
	if outcome.Problem != nil {
		l.cfg.Log.Info("validation failed", "authorization", a.ID, "identifier", a.Identifier.Value, "problem", outcome.Problem.Detail)
	}
	return l.cfg.Store.FinishValidation(ctx, v, outcome.Problem, l.validFor(p), outcome.Trace)
}

// mayIssue asks for CAA records once control is proved, so that a client learns
// early what finalize would refuse.
func (l *Lifecycle) mayIssue(ctx context.Context, p *policy.Profile, v *store.Validation, proved validate.Outcome) validate.Outcome {
	a := &v.Authorization
	id := a.Identifier
	if a.Wildcard {
		id.Value = "*." + id.Value
	}
	outcome, passed := l.caa(ctx, p, a.AccountID, id, string(a.Attempted))
	if passed {
		v.CAACheckedAt = l.cfg.Store.Now()
	}
	outcome.Trace = append(proved.Trace, outcome.Trace...)
	return outcome
}

// validFor is how long an authorization that is validated now is valid: at least
// as long as its profile lets it be used again.
func (l *Lifecycle) validFor(p *policy.Profile) time.Duration {
	return max(l.cfg.AuthzTTL, time.Duration(p.AuthzReuseSeconds)*time.Second)
}

// redirects tells which other hosts a validation may be sent to: names that the
// profile itself would issue for.
func (l *Lifecycle) redirects(ctx context.Context, a *acme.Authorization) func(host string) bool {
	return func(host string) bool {
		rules, err := l.cfg.Store.Profile(ctx, a.ProfileID)
		if err != nil {
			return false
		}
		id, err := acme.ParseIdentifier(string(acme.DNS), host)
		return err == nil && rules.Names(id)
	}
}
