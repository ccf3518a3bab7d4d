package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/store"
)

// TestModel drives the store and a model of RFC 8555, Section 7.1.6 with the
// same random operations and compares what became of every object after each.
//
// The model is the RFC's diagrams word for word: objects have a state, and
// operations and the passing of time move them from one to the next. The store
// keeps facts and derives the state; so the two share no idea that could be
// wrong in both.
func TestModel(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		rapid.Check(t, func(rt *rapid.T) {
			m := &machine{world: worldFor(rt, t), tempDir: t.TempDir, events: map[audit.Action]int{audit.ProfileCreated: 2}}
			defer func() { m.Close() }()
			for range 2 {
				m.createAccount(rt)
			}
			actions := map[string]func(*rapid.T){"": m.compare}
			for _, a := range []struct {
				name   string
				weight int
				act    func(*rapid.T)
			}{
				{"createAccount", 1, m.createAccount},
				{"deactivateAccount", 1, m.deactivateAccount},
				{"createTrusted", 2, m.createTrusted},
				{"createChallenged", 3, m.createChallenged},
				{"respond", 6, m.respond},
				{"takeValidations", 2, m.takeValidations},
				{"retryValidation", 2, m.retryValidation},
				{"finishValidation", 6, m.finishValidation},
				{"deactivateAuthz", 2, m.deactivateAuthz},
				{"claim", 6, m.claimOrder},
				{"takeClaims", 2, m.takeClaims},
				{"finish", 4, m.finish},
				{"fail", 2, m.fail},
				{"revoke", 2, m.revoke},
				{"wait", 4, m.wait},
				{"restart", 1, m.restart},
				{"crash", 1, m.crash},
				{"sweep", 1, m.sweepAway},
			} {
				for i := range a.weight {
					actions[fmt.Sprint(a.name, i)] = a.act
				}
			}
			rt.Repeat(actions)
		})
	})
}

// worldFor makes a fresh store for one run of the model.
func worldFor(rt *rapid.T, t *testing.T) *world {
	s, err := store.Open(ctx, config(t.TempDir()))
	if err != nil {
		rt.Fatal(err)
	}
	w := worldOf(t, s)
	w.t = rt
	return w
}

// machine is the store under test and the model beside it.
type machine struct {
	*world
	tempDir     func() string
	accounts    []*modelAccount
	orders      []*modelOrder
	authzs      []*modelAuthz
	validations []*modelLease // held by validators, some of which have lost theirs
	claims      []*modelLease // held by issuers, likewise
	certs       []*modelCert
	events      map[audit.Action]int
}

type modelAccount struct {
	id    string
	valid bool
}

type modelOrder struct {
	id      string
	account *modelAccount
	trusted bool
	authzs  []*modelAuthz // in the order of its identifiers
	state   acme.Status
	expires time.Time
	ended   bool // before it was claimed
	claimed bool
	fence   int
	lease   time.Time
}

type modelAuthz struct {
	id        string
	order     *modelOrder // that it was made for
	index     int         // of a trusted order's
	name      string      // of a challenged order's
	state     acme.Status
	expires   time.Time
	validated time.Time
	attempted bool
	decided   bool // by a validation or by being given up, not by time
	fence     int
	due       time.Time
}

// modelLease is what somebody works under; it is lost when the object's fence
// is another.
type modelLease struct {
	order      *modelOrder
	authz      *modelAuthz
	fence      int
	claim      *store.Claim
	validation *store.Validation
}

type modelCert struct {
	serial  string
	order   *modelOrder
	revoked bool
}

// tell compares what the store answered with what the model allows.
func (m *machine) tell(err error, allowed bool, action audit.Action) {
	m.t.Helper()
	switch {
	case allowed && err != nil:
		m.t.Fatalf("refused: %v", err)
	case !allowed && !errors.Is(err, store.ErrConflict):
		m.t.Fatalf("got %v, want ErrConflict", err)
	case allowed:
		m.events[action]++
	}
}

func pick[T any](r *rapid.T, all []T, what string) T {
	if len(all) == 0 {
		r.Skip("no " + what)
	}
	return all[rapid.IntRange(0, len(all)-1).Draw(r, what)]
}

var (
	someLife = rapid.SampledFrom([]time.Duration{20 * time.Second, time.Minute, time.Hour})
	someWait = rapid.SampledFrom([]time.Duration{time.Millisecond, 5 * time.Second, 10 * time.Second, 20 * time.Second, time.Minute, time.Hour})
)

const modelLeaseTime = 10 * time.Second

func (m *machine) createAccount(r *rapid.T) {
	if len(m.accounts) > 5 {
		r.Skip("enough")
	}
	a, created, err := m.CreateAccount(ctx, store.NewAccount{Key: newKey()})
	m.ok(err)
	m.tell(err, created, audit.AccountCreated)
	m.accounts = append(m.accounts, &modelAccount{a.ID, true})
}

func (m *machine) deactivateAccount(r *rapid.T) {
	if len(m.accounts) < 2 || rapid.IntRange(0, 2).Draw(r, "really") > 0 {
		r.Skip("keep some")
	}
	a := pick(r, m.accounts, "account")
	m.tell(m.DeactivateAccount(ctx, "api:test", a.id), a.valid, audit.AccountDeactivated)
	a.valid = false
	for _, o := range m.orders {
		if o.account == a && !o.claimed {
			m.end(o)
			o.state = acme.StatusInvalid
		}
	}
	for _, z := range m.authzs {
		if z.order.account == a && !z.order.trusted && (z.state == acme.StatusPending || z.state == acme.StatusValid) {
			z.decided, z.state = true, acme.StatusDeactivated
		}
	}
}

func (m *machine) createTrusted(t *rapid.T) {
	a, life := pick(t, m.accounts, "account"), someLife.Draw(t, "life")
	n := newTrusted(a.id)
	n.OrderTTL = life
	n.Identifiers = n.Identifiers[:0]
	for i := range rapid.IntRange(1, 2).Draw(t, "names") {
		n.Identifiers = append(n.Identifiers, dns(fmt.Sprintf("n%d.test", i)))
	}
	o, _, err := m.CreateOrder(ctx, n)
	m.tell(err, a.valid, audit.OrderCreated)
	if err != nil {
		return
	}
	order := &modelOrder{id: o.ID, account: a, trusted: true, state: acme.StatusReady, expires: wireTime(m.Now().Add(life))}
	for i, id := range o.AuthzIDs() {
		order.authzs = append(order.authzs, &modelAuthz{id: id, order: order, index: i, state: acme.StatusValid, expires: order.expires})
	}
	m.orders, m.authzs = append(m.orders, order), append(m.authzs, order.authzs...)
}

func (m *machine) createChallenged(t *rapid.T) {
	a, life, authzLife := pick(t, m.accounts, "account"), someLife.Draw(t, "life"), someLife.Draw(t, "authorization's life")
	names := []string{"a.test", "b.test"}[:rapid.IntRange(1, 2).Draw(t, "names")]
	n := newChallenged(a.id, names...)
	n.OrderTTL, n.AuthzTTL = life, authzLife
	n.ReuseFor = rapid.SampledFrom([]time.Duration{0, 30 * time.Second, time.Hour}).Draw(t, "reuse for")
	o, authzs, err := m.CreateOrder(ctx, n)
	m.tell(err, a.valid, audit.OrderCreated)
	if err != nil {
		return
	}
	order := &modelOrder{id: o.ID, account: a, state: acme.StatusPending, expires: wireTime(m.Now().Add(life))}
	for i, z := range authzs {
		var good []*modelAuthz
		for _, known := range m.authzs {
			if known.name == names[i] && known.order.account == a && known.state == acme.StatusValid &&
				m.Now().Sub(known.validated) < n.ReuseFor && known.expires.Sub(m.Now()) > 10*time.Minute {
				good = append(good, known)
			}
		}
		reused := slices.IndexFunc(good, func(known *modelAuthz) bool { return known.id == z.ID })
		switch {
		case len(good) > 0 && reused < 0:
			t.Fatalf("authorization %s is new, though %d could be used again", z.ID, len(good))
		case reused >= 0:
			order.authzs = append(order.authzs, good[reused])
		default:
			fresh := &modelAuthz{id: z.ID, order: order, name: names[i], state: acme.StatusPending, expires: wireTime(m.Now().Add(authzLife))}
			order.authzs, m.authzs = append(order.authzs, fresh), append(m.authzs, fresh)
		}
	}
	m.orders = append(m.orders, order)
}

// wireTime rounds up to the whole seconds that a client is told.
func wireTime(t time.Time) time.Time {
	if t.Truncate(time.Second).Equal(t) {
		return t
	}
	return t.Truncate(time.Second).Add(time.Second)
}

// challengedAuthz picks an authorization that is stored.
func (m *machine) challengedAuthz(t *rapid.T) *modelAuthz {
	var all []*modelAuthz
	for _, z := range m.authzs {
		if !z.order.trusted {
			all = append(all, z)
		}
	}
	return pick(t, all, "authorization")
}

func (m *machine) respond(t *rapid.T) {
	z := m.challengedAuthz(t)
	a, err := m.Authorization(ctx, z.id)
	m.ok(err)
	v, err := m.RespondChallenge(ctx, a, acme.HTTP01, modelLeaseTime)
	m.tell(err, z.state == acme.StatusPending && !z.attempted, audit.ChallengeProcessing)
	if err == nil {
		z.attempted, z.fence, z.due = true, 1, m.Now().Add(modelLeaseTime)
		m.validations = append(m.validations, &modelLease{authz: z, fence: 1, validation: v})
	}
}

func (m *machine) takeValidations(t *rapid.T) {
	due := map[string]*modelAuthz{}
	for _, z := range m.authzs {
		if z.attempted && z.state == acme.StatusPending && !z.due.After(m.Now()) {
			due[z.id] = z
		}
	}
	taken, err := m.TakeValidations(ctx, acme.HTTP01, modelLeaseTime, 1000, nil)
	m.ok(err)
	if len(taken) != len(due) {
		t.Fatalf("%d validations taken, want %d", len(taken), len(due))
	}
	for i := range taken {
		z, ok := due[taken[i].Authorization.ID]
		if !ok {
			t.Fatalf("authorization %s is not due", taken[i].Authorization.ID)
			return
		}
		z.fence++
		z.due = m.Now().Add(modelLeaseTime)
		m.validations = append(m.validations, &modelLease{authz: z, fence: z.fence, validation: &taken[i]})
	}
}

func (m *machine) retryValidation(t *rapid.T) {
	l, after := pick(t, m.validations, "validation"), someWait.Draw(t, "after")
	z := l.authz
	err := m.RetryValidation(ctx, l.validation, after)
	m.tell(err, z.fence == l.fence && !z.decided, "")
	if err == nil {
		z.due = m.Now().Add(after)
	}
}

func (m *machine) finishValidation(t *rapid.T) {
	l, good := pick(t, m.validations, "validation"), rapid.IntRange(0, 3).Draw(t, "good") > 0
	validFor := someLife.Draw(t, "valid for")
	z := l.authz
	mine := z.fence == l.fence
	if good {
		err := m.FinishValidation(ctx, l.validation, nil, validFor, nil)
		m.tell(err, mine && z.state == acme.StatusPending, audit.ChallengeCompleted)
		if err == nil {
			z.decided, z.state, z.validated, z.expires = true, acme.StatusValid, m.Now(), wireTime(m.Now().Add(validFor))
		}
		return
	}
	// Also of one that has expired meanwhile it may be told why.
	err := m.FinishValidation(ctx, l.validation, acme.Unauthorized("wrong"), validFor, nil)
	m.tell(err, mine && !z.decided, audit.ChallengeCompleted)
	if err == nil {
		z.decided, z.state = true, acme.StatusInvalid
		m.end(z.order)
	}
}

// end is what becomes of the order that an authorization was made for, with its
// event, when the authorization can serve it no more.
func (m *machine) end(o *modelOrder) {
	if !o.claimed && !o.ended {
		o.ended = true
		m.events[audit.OrderFailed]++
	}
}

func (m *machine) deactivateAuthz(t *rapid.T) {
	z := pick(t, m.authzs, "authorization")
	allowed := z.state == acme.StatusPending || z.state == acme.StatusValid
	var err error
	if z.order.trusted {
		o, _, orderErr := m.Order(ctx, z.order.id)
		m.ok(orderErr)
		err = m.DeactivateTrustedAuthz(ctx, o, z.id)
	} else {
		a, authzErr := m.Authorization(ctx, z.id)
		m.ok(authzErr)
		err = m.DeactivateAuthorization(ctx, a)
	}
	m.tell(err, allowed, audit.AuthorizationDeactivated)
	if err == nil {
		z.decided, z.state = true, acme.StatusDeactivated
		m.end(z.order)
	}
}

func (m *machine) claimOrder(t *rapid.T) {
	o := pick(t, m.orders, "order")
	order, _, err := m.Order(ctx, o.id)
	m.ok(err)
	c := newClaim(order)
	err = m.ClaimOrder(ctx, c, modelLeaseTime)
	m.tell(err, o.state == acme.StatusReady && o.account.valid, audit.OrderFinalized)
	if err == nil {
		o.state, o.claimed, o.fence, o.lease = acme.StatusProcessing, true, 1, m.Now().Add(modelLeaseTime)
		m.claims = append(m.claims, &modelLease{order: o, fence: 1, claim: c})
	}
}

func (m *machine) takeClaims(t *rapid.T) {
	due := map[string]*modelOrder{}
	for _, o := range m.orders {
		if o.state == acme.StatusProcessing && o.lease.Before(m.Now()) {
			due[o.id] = o
		}
	}
	taken, err := m.TakeClaims(ctx, modelLeaseTime, 1000)
	m.ok(err)
	if len(taken) != len(due) {
		t.Fatalf("%d claims taken, want %d", len(taken), len(due))
	}
	for i := range taken {
		o, ok := due[taken[i].OrderID]
		if !ok {
			t.Fatalf("order %s is not due", taken[i].OrderID)
			return
		}
		o.fence++
		o.lease = m.Now().Add(modelLeaseTime)
		m.claims = append(m.claims, &modelLease{order: o, fence: o.fence, claim: &taken[i]})
	}
}

func (m *machine) finish(t *rapid.T) {
	l := pick(t, m.claims, "claim")
	err := m.FinishOrder(ctx, l.claim, []byte("der"))
	m.tell(err, l.order.fence == l.fence && l.order.state == acme.StatusProcessing, audit.CertificateIssued)
	if err == nil {
		l.order.state = acme.StatusValid
		m.certs = append(m.certs, &modelCert{serial: l.claim.Serial, order: l.order})
	}
}

func (m *machine) fail(t *rapid.T) {
	l := pick(t, m.claims, "claim")
	err := m.FailOrder(ctx, l.claim, acme.ServerInternal("broken"))
	m.tell(err, l.order.fence == l.fence && l.order.state == acme.StatusProcessing, audit.OrderFailed)
	if err == nil {
		l.order.state = acme.StatusInvalid
	}
}

func (m *machine) revoke(t *rapid.T) {
	c := pick(t, m.certs, "certificate")
	m.tell(m.RevokeCertificate(ctx, "api:test", c.serial, 1), !c.revoked, audit.CertificateRevoked)
	c.revoked = true
}

func (m *machine) wait(t *rapid.T) {
	m.Advance(someWait.Draw(t, "wait"))
}

// restart ends every lease, because its holder is gone; the holders in the model
// come back all the same, as a request does that was frozen.
func (m *machine) restart(t *rapid.T) {
	now := m.Now()
	m.ok(m.Close())
	settings := m.Settings()
	settings.Now = func() time.Time { return now }
	s, err := store.Open(ctx, settings)
	m.ok(err)
	s.Advance(now.Sub(s.Now()))
	m.started(s)
}

func (m *machine) crash(t *rapid.T) {
	s, err := m.CrashTo(m.tempDir())
	m.ok(err)
	m.ok(m.Close())
	m.started(s)
}

func (m *machine) started(s *store.Store) {
	m.Store = s
	for _, o := range m.orders {
		o.lease = time.Time{}
	}
	for _, z := range m.authzs {
		z.due = time.Time{}
	}
}

// sweepAway forgets what was never claimed and ended an hour ago.
func (m *machine) sweepAway(t *rapid.T) {
	_, err := m.Sweep(ctx, time.Hour)
	m.ok(err)
	ended := m.Now().Add(-time.Hour)
	gone := func(o *modelOrder) bool { return !o.claimed && o.expires.Before(ended) }
	for _, o := range m.orders {
		o.ended = o.ended || gone(o)
	}
	m.orders = slices.DeleteFunc(m.orders, gone)
	m.authzs = slices.DeleteFunc(m.authzs, func(z *modelAuthz) bool {
		if !gone(z.order) || !z.order.trusted && !z.expires.Before(ended) {
			return false
		}
		z.decided = true // whoever still validates it learns that it is over
		return true
	})
}

// pass is what time alone does.
func (m *machine) pass() {
	now := m.Now()
	for _, z := range m.authzs {
		if !now.Before(z.expires) {
			switch z.state {
			case acme.StatusPending:
				z.state = acme.StatusInvalid
			case acme.StatusValid:
				z.state = acme.StatusExpired
			}
		}
	}
	for _, o := range m.orders {
		if o.state != acme.StatusPending && o.state != acme.StatusReady {
			continue
		}
		valid := 0
		for _, z := range o.authzs {
			switch z.state {
			case acme.StatusValid:
				valid++
			case acme.StatusPending:
			default:
				o.state = acme.StatusInvalid
			}
		}
		switch {
		case o.state == acme.StatusInvalid:
		case !now.Before(o.expires):
			o.state = acme.StatusInvalid
		case valid == len(o.authzs):
			o.state = acme.StatusReady
		}
	}
}

// compare is the check after each step.
func (m *machine) compare(t *rapid.T) {
	m.pass()
	now := m.Now()
	for _, o := range m.orders {
		order, authzs, err := m.Order(ctx, o.id)
		m.ok(err)
		if got := order.Status(authzs, now); got != o.state {
			t.Fatalf("order %s is %s, in the model %s", o.id, got, o.state)
		}
		if got := order.AccountID; got != o.account.id {
			t.Fatalf("order %s is of account %s, in the model of %s", o.id, got, o.account.id)
		}
	}
	for _, z := range m.authzs {
		a, err := m.Authorization(ctx, z.id)
		m.ok(err)
		if got := a.Status(now); got != z.state {
			t.Fatalf("authorization %s is %s, in the model %s", z.id, got, z.state)
		}
	}
	for _, a := range m.accounts {
		account, err := m.Account(ctx, a.id)
		m.ok(err)
		if got := account.Status() == acme.StatusValid; got != a.valid {
			t.Fatalf("account %s is valid: %v, in the model %v", a.id, got, a.valid)
		}
	}
	for _, c := range m.certs {
		cert, err := m.Certificate(ctx, c.serial)
		m.ok(err)
		if cert.OrderID != c.order.id || cert.RevokedAt.IsZero() == c.revoked {
			t.Fatalf("certificate %+v, in the model of order %s, revoked %v", cert, c.order.id, c.revoked)
		}
	}
	delete(m.events, "")
	got := map[audit.Action]int{}
	for _, row := range m.rows(`SELECT action, count(*) FROM audit_events GROUP BY action`) {
		var n int
		fmt.Sscan(row[1], &n)
		got[audit.Action(row[0])] = n
	}
	if len(got) != len(m.events) {
		t.Fatalf("events %v, in the model %v", got, m.events)
	}
	for action, want := range m.events {
		if got[action] != want {
			t.Fatalf("%d events %s, in the model %d", got[action], action, want)
		}
	}
	m.check(t)
}
