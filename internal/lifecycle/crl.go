package lifecycle

import (
	"context"
	"fmt"
	"log/slog"
	"math/big"
	"time"

	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/store"
)

const (
	crlLife    = 24 * time.Hour  // from this update to the next
	crlRefresh = 6 * time.Hour   // a new one is made this often when nothing is revoked
	crlGather  = 2 * time.Second // revocations that come within share one CRL
	crlRetry   = 10 * time.Second
	// crlKeepExpired keeps a revoked certificate on the list after its end, so that
	// it is on one CRL issued after that (RFC 5280, Section 3.3).
	crlKeepExpired = 2 * crlLife
)

// crlPublisher makes and stores the issuers' CRLs.
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
		wait := crlRefresh
		if err := p.publishAll(ctx); err != nil && ctx.Err() == nil {
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
		case <-ctx.Done():
			return
		}
	}
}

func (p *crlPublisher) publishAll(ctx context.Context) error {
	for id, signer := range p.issuers {
		if err := p.publish(ctx, id, signer); err != nil {
			return fmt.Errorf("issuer %s: %w", id, err)
		}
	}
	return nil
}

// publish makes a CRL of one snapshot. Its number is max(last+1, Unix
// milliseconds): it rises even when the database was restored from a backup.
func (p *crlPublisher) publish(ctx context.Context, id string, signer *issuer.Local) error {
	now := p.store.Now().Truncate(time.Second)
	revoked, last, err := p.store.RevokedBy(ctx, id, now.Add(-crlKeepExpired))
	if err != nil {
		return err
	}
	entries := make([]pki.RevokedEntry, len(revoked))
	for i, r := range revoked {
		entries[i] = pki.RevokedEntry{Serial: r.Serial, RevokedAt: r.At, Reason: r.Reason}
	}
	number := max(last+1, p.store.Now().UnixMilli())
	next := now.Add(crlLife)
	der, err := signer.SignCRL(big.NewInt(number), now, next, entries)
	if err != nil {
		return err
	}
	return p.store.PublishCRL(ctx, id, store.CRL{Number: number, DER: der, ThisUpdate: now, NextUpdate: next})
}
