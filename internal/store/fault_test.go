package store_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

// write is one method that changes the database.
type write struct {
	name string
	// prepare brings the database into the state that the change starts from and
	// returns the change.
	prepare func(w *world) func() error
	// event is the action of the change's audit event; "": it writes none, because
	// it is the server's own bookkeeping.
	event audit.Action
	// again is what the caller is told when the change was committed and yet
	// reported as failed, so that it met itself. By default ErrConflict.
	again error
	// twice says that meeting itself the change is made once more, which only its
	// audit events tell.
	twice bool
}

var errAny = errors.New("any error")

// writes are all methods that change the database; TestEveryWriteIsInTheTable
// sees to that.
var writes = []write{
	{name: "CreateAccount", event: audit.AccountCreated, prepare: func(w *world) func() error {
		n := store.NewAccount{Key: newKey(), Contacts: []string{"mailto:a@example.com"}, TermsAgreed: true, EABKeyID: w.eabKey(false)}
		return func() error {
			a, _, err := w.CreateAccount(ctx, n)
			if err == nil && (a.Key.Thumbprint() != n.Key.Thumbprint() || !a.BoundExternally) {
				return errors.New("another account")
			}
			return err
		}
	}, again: nil},
	{name: "UpdateContacts", event: audit.AccountContactUpdated, prepare: func(w *world) func() error {
		a := w.account()
		return func() error { return w.UpdateContacts(ctx, a.ID, []string{"mailto:b@example.com"}) }
	}, again: nil, twice: true},
	{name: "AgreeTerms", event: audit.AccountTermsAgreed, prepare: func(w *world) func() error {
		a := w.account()
		return func() error { return w.AgreeTerms(ctx, a.ID) }
	}, again: nil, twice: true},
	{name: "DeactivateAccount", event: audit.AccountDeactivated, prepare: func(w *world) func() error {
		o, _ := w.challenged()
		return func() error { return w.DeactivateAccount(ctx, "api:test", o.AccountID) }
	}, again: store.ErrConflict},
	{name: "ChangeKey", event: audit.AccountKeyRolled, prepare: func(w *world) func() error {
		a, to := w.account(), newKey()
		return func() error { return w.ChangeKey(ctx, a.ID, a.Key, to) }
	}, again: store.ErrExists},
	{name: "CreateOrder", event: audit.OrderCreated, prepare: func(w *world) func() error {
		n := newChallenged(w.account().ID, "a.test", "b.test")
		return func() error {
			_, _, err := w.CreateOrder(ctx, n)
			return err
		}
	}, again: errAny},
	{name: "CreateAuthorization", event: audit.AuthorizationCreated, prepare: func(w *world) func() error {
		a := w.account()
		return func() error {
			_, _, err := w.CreateAuthorization(ctx, newChallenged(a.ID, "a.test"))
			return err
		}
	}, again: nil, twice: true},
	{name: "RespondChallenge", event: audit.ChallengeProcessing, prepare: func(w *world) func() error {
		_, a := w.challenged()
		return func() error {
			_, err := w.RespondChallenge(ctx, a, acme.HTTP01, time.Minute)
			return err
		}
	}, again: store.ErrConflict},
	{name: "CountResponse", prepare: func(w *world) func() error {
		_, a := w.challenged()
		return func() error { return w.CountResponse(ctx, a.ID) }
	}, again: nil, twice: true},
	{name: "TakeValidations", prepare: func(w *world) func() error {
		_, a := w.challenged()
		w.respond(a)
		w.Advance(2 * time.Minute)
		return func() error {
			_, err := w.TakeValidations(ctx, acme.HTTP01, time.Minute, 10, nil)
			return err
		}
	}, again: nil},
	{name: "RetryValidation", prepare: func(w *world) func() error {
		_, a := w.challenged()
		v := w.respond(a)
		return func() error { return w.RetryValidation(ctx, v, time.Hour) }
	}, again: nil},
	{name: "FinishValidation", event: audit.ChallengeCompleted, prepare: func(w *world) func() error {
		_, a := w.challenged()
		v := w.respond(a)
		return func() error { return w.FinishValidation(ctx, v, acme.Unauthorized("wrong"), time.Hour, "trace") }
	}, again: store.ErrConflict},
	{name: "DeactivateAuthorization", event: audit.AuthorizationDeactivated, prepare: func(w *world) func() error {
		_, a := w.challenged()
		return func() error { return w.DeactivateAuthorization(ctx, a) }
	}, again: store.ErrConflict},
	{name: "DeactivateTrustedAuthz", event: audit.AuthorizationDeactivated, prepare: func(w *world) func() error {
		o := w.trusted()
		return func() error { return w.DeactivateTrustedAuthz(ctx, o, o.AuthzIDs()[0]) }
	}, again: store.ErrConflict},
	{name: "ClaimOrder", event: audit.OrderFinalized, prepare: func(w *world) func() error {
		c := newClaim(w.trusted())
		return func() error { return w.ClaimOrder(ctx, c, time.Minute) }
	}, again: store.ErrConflict},
	{name: "TakeClaims", prepare: func(w *world) func() error {
		w.claim(w.trusted())
		w.Advance(2 * time.Minute)
		return func() error {
			_, err := w.TakeClaims(ctx, time.Minute, 10)
			return err
		}
	}, again: nil},
	{name: "FinishOrder", event: audit.CertificateIssued, prepare: func(w *world) func() error {
		c := w.claim(w.trusted())
		return func() error { return w.FinishOrder(ctx, c, []byte("der")) }
	}, again: store.ErrConflict},
	{name: "FailOrder", event: audit.OrderFailed, prepare: func(w *world) func() error {
		c := w.claim(w.trusted())
		return func() error { return w.FailOrder(ctx, c, acme.ServerInternal("broken")) }
	}, again: store.ErrConflict},
	{name: "StoreServerCertificate", event: audit.CertificateIssued, prepare: func(w *world) func() error {
		c := &store.Certificate{Serial: newSerial(), IssuerID: "iss", Names: []string{"localhost"}, DER: []byte("der"), NotBefore: begin, NotAfter: begin.Add(time.Hour)}
		return func() error { return w.StoreServerCertificate(ctx, c, "server-tls", []byte("key")) }
	}, again: errAny},
	{name: "RevokeCertificate", event: audit.CertificateRevoked, prepare: func(w *world) func() error {
		serial := w.certificate()
		return func() error { return w.RevokeCertificate(ctx, "api:test", serial, 1) }
	}, again: store.ErrConflict},
	{name: "SetRenewal", event: audit.RenewalSet, prepare: func(w *world) func() error {
		w.certificate()
		return func() error {
			_, err := w.SetRenewal(ctx, "api:test", store.RenewalSet{ProfileID: "trust"}, store.Renewal{From: begin, Until: begin.Add(time.Minute)})
			return err
		}
	}, again: nil, twice: true},
	{name: "CreateIssuer", event: audit.IssuerCreated, prepare: func(w *world) func() error {
		return func() error {
			return w.CreateIssuer(ctx, "api:test", store.Issuer{ID: "iss", Kind: "local"}, map[string][]byte{"iss/root": {1}, "iss/issuing": {2}})
		}
	}, again: store.ErrExists},
	{name: "AddIssuerChain", event: audit.IssuerChainAdded, prepare: func(w *world) func() error {
		own, other := w.issuerChains()
		w.issuer(own)
		return func() error { return w.AddIssuerChain(ctx, "api:test", "iss", other, true) }
	}, again: store.ErrExists},
	{name: "RemoveIssuerChain", event: audit.IssuerChainRemoved, prepare: func(w *world) func() error {
		own, other := w.issuerChains()
		w.issuer(own)
		w.ok(w.AddIssuerChain(ctx, "api:test", "iss", other, true))
		return func() error { return w.RemoveIssuerChain(ctx, "api:test", "iss", other.ID()) }
	}, again: store.ErrNotFound},
	{name: "SetDefaultChain", event: audit.IssuerDefaultChainSet, prepare: func(w *world) func() error {
		own, other := w.issuerChains()
		w.issuer(own)
		w.ok(w.AddIssuerChain(ctx, "api:test", "iss", other, false))
		return func() error { return w.SetDefaultChain(ctx, "api:test", "iss", other.ID()) }
	}, again: store.ErrConflict},
	{name: "RecordIssuerCSR", event: audit.IssuerCSRCreated, prepare: func(w *world) func() error {
		return func() error { return w.RecordIssuerCSR(ctx, "api:test", "iss") }
	}, again: nil, twice: true},
	{name: "PublishCRL", event: audit.CRLPublished, prepare: func(w *world) func() error {
		w.ok(w.PublishCRL(ctx, "iss", store.CRL{Number: 1, DER: []byte("crl"), ThisUpdate: begin, NextUpdate: begin}))
		return func() error {
			return w.PublishCRL(ctx, "iss", store.CRL{Number: 2, DER: []byte("crl"), ThisUpdate: begin, NextUpdate: begin})
		}
	}, again: store.ErrConflict},
	{name: "CreateProfile", event: audit.ProfileCreated, prepare: func(w *world) func() error {
		return func() error {
			_, err := w.CreateProfile(ctx, "api:test", profile("new", policy.Challenge))
			return err
		}
	}, again: store.ErrExists},
	{name: "UpdateProfile", event: audit.ProfileUpdated, prepare: func(w *world) func() error {
		p := *w.profile("changed", policy.Challenge).Profile()
		return func() error {
			_, err := w.UpdateProfile(ctx, "api:test", p)
			return err
		}
	}, again: store.ErrConflict},
	{name: "ArchiveProfile", event: audit.ProfileArchived, prepare: func(w *world) func() error {
		w.profile("old", policy.Challenge)
		return func() error { return w.ArchiveProfile(ctx, "api:test", "old") }
	}, again: store.ErrNotFound},
	{name: "CreateEABKey", event: audit.EABKeyCreated, prepare: func(w *world) func() error {
		return func() error { return w.CreateEABKey(ctx, "api:test", store.EABKey{KeyID: "kid"}, []byte("hmac")) }
	}, again: store.ErrExists},
	{name: "DisableEABKey", event: audit.EABKeyDisabled, prepare: func(w *world) func() error {
		kid := w.eabKey(true)
		return func() error { return w.DisableEABKey(ctx, "api:test", kid) }
	}, again: store.ErrNotFound},
	{name: "BindEABKey", event: audit.AccountEABBound, prepare: func(w *world) func() error {
		a, kid := w.account(), w.eabKey(false)
		return func() error { return w.BindEABKey(ctx, "api:test", a.ID, kid) }
	}, again: nil},
	{name: "CreateAPIKey", event: audit.APIKeyCreated, prepare: func(w *world) func() error {
		return func() error { return w.CreateAPIKey(ctx, "api:test", "new", "hash", store.RoleAdmin) }
	}, again: store.ErrExists},
	{name: "DisableAPIKey", event: audit.APIKeyDisabled, prepare: func(w *world) func() error {
		w.ok(w.CreateAPIKey(ctx, "api:test", "old", "hash", store.RoleAdmin))
		return func() error { return w.DisableAPIKey(ctx, "api:test", "old") }
	}, again: store.ErrNotFound},
	{name: "RecordStart", event: audit.ServerStarted, prepare: func(w *world) func() error {
		return func() error { return w.RecordStart(ctx, map[string]string{"version": "1"}) }
	}, again: nil, twice: true},
	{name: "EnsureSecret", prepare: func(w *world) func() error {
		return func() error {
			_, err := w.EnsureSecret(ctx, "new", func() ([]byte, error) { return []byte("secret"), nil })
			return err
		}
	}, again: nil},
	{name: "Sweep", prepare: func(w *world) func() error {
		w.challenged()
		w.Advance(24 * time.Hour)
		return func() error {
			_, err := w.Sweep(ctx, time.Hour)
			return err
		}
	}, again: nil},
}

// eachWrite runs a test for each write on each database.
func eachWrite(t *testing.T, test func(t *testing.T, w *world, change write)) {
	t.Helper()
	for _, change := range writes {
		t.Run(change.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, s *store.Store) { test(t, worldOf(t, s), change) })
		})
	}
}

// A COMMIT that failed and persisted nothing is made again: the caller does not
// notice, and the change is made once.
func TestFaultNotPersisted(t *testing.T) {
	eachWrite(t, func(t *testing.T, w *world, change write) {
		run := change.prepare(w)
		before, events := w.Dump(t), w.events(change.event)
		failures := 0
		w.Fault(func(committed bool) error {
			if !committed && failures == 0 {
				failures++
				return errors.New("the disk is broken")
			}
			return nil
		})
		w.ok(run())
		w.Fault(nil)
		if failures != 1 {
			t.Fatalf("%d commits failed, want 1", failures)
		}
		if w.Dump(t) == before {
			t.Error("nothing was changed")
		}
		w.checkEvents(t, change, events+1)
		w.check(t)
		w.checkDurable(t)
	})
}

// A COMMIT that persisted and was reported as failed is made again too. The
// change then meets itself: its guard refuses it, or it is one that can be made
// twice. In no case is anything there twice.
func TestFaultPersistedButReportedFailed(t *testing.T) {
	eachWrite(t, func(t *testing.T, w *world, change write) {
		run := change.prepare(w)
		events := w.events(change.event)
		failures := 0
		var once string
		w.Fault(func(committed bool) error {
			if committed && failures == 0 {
				failures++
				once = w.Dump(t)
				return errors.New("the connection is broken")
			}
			return nil
		})
		err := run()
		w.Fault(nil)
		if failures != 1 {
			t.Fatalf("%d commits failed, want 1", failures)
		}
		if change.again == errAny && err != nil {
			err = errAny
		}
		if !errors.Is(err, change.again) || (err == nil) != (change.again == nil) {
			t.Errorf("the caller is told %v, want %v", err, change.again)
		}
		if change.twice {
			w.checkEvents(t, change, events+2)
		} else {
			w.checkEvents(t, change, events+1)
			if got := w.Dump(t); got != once {
				t.Errorf("the second run changed something:\n%s", diff(once, got))
			}
		}
		w.check(t)
		w.checkDurable(t)
	})
}

// A COMMIT that fails for good is told, and nothing was changed.
func TestFaultForGood(t *testing.T) {
	eachWrite(t, func(t *testing.T, w *world, change write) {
		run := change.prepare(w)
		before := w.Dump(t)
		broken := errors.New("the disk is broken")
		w.Fault(func(committed bool) error { return broken })
		if err := run(); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		w.Fault(nil)
		if got := w.Dump(t); got != before {
			t.Errorf("something was changed:\n%s", diff(before, got))
		}
		w.ok(run())
	})
}

// The audit event is written in the transaction of the change: when it cannot be
// written nothing is.
func TestNoEventNoChange(t *testing.T) {
	eachWrite(t, func(t *testing.T, w *world, change write) {
		run := change.prepare(w)
		w.RefuseEvents(t)
		before := w.Dump(t)
		err := run()
		if change.event == "" {
			w.ok(err)
			return
		}
		if err == nil || !strings.Contains(err.Error(), "refused by the test") {
			t.Errorf("got %v", err)
		}
		if got := w.Dump(t); got != before {
			t.Errorf("without its event something was changed:\n%s", diff(before, got))
		}
	})
}

func (w *world) checkEvents(t *testing.T, change write, want int) {
	t.Helper()
	if change.event == "" {
		return
	}
	if got := w.events(change.event); got != want {
		t.Errorf("%d events %s, want %d", got, change.event, want)
	}
}

// checkDurable sees that a crash loses nothing.
func (w *world) checkDurable(t *testing.T) {
	t.Helper()
	facts := func(s *store.Store) string {
		var b strings.Builder
		for _, sql := range []string{
			`SELECT id, thumbprint, deactivated_at FROM accounts ORDER BY id`,
			`SELECT id, claimed_at, issued_at, failed_at, serial, fence FROM orders ORDER BY id`,
			`SELECT id, attempted_at, validated_at, failed_at, deactivated_at, fence FROM authorizations ORDER BY id`,
			`SELECT serial, revoked_at FROM certificates ORDER BY serial`,
			`SELECT id, action, resource_id FROM audit_events ORDER BY id`,
			`SELECT name FROM secrets ORDER BY name`,
			`SELECT issuer_id, number FROM crls`,
			`SELECT id, default_chain FROM issuers ORDER BY id`,
			`SELECT issuer_id, id, chain FROM issuer_chains ORDER BY issuer_id, id`,
		} {
			for _, row := range s.Rows(t, sql) {
				b.WriteString(strings.Join(row, " ") + "\n")
			}
		}
		return b.String()
	}
	if before, after := facts(w.Store), facts(w.Crash(t)); before != after {
		t.Errorf("a crash changed something:\n%s", diff(before, after))
	}
}

// check asserts what holds after every step of whatever was done.
func (w *world) check(t interface {
	Helper()
	Errorf(string, ...any)
}) {
	t.Helper()
	for rule, sql := range map[string]string{
		"an issued order has exactly one certificate": `SELECT o.id FROM orders o WHERE o.issued_at IS NOT NULL
			AND (SELECT count(*) FROM certificates c WHERE c.order_id = o.id AND c.serial = o.serial) <> 1`,
		"a certificate of an order has an issued order": `SELECT c.serial FROM certificates c WHERE c.order_id IS NOT NULL
			AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.id = c.order_id AND o.serial = c.serial AND o.issued_at IS NOT NULL)`,
		"an order is found by its names": `SELECT json_extract(i.value, '$.value'), o.id FROM orders o, json_each(o.identifiers) i
			EXCEPT SELECT name, order_id FROM order_names`,
		"a name finds orders that have it": `SELECT name, order_id FROM order_names
			EXCEPT SELECT json_extract(i.value, '$.value'), o.id FROM orders o, json_each(o.identifiers) i`,
		"a certificate is found by its names, and by no other": `SELECT c.serial FROM certificates c
			WHERE length(names) - length(replace(names, ' ', '')) + 1 <> (SELECT count(*) FROM certificate_names n
				WHERE n.number = c.number AND instr(' ' || names || ' ', ' ' || n.name || ' ') > 0)`,
		"a certificate has exactly one event": `SELECT c.serial FROM certificates c
			WHERE (SELECT count(*) FROM audit_events e WHERE e.action = 'certificate_issued' AND e.resource_id = c.serial) <> 1`,
		"an event of issuance has its certificate": `SELECT e.id FROM audit_events e WHERE e.action = 'certificate_issued'
			AND NOT EXISTS (SELECT 1 FROM certificates c WHERE c.serial = e.resource_id)`,
		"a revoked certificate has exactly one event": `SELECT c.serial FROM certificates c
			WHERE (c.revoked_at IS NOT NULL) <> ((SELECT count(*) FROM audit_events e WHERE e.action = 'certificate_revoked' AND e.resource_id = c.serial) = 1)`,
		"an order has exactly one event of its making": `SELECT o.id FROM orders o
			WHERE (SELECT count(*) FROM audit_events e WHERE e.action = 'acme_order_created' AND e.resource_id = o.id) <> 1`,
		"a claimed order has exactly one event of its finalization": `SELECT o.id FROM orders o
			WHERE (SELECT count(*) FROM audit_events e WHERE e.action = 'acme_order_finalized' AND e.resource_id = o.id) <> (o.claimed_at IS NOT NULL)`,
		"no order is issued and failed": `SELECT id FROM orders WHERE issued_at IS NOT NULL AND failed_at IS NOT NULL`,
		"an issued order was claimed":   `SELECT id FROM orders WHERE issued_at IS NOT NULL AND claimed_at IS NULL`,
		"a failed order tells why":      `SELECT id FROM orders WHERE (failed_at IS NULL) <> (problem IS NULL)`,
		"an order that ended holds no lease and no CSR": `SELECT id FROM orders WHERE (issued_at IS NOT NULL OR failed_at IS NOT NULL)
			AND (csr IS NOT NULL OR lease_until IS NOT NULL)`,
		"no authorization is valid and failed": `SELECT id FROM authorizations WHERE validated_at IS NOT NULL AND failed_at IS NOT NULL`,
		"an authorization ended by a challenge was attempted and has its event": `SELECT z.id FROM authorizations z
			WHERE (validated_at IS NOT NULL OR failed_at IS NOT NULL) AND (attempted_at IS NULL
				OR (SELECT count(*) FROM audit_events e WHERE e.action = 'acme_challenge_completed' AND e.resource_id = z.id) <> 1)`,
		"an account has exactly one event of its making": `SELECT a.id FROM accounts a
			WHERE (SELECT count(*) FROM audit_events e WHERE e.action = 'acme_account_created' AND e.resource_id = a.id) <> 1`,
		"a deactivated account has no open order": `SELECT o.id FROM orders o JOIN accounts a ON a.id = o.account_id
			WHERE a.deactivated_at IS NOT NULL AND o.claimed_at IS NULL AND o.failed_at IS NULL`,
		"a default chain is one of its issuer": `SELECT i.id FROM issuers i WHERE i.default_chain IS NOT NULL
			AND NOT EXISTS (SELECT 1 FROM issuer_chains c WHERE c.issuer_id = i.id AND c.id = i.default_chain)`,
		"a single-use key binds one account": `SELECT k.kid FROM eab_keys k WHERE k.binding_limit IS NOT NULL
			AND (SELECT count(*) FROM eab_bindings b WHERE b.kid = k.kid) > k.binding_limit`,
	} {
		if rows := w.rows(sql); len(rows) != 0 {
			t.Errorf("broken: %s: %v", rule, rows)
		}
	}
}

// diff tells which lines differ.
func diff(before, after string) string {
	was, is := strings.Split(before, "\n"), strings.Split(after, "\n")
	var b strings.Builder
	for _, line := range was {
		if !slices.Contains(is, line) {
			b.WriteString("- " + line + "\n")
		}
	}
	for _, line := range is {
		if !slices.Contains(was, line) {
			b.WriteString("+ " + line + "\n")
		}
	}
	return b.String()
}

func (w *world) rows(sql string, args ...any) [][]string {
	w.t.Helper()
	rows, err := w.Select(sql, args...)
	w.ok(err)
	return rows
}

// TestEveryWriteIsInTheTable reads the package's source: an exported method that
// hands a change to the writer stands in the table above.
func TestEveryWriteIsInTheTable(t *testing.T) {
	listed := map[string]bool{}
	for _, w := range writes {
		listed[w.name] = true
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv == nil || !f.Name.IsExported() || !changes(f.Body) {
				continue
			}
			found++
			if !listed[f.Name.Name] {
				t.Errorf("%s changes the database and is not in the table", f.Name.Name)
			}
		}
	}
	if found != len(writes) {
		t.Errorf("%d methods change the database, %d are in the table", found, len(writes))
	}
}

// changes reports whether a function calls Store.write or writer.do.
func changes(body *ast.BlockStmt) bool {
	found := false
	ast.Inspect(body, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok && (sel.Sel.Name == "write" || sel.Sel.Name == "do") {
				found = true
			}
		}
		return true
	})
	return found
}
