package store_test

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/store"
)

// anyChains are chains, the last one without its root. Whether they belong to the
// issuer is not the store's to judge.
var anyChains = sync.OnceValues(func() (chains [3]*pki.Chain, err error) {
	for i := range chains {
		ca, err := pki.CreateCA(pki.CASpec{Name: "CA " + string(rune('A'+i)), Now: begin}, rand.Reader)
		if err != nil {
			return chains, err
		}
		certs := []*x509.Certificate{ca.Issuing, ca.Root}
		if i == len(chains)-1 {
			certs = certs[:1]
		}
		if chains[i], err = pki.NewChain(certs); err != nil {
			return chains, err
		}
	}
	return chains, nil
})

// issuerChains returns an issuer's own chain and another one.
func (w *world) issuerChains() (own, other *pki.Chain) {
	w.t.Helper()
	chains, err := anyChains()
	w.ok(err)
	return chains[0], chains[1]
}

// rootless is a third chain, without its root.
func (w *world) rootless() *pki.Chain {
	w.t.Helper()
	chains, err := anyChains()
	w.ok(err)
	return chains[2]
}

// issuer makes the issuer iss.
func (w *world) issuer(own *pki.Chain) {
	w.t.Helper()
	w.ok(w.CreateIssuer(ctx, "api:test", store.Issuer{ID: "iss", Kind: "local", Chain: string(pki.EncodePEM(own.All()...))}, nil))
}

// chains tells an issuer's chains in their order, the default one with a star.
func (w *world) chains() string {
	w.t.Helper()
	all, err := w.IssuerChains(ctx, "iss")
	w.ok(err)
	var names []string
	for _, c := range all {
		name := c.Name()
		if c.Own {
			name = "own"
		}
		if c.Default {
			name += "*"
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

// Chains are offered in the order default, own, by age, at once after each change,
// also when the change was committed and yet reported as failed, and after a start.
func TestIssuerChains(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		testIssuerChains(t, s, false)
	})
	t.Run("faulty", func(t *testing.T) {
		onEach(t, func(t *testing.T, s *store.Store) { testIssuerChains(t, s, true) })
	})
}

func testIssuerChains(t *testing.T, s *store.Store, faulty bool) {
	w := worldOf(t, s)
	own, b := w.issuerChains()
	c := w.rootless()
	w.issuer(own)
	if got := w.chains(); got != "own*" {
		t.Errorf("at first: %s", got)
	}
	for _, step := range []struct {
		change func() error
		want   string
	}{
		{func() error { return w.AddIssuerChain(ctx, "api:test", "iss", b, false) }, "own* CA B Root CA"},
		{func() error { return w.AddIssuerChain(ctx, "api:test", "iss", c, true) }, "CA C Root CA* own CA B Root CA"},
		{func() error { return w.SetDefaultChain(ctx, "api:test", "iss", b.ID()) }, "CA B Root CA* own CA C Root CA"},
		{func() error { return w.SetDefaultChain(ctx, "api:test", "iss", store.OwnChain) }, "own* CA B Root CA CA C Root CA"},
		{func() error { return w.SetDefaultChain(ctx, "api:test", "iss", c.ID()) }, "CA C Root CA* own CA B Root CA"},
		{func() error { return w.RemoveIssuerChain(ctx, "api:test", "iss", b.ID()) }, "CA C Root CA* own"},
		{func() error { return w.RemoveIssuerChain(ctx, "api:test", "iss", c.ID()) }, "own*"},
		{func() error { return w.AddIssuerChain(ctx, "api:test", "iss", c, false) }, "own* CA C Root CA"},
	} {
		s.Advance(time.Millisecond)
		if faulty {
			failed := false
			w.Fault(func(committed bool) error {
				if committed && !failed {
					failed = true
					return errors.New("the connection is broken")
				}
				return nil
			})
		}
		if err := step.change(); err != nil && !faulty {
			t.Fatal(err)
		}
		w.Fault(nil)
		if got := w.chains(); got != step.want {
			t.Errorf("got %s, want %s", got, step.want)
		}
	}
	w.Store = reopen(t, s)
	if got := w.chains(); got != "own* CA C Root CA" {
		t.Errorf("after a start: %s", got)
	}
	all, err := w.IssuerChains(ctx, "iss")
	w.ok(err)
	if all[0].Root() == nil || all[1].Root() != nil || !slices.Equal(all[1].PEM(), c.PEM()) || all[1].CreatedAt.IsZero() {
		t.Errorf("read back otherwise: %+v", all)
	}
}

// A chain that cannot be read is our fault, and is not taken for none.
func TestBrokenIssuerChain(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		w.ok(w.CreateIssuer(ctx, "api:test", store.Issuer{ID: "iss", Chain: "x"}, nil))
		if _, err := s.IssuerChains(ctx, "iss"); err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v", err)
		}
		if _, err := s.OfferedChains(ctx, &store.Certificate{IssuerID: "iss"}); err == nil {
			t.Error("chains are offered")
		}
	})
}

// Offered is what carries the certificate, which the chain of another CA does only
// by its names and times.
func TestOfferedChainsEnd(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		own, other := w.issuerChains()
		w.issuer(own)
		cert := &store.Certificate{IssuerID: "iss", DER: own.All()[0].Raw}
		if got, err := s.OfferedChains(ctx, cert); err != nil || len(got) != 1 {
			t.Errorf("the own chain: %d, %v", len(got), err)
		}
		w.ok(w.AddIssuerChain(ctx, "api:test", "iss", other, true))
		if got, err := s.OfferedChains(ctx, cert); err != nil || len(got) != 2 || got[0].ID() != other.ID() {
			t.Errorf("two chains: %d, %v", len(got), err)
		}
	})
}
