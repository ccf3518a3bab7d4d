package lifecycle

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/store"
)

// published is a store, an issuer with shards and a publisher of its CRLs, with a
// clock that the test moves.
type published struct {
	testing.TB
	cfg       store.Config
	ahead     atomic.Int64
	store     *store.Store
	ca        *pki.CA
	issuer    *issuer.Local
	publisher *crlPublisher
}

func newPublished(t testing.TB, shards int) *published {
	p := &published{TB: t}
	p.cfg = store.Config{Dir: t.TempDir(), SecretKey: make([]byte, 32), NonceTTL: time.Minute,
		Now: func() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }}
	p.open()
	t.Cleanup(func() { p.store.Close() })
	var err error
	p.ca, err = pki.CreateCA(pki.CASpec{Name: "Test", Now: p.store.Now()}, rand.Reader)
	p.ok(err)
	p.serve("http://pki.test", shards)
	return p
}

func (p *published) ok(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p *published) open() {
	p.Helper()
	var err error
	p.store, err = store.Open(p.Context(), p.cfg)
	p.ok(err)
}

// serve publishes under a URL.
func (p *published) serve(url string, shards int) {
	p.Helper()
	config := issuer.LocalConfig{ID: "iss", Root: p.ca.Root, Issuing: p.ca.Issuing, Key: p.ca.IssuingKey}
	for shard := range shards {
		config.ShardURLs = append(config.ShardURLs, fmt.Sprintf("%s/crl/iss/%d.crl", url, shard+1))
	}
	var err error
	p.issuer, err = issuer.NewLocal(config)
	p.ok(err)
	p.publisher = newCRLPublisher(p.store, map[string]*issuer.Local{"iss": p.issuer}, slog.New(slog.DiscardHandler))
}

func (p *published) advance(d time.Duration) { p.ahead.Add(int64(d)) }

// certificate records one that is in a shard and ends after the time given.
func (p *published) certificate(shard int, life time.Duration) string {
	p.Helper()
	for {
		serial, err := pki.NewSerial(rand.Reader)
		p.ok(err)
		if shards := len(p.issuer.ShardURLs()); shards > 0 && pki.Shard(serial, shards) != shard {
			continue
		}
		now := p.store.Now().Truncate(time.Second)
		p.ok(p.store.StoreServerCertificate(p.Context(), &store.Certificate{Serial: serial, IssuerID: "iss", DER: []byte("der"),
			NotBefore: now, NotAfter: now.Add(life)}, "test", nil))
		return serial
	}
}

func (p *published) revoke(serials ...string) {
	p.Helper()
	for _, serial := range serials {
		p.ok(p.store.RevokeCertificate(p.Context(), "api:test", serial, pki.ReasonSuperseded))
	}
}

// build runs one build and returns which CRLs it made.
func (p *published) build() (made []int, due time.Duration) {
	p.Helper()
	before := p.all()
	next, err := p.publisher.publishAll(p.Context())
	p.ok(err)
	for shard, crl := range p.all() {
		if crl.Number != before[shard].Number {
			made = append(made, shard)
		}
	}
	return made, next.Sub(p.store.Now()).Round(time.Minute)
}

// all returns the CRLs by shard, zero for those not there.
func (p *published) all() []store.CRL {
	p.Helper()
	crls := make([]store.CRL, 1+len(p.issuer.ShardURLs()))
	for shard := range crls {
		crls[shard], _ = p.store.CRL(p.Context(), "iss", shard)
	}
	return crls
}

// list returns the serials on a CRL, which it verifies.
func (p *published) list(shard int) []string {
	p.Helper()
	crl, err := p.store.CRL(p.Context(), "iss", shard)
	p.ok(err)
	parsed, err := x509.ParseRevocationList(crl.DER)
	p.ok(err)
	p.ok(parsed.CheckSignatureFrom(p.issuer.Chain()[0]))
	if parsed.Number.Int64() != crl.Number || !parsed.ThisUpdate.Equal(crl.ThisUpdate) || !parsed.NextUpdate.Equal(crl.NextUpdate) {
		p.Errorf("shard %d: the record is %+v, the CRL %+v", shard, crl, parsed)
	}
	hasIDP := slices.ContainsFunc(parsed.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 28}) })
	if hasIDP != (shard > 0) {
		p.Errorf("shard %d: issuing distribution point %v", shard, hasIDP)
	}
	serials := []string{}
	for _, entry := range parsed.RevokedCertificateEntries {
		serial, err := pki.FormatSerial(entry.SerialNumber)
		p.ok(err)
		serials = append(serials, serial)
	}
	return serials
}

func (p *published) want(shard int, serials ...string) {
	p.Helper()
	slices.Sort(serials)
	if got := p.list(shard); !slices.Equal(got, serials) {
		p.Errorf("shard %d lists %q, want %q", shard, got, serials)
	}
}

func TestOnlyChangedCRLsAreBuilt(t *testing.T) {
	t.Parallel()
	p := newPublished(t, 4)
	expect := func(step string, want ...int) {
		t.Helper()
		if made, _ := p.build(); !slices.Equal(made, want) {
			t.Errorf("%s: built %v, want %v", step, made, want)
		}
	}
	expect("first", 0, 1, 2, 3, 4)
	crls := p.all()
	for _, crl := range crls {
		if crl.Number != crls[0].Number || crl.NextUpdate.Sub(crl.ThisUpdate) != crlLife {
			t.Errorf("%+v, the complete one has %d", crl, crls[0].Number)
		}
	}
	expect("nothing new")
	one, two, three := p.certificate(2, time.Hour), p.certificate(2, time.Hour), p.certificate(3, time.Hour)
	expect("nothing revoked")
	p.revoke(one)
	expect("one revoked", 0, 2)
	p.revoke(two, three)
	expect("two revoked", 0, 2, 3)
	p.want(0, one, two, three)
	p.want(1)
	p.want(2, one, two)
	p.want(3, three)
	// A restart knows what is published.
	p.ok(p.store.Close())
	p.open()
	p.serve("http://pki.test", 4)
	expect("restarted")
	// The shards name their URL.
	p.serve("http://other.test", 4)
	expect("moved", 1, 2, 3, 4)
	p.serve("http://other.test", 0)
	expect("not divided")
}

func TestCRLsAreRefreshed(t *testing.T) {
	t.Parallel()
	p := newPublished(t, 2)
	if made, due := p.build(); len(made) != 3 || due != crlRefresh {
		t.Errorf("built %v, the next after %v", made, due)
	}
	p.advance(4 * time.Hour)
	p.revoke(p.certificate(1, 48*time.Hour))
	if made, due := p.build(); !slices.Equal(made, []int{0, 1}) || due != 2*time.Hour {
		t.Errorf("built %v, the next after %v", made, due)
	}
	p.advance(2 * time.Hour)
	if made, due := p.build(); !slices.Equal(made, []int{2}) || due != 4*time.Hour {
		t.Errorf("built %v, the next after %v", made, due)
	}
	p.advance(4 * time.Hour)
	if made, due := p.build(); !slices.Equal(made, []int{0, 1}) || due != 2*time.Hour {
		t.Errorf("built %v, the next after %v", made, due)
	}
}

// TestCRLNumbersRise also when the clock stands before the last number, as after
// a restore on a machine whose clock is slow.
func TestCRLNumbersRise(t *testing.T) {
	t.Parallel()
	p := newPublished(t, 1)
	now := p.store.Now()
	p.build()
	if first := p.all()[0]; first.Number < now.UnixMilli() || first.Number > now.Add(time.Minute).UnixMilli() {
		t.Errorf("the first number is %d at %d", first.Number, now.UnixMilli())
	}
	high := now.AddDate(1, 0, 0).UnixMilli()
	p.ok(p.store.PublishCRL(p.Context(), "iss", store.CRL{Shard: 1, Number: high, DER: []byte("old"), ThisUpdate: now, NextUpdate: now}))
	if made, _ := p.build(); !slices.Equal(made, []int{1}) || p.all()[1].Number != high+1 {
		t.Errorf("built %v, with number %d after %d", made, p.all()[1].Number, high)
	}
	p.revoke(p.certificate(1, time.Hour))
	if made, _ := p.build(); !slices.Equal(made, []int{0, 1}) || p.all()[0].Number != high+2 {
		t.Errorf("built %v, with number %d after %d", made, p.all()[0].Number, high+1)
	}
}

// TestExpiredLeaveCRLs follows a revoked certificate past its end: it stands on
// every CRL of the day after, and then leaves.
func TestExpiredLeaveCRLs(t *testing.T) {
	t.Parallel()
	p := newPublished(t, 2)
	serial := p.certificate(1, time.Hour)
	p.revoke(serial)
	p.build()
	for hours := 6; hours <= 24; hours += 6 {
		p.advance(6 * time.Hour)
		p.build()
		p.want(0, serial)
		p.want(1, serial)
	}
	p.advance(2 * time.Hour) // 25 hours after its end
	if made, _ := p.build(); !slices.Equal(made, []int{0, 1}) {
		t.Errorf("built %v", made)
	}
	p.want(0)
	p.want(1)
}

// TestExpiredWhileDown: nothing was built around the certificate's end, so the
// first CRL after it lists it however late it comes (RFC 5280, Section 3.3).
func TestExpiredWhileDown(t *testing.T) {
	t.Parallel()
	p := newPublished(t, 2)
	serial := p.certificate(2, time.Hour)
	p.build()
	p.revoke(serial)
	p.advance(10 * 24 * time.Hour)
	p.build()
	p.want(0, serial)
	p.want(2, serial)
	p.advance(crlRefresh)
	p.build()
	p.want(0)
	p.want(2)
}

func TestRevocationsShareABuild(t *testing.T) {
	t.Parallel()
	p := newPublished(t, 2)
	ctx, stop := context.WithCancel(p.Context())
	done := make(chan struct{})
	go func() { p.publisher.run(ctx); close(done) }()
	defer func() { stop(); <-done }()
	builds := func() (n int) {
		events, err := p.store.AuditEvents(p.Context(), store.AuditQuery{Limit: 1000})
		p.ok(err)
		for _, e := range events {
			if e.Action == audit.CRLPublished {
				n++
			}
		}
		return n
	}
	for builds() == 0 {
		time.Sleep(5 * time.Millisecond)
	}
	life := &Lifecycle{crls: p.publisher}
	var serials []string
	for range 20 {
		serial := p.certificate(1, time.Hour)
		serials = append(serials, serial)
		p.revoke(serial)
		life.Revoked()
		time.Sleep(20 * time.Millisecond)
	}
	for deadline := time.Now().Add(10 * time.Second); builds() < 2 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	p.want(0, serials...)
	p.want(1, serials...)
	time.Sleep(crlGather + time.Second)
	if n := builds(); n != 2 {
		t.Errorf("%d builds, want one at the start and one for all", n)
	}
}

// bulk revokes n certificates that were never issued, past the store.
func (p *published) bulk(n int) {
	p.Helper()
	p.ok(p.store.Close())
	conn, err := sqlite.OpenConn(filepath.Join(p.cfg.Dir, "certctl.db"), sqlite.OpenReadWrite)
	p.ok(err)
	now := time.Now().UnixMilli()
	end, err := sqlitex.ImmediateTransaction(conn)
	p.ok(err)
	for range n {
		serial, err := pki.NewSerial(rand.Reader)
		p.ok(err)
		p.ok(sqlitex.Execute(conn, `INSERT INTO certificates (serial, issuer_id, names, der, not_before, not_after, issued_at, no_rev_avail,
			revoked_at, revocation_reason) VALUES (?, 'iss', 'a.test', zeroblob(700), ?, ?, ?, 0, ?, 1)`,
			&sqlitex.ExecOptions{Args: []any{serial, now, now + 86400_000, now, now}}))
	}
	end(&err)
	p.ok(err)
	p.ok(conn.Close())
	p.open()
	p.serve("http://pki.test", pki.CRLShards)
}

// BenchmarkBuild100000 builds the complete CRL and all shards, and then the
// complete one and a single shard.
func BenchmarkBuild100000(b *testing.B) {
	p := newPublished(b, pki.CRLShards)
	p.bulk(100_000)
	b.Run("all", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p.advance(crlRefresh)
			if made, _ := p.build(); len(made) != 1+pki.CRLShards {
				b.Fatalf("built %v", made)
			}
		}
	})
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			p.revoke(p.certificate(1, time.Hour))
			b.StartTimer()
			if made, _ := p.build(); !slices.Equal(made, []int{0, 1}) {
				b.Fatalf("built %v", made)
			}
		}
	})
}
