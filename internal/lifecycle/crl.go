package lifecycle

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/store"
)

const (
	crlLife    = 24 * time.Hour  // from this update to the next
	crlRefresh = 6 * time.Hour   // a new one is made this often when nothing is revoked
	crlGather  = 2 * time.Second // revocations that come within share one build
	crlRetry   = 10 * time.Second
	// crlKeepExpired is how long a revoked certificate stays on CRLs after its end at
	// least: as long as any CRL from before is in use.
	crlKeepExpired = crlLife
)

// crlPublisher makes and stores the issuers' CRLs: for each issuer the complete
// one and its shards.
//
// A build takes one snapshot and signs what is due: a CRL that would say something
// else than the one published, or one that is as old as crlRefresh. All CRLs of a
// build have the same number, max(last+1, Unix milliseconds), which rises even
// when the database was restored from a backup.
type crlPublisher struct {
	store   *store.Store
	issuers map[string]*issuer.Local
	log     *slog.Logger
	revoked chan struct{} // something was revoked
}

func newCRLPublisher(s *store.Store, issuers map[string]*issuer.Local, log *slog.Logger) *crlPublisher {
	return &crlPublisher{store: s, issuers: issuers, log: log, revoked: make(chan struct{}, 1)}
}

// Revoked says that a certificate was revoked: a CRL follows within seconds.
func (l *Lifecycle) Revoked() {
	select {
	case l.crls.revoked <- struct{}{}:
	default: // one is announced already and will see this revocation too
	}
}

func (p *crlPublisher) run(ctx context.Context) {
	for {
		due, err := p.publishAll(ctx)
		wait := due.Sub(p.store.Now())
		if err != nil && ctx.Err() == nil {
			p.log.Error("CRL was not published", "error", err)
			wait = crlRetry
		}
		select {
		case <-time.After(wait):
		case <-p.revoked:
			select {
			case <-time.After(crlGather):
			case <-ctx.Done():
				return
			}
			// Whoever announced itself in the meantime was recorded before.
			select {
			case <-p.revoked:
			default:
			}
		case <-ctx.Done():
			return
		}
	}
}

// publishAll builds what is due and returns when something will be next.
func (p *crlPublisher) publishAll(ctx context.Context) (due time.Time, err error) {
	due = p.store.Now().Add(crlRefresh)
	var errs []error
	for id, signer := range p.issuers {
		next, err := p.publish(ctx, id, signer)
		if err != nil {
			errs = append(errs, fmt.Errorf("issuer %s: %w", id, err))
			continue
		}
		if next.Before(due) {
			due = next
		}
	}
	return due, errors.Join(errs...)
}

// publish builds those CRLs of one issuer that are due.
func (p *crlPublisher) publish(ctx context.Context, id string, signer *issuer.Local) (due time.Time, err error) {
	var b crlBuild
	now := p.store.Now() // before the snapshot, which so holds all that was revoked until thisUpdate
	revoked, published, err := p.store.RevokedBy(ctx, id, func(published []store.CRL) time.Time {
		b = newCRLBuild(now, len(signer.ShardURLs()), published)
		return b.since()
	})
	if err != nil {
		return due, err
	}
	b.add(revoked)
	due = b.now.Add(crlRefresh)
	var fresh []store.CRL
	for shard := range b.lists {
		content := b.content(shard, signer)
		if old := b.last[shard]; old.Content == content && b.now.Sub(old.ThisUpdate) < crlRefresh {
			if next := old.ThisUpdate.Add(crlRefresh); next.Before(due) {
				due = next
			}
			continue
		}
		crl := store.CRL{Shard: shard, Number: b.number(published), Content: content, ThisUpdate: b.now, NextUpdate: b.now.Add(crlLife)}
		crl.DER, err = signer.SignCRL(shard, pki.CRL{
			Number: big.NewInt(crl.Number), ThisUpdate: crl.ThisUpdate, NextUpdate: crl.NextUpdate, Revoked: b.lists[shard]})
		if err != nil {
			return due, err
		}
		fresh = append(fresh, crl)
	}
	if len(fresh) == 0 {
		return due, nil
	}
	return due, p.store.PublishCRL(ctx, id, fresh...)
}

// crlBuild is what the CRLs of one issuer say at one moment.
type crlBuild struct {
	now    time.Time // thisUpdate, in whole seconds
	millis int64
	last   []store.CRL          // published, by shard; zero: none
	lists  [][]pki.RevokedEntry // by shard; that of shard 0 is complete
}

func newCRLBuild(now time.Time, shards int, published []store.CRL) crlBuild {
	b := crlBuild{
		now: now.Truncate(time.Second), millis: now.UnixMilli(),
		last: make([]store.CRL, 1+shards), lists: make([][]pki.RevokedEntry, 1+shards),
	}
	for _, crl := range published {
		if crl.Shard < len(b.last) {
			b.last[crl.Shard] = crl
		}
	}
	return b
}

// keptSince returns since when a certificate may have ended and still stands on a
// shard's next CRL: it leaves after it was on one that was issued after its end
// (RFC 5280, Section 3.3), and not before every CRL of its time is out of use.
func (b *crlBuild) keptSince(shard int) time.Time {
	kept := b.now.Add(-crlKeepExpired)
	if last := b.last[shard].ThisUpdate; last.Before(kept) {
		return last
	}
	return kept
}

// since returns the earliest keptSince.
func (b *crlBuild) since() time.Time {
	earliest := b.keptSince(0)
	for shard := range b.last {
		if kept := b.keptSince(shard); kept.Before(earliest) {
			earliest = kept
		}
	}
	return earliest
}

// add puts the revoked certificates on their lists, which are sorted by serial.
func (b *crlBuild) add(revoked []store.Revoked) {
	slices.SortFunc(revoked, func(a, b store.Revoked) int { return strings.Compare(a.Serial, b.Serial) })
	kept := make([]time.Time, len(b.last))
	for shard := range kept {
		kept[shard] = b.keptSince(shard)
	}
	for _, r := range revoked {
		entry := pki.RevokedEntry{Serial: r.Serial, RevokedAt: r.At, Reason: r.Reason}
		list := func(shard int) {
			if !r.NotAfter.Before(kept[shard]) {
				b.lists[shard] = append(b.lists[shard], entry)
			}
		}
		list(0)
		if shards := len(b.lists) - 1; shards > 0 {
			list(pki.Shard(r.Serial, shards))
		}
	}
}

// content is a hash of what a CRL says: where it is, and what it lists.
func (b *crlBuild) content(shard int, signer *issuer.Local) string {
	hash := sha256.New()
	hash.Write(signer.Chain()[0].Raw)
	if shard > 0 {
		hash.Write([]byte(signer.ShardURLs()[shard-1]))
	}
	var line []byte
	for _, entry := range b.lists[shard] {
		line = append(append(line[:0], 0), entry.Serial...)
		line = binary.BigEndian.AppendUint64(line, uint64(entry.RevokedAt.Unix()))
		hash.Write(append(line, byte(entry.Reason)))
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// number is higher than that of every CRL published.
func (b *crlBuild) number(published []store.CRL) int64 {
	if len(published) == 0 {
		return b.millis
	}
	last := slices.MaxFunc(published, func(a, b store.CRL) int { return cmp.Compare(a.Number, b.Number) })
	return max(last.Number+1, b.millis)
}
