// Package lifecycle does the CA's work off the request path: it signs what
// orders have claimed, validates challenges, publishes CRLs and sweeps. All of
// it is recorded in the store before it is begun and leased while it is done, so
// a crash at any point loses nothing: whoever comes next takes it up.
//
// # The life of an order
//
//  1. newOrder: one transaction spends the limits and makes the order with its
//     authorizations. In a trusted order they are derived and born valid.
//  2. A response to a challenge records the attempt and leases it (state: the
//     authorization is due). Crash here: the lease runs out and it is due again.
//  3. The validation's end is written under the lease's fencing number. A
//     validator that was paused for longer than its lease finds the number
//     changed and its result is dropped.
//  4. finalize: the claim, a guarded UPDATE that one caller wins, records all that
//     determines the certificate: serial, validity, issuer, profile revision,
//     CSR. Crash here: the claimed row is the queue; when the lease has run out
//     another takes the claim with the next fencing number.
//  5. The issuer signs what was claimed. Software keys sign deterministically, so
//     two who sign the same claim, one of them late, make the same bytes: there
//     is one certificate for a serial whatever happens.
//  6. One transaction stores the certificate and ends the order, if the fencing
//     number still holds.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/store"
	"github.com/certctl/certctl/internal/validate"
)

// Config is what the lifecycle works with.
type Config struct {
	Store   *store.Store
	Issuers map[string]*issuer.Local // by id
	// Probe validates one challenge in the outside world.
	Probe func(context.Context, acme.ChallengeType, validate.Target) validate.Outcome
	// CAA asks for CAA records; without it nothing is issued under a profile that
	// wants them asked.
	CAA CAA
	// Slots is how many validations of each type run at once.
	Slots map[acme.ChallengeType]int
	// AuthzTTL is how long an authorization is valid after its validation.
	AuthzTTL time.Duration
	// SweepInterval is the time between two sweeps.
	SweepInterval time.Duration
	Log           *slog.Logger
}

// Lifecycle is the CA's work off the request path. Run does it.
type Lifecycle struct {
	cfg         Config
	validations map[acme.ChallengeType]*fairQueue
	crls        *crlPublisher
	caaRounds   caaRounds
	caaSlots    chan struct{}  // one for each name that CheckCAA asks for
	issuing     sync.WaitGroup // of Begin
}

// New returns a lifecycle that works once Run is called.
func New(cfg Config) (*Lifecycle, error) {
	if cfg.Store == nil || cfg.Probe == nil || cfg.Log == nil || cfg.AuthzTTL <= 0 || cfg.SweepInterval <= 0 {
		return nil, errors.New("lifecycle: a store, a probe, a log, an authorization lifetime and a sweep interval are needed")
	}
	l := &Lifecycle{
		cfg:         cfg,
		validations: map[acme.ChallengeType]*fairQueue{},
		caaRounds:   caaRounds{ordered: map[string]chan struct{}{}},
		caaSlots:    make(chan struct{}, caaAtOnceOfAll),
	}
	for t, slots := range cfg.Slots {
		if slots < 1 {
			return nil, fmt.Errorf("lifecycle: %d slots for %s", slots, t)
		}
		l.validations[t] = newFairQueue(slots)
	}
	l.crls = newCRLPublisher(cfg.Store, cfg.Issuers, cfg.Log)
	return l, nil
}

// Run works until the context ends and returns when the work under way is done
// or safely left to the next.
func (l *Lifecycle) Run(ctx context.Context) error {
	var actors sync.WaitGroup
	actors.Go(func() { l.every(ctx, time.Second, "take over claims", l.takeClaims) })
	actors.Go(func() { l.every(ctx, time.Second, "take over validations", l.takeValidations) })
	actors.Go(func() { l.every(ctx, l.cfg.SweepInterval, "sweep", l.sweep) })
	actors.Go(func() { l.crls.run(ctx) })
	for t, queue := range l.validations {
		for range l.cfg.Slots[t] {
			actors.Go(func() { l.validator(ctx, queue) })
		}
	}
	<-ctx.Done()
	for _, queue := range l.validations {
		queue.close()
	}
	actors.Wait()
	l.issuing.Wait()
	return nil
}

// every runs a step now and then at the interval, and logs its errors.
func (l *Lifecycle) every(ctx context.Context, interval time.Duration, what string, step func(context.Context) error) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if err := step(ctx); err != nil && ctx.Err() == nil {
			l.cfg.Log.Error("background work failed", "task", what, "error", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// sweepGrace is how long what has ended can still be looked at.
const sweepGrace = time.Hour

// sweep removes what has ended, in bounded steps until nothing is left.
func (l *Lifecycle) sweep(ctx context.Context) error {
	for {
		removed, err := l.cfg.Store.Sweep(ctx, sweepGrace)
		if err != nil || removed == 0 {
			return err
		}
	}
}
