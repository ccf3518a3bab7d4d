package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/certctl/certctl/internal/pki"
)

// RevocationStatus is what is recorded of a certificate's revocation.
type RevocationStatus struct {
	IssuerID   string
	RevokedAt  time.Time // zero: not revoked
	Reason     int       // when revoked
	NoRevAvail bool      // its revocation is published nowhere
}

// RevocationStatus returns what is recorded now; ErrNotFound for a serial of
// which nothing was issued.
func (s *Store) RevocationStatus(ctx context.Context, serial string) (RevocationStatus, error) {
	var status RevocationStatus
	err := s.read(ctx, func(c *conn) error {
		return c.one(`SELECT issuer_id, revoked_at, revocation_reason, no_rev_avail FROM certificates WHERE serial = $1`,
			[]any{serial}, func(r row) error {
				status = RevocationStatus{r.text(0), r.time(1), int(r.int(2)), r.int(3) != 0}
				return nil
			})
	})
	if err != nil {
		return status, fmt.Errorf("certificate %s: %w", serial, err)
	}
	return status, nil
}

// OCSPAnswer is a signed OCSP response that everybody gets who asks for the
// certificate in the same form.
type OCSPAnswer struct {
	IssuerID   string
	Signer     string // the serial of the responder's certificate
	DER        []byte
	ETag       string
	ThisUpdate time.Time
	NextUpdate time.Time
}

// OCSPAnswer returns the answer that is kept for a certificate and a form of
// asking (pki.OCSPCertID.Form), if it is usable, and otherwise the one that sign
// makes of what is recorded now. Errors of sign are returned and not kept.
//
// A revocation drops the certificate's answers between its commit and its return,
// and an answer that was being signed meanwhile is not kept. So once a revocation
// was acknowledged, every later answer says so.
//
// The answers are in memory, because one process holds the database. For several
// replicas they become a table (serial, form, signer, der, this_update,
// next_update) behind this method: read here, written by an INSERT … SELECT that
// repeats the status that was signed (WHERE revoked_at IS NULL, or the same
// revoked_at), and deleted in the transaction of RevokeCertificate. What a replica
// keeps in memory beside it then bears the table's word for at most a second.
func (s *Store) OCSPAnswer(ctx context.Context, serial string, form int,
	usable func(*OCSPAnswer) bool, sign func(RevocationStatus) (*OCSPAnswer, error)) (*OCSPAnswer, error) {
	key := answerKey{serial, form}
	kept, epoch := s.answers.get(key)
	if kept != nil && usable(kept) {
		return kept, nil
	}
	status, err := s.RevocationStatus(ctx, serial)
	if err != nil {
		return nil, err
	}
	answer, err := sign(status)
	if err != nil {
		return nil, err
	}
	s.answers.put(key, answer, epoch)
	return answer, nil
}

// answerKey names an answer. Serials differ between issuers too.
type answerKey struct {
	serial string
	form   int
}

// maxAnswers bounds the answers that are kept: 18 MiB at 1.1 KiB each.
const maxAnswers = 16 << 10

// answers keeps OCSP answers like cache keeps rows, but makes room for a new one
// by dropping any single other.
type answers struct {
	mu    sync.RWMutex
	kept  map[answerKey]*OCSPAnswer
	epoch uint64 // rises with each forget
}

func (a *answers) get(key answerKey) (*OCSPAnswer, uint64) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.kept[key], a.epoch
}

// put keeps an answer whose signing began in the epoch given, unless something
// was forgotten since.
func (a *answers) put(key answerKey, answer *OCSPAnswer, epoch uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.epoch != epoch {
		return
	}
	if a.kept == nil {
		a.kept = make(map[answerKey]*OCSPAnswer)
	}
	if _, there := a.kept[key]; !there && len(a.kept) >= maxAnswers {
		for other := range a.kept {
			delete(a.kept, other)
			break
		}
	}
	a.kept[key] = answer
}

func (a *answers) forget(serial string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.epoch++
	for form := range pki.OCSPForms {
		delete(a.kept, answerKey{serial, form})
	}
}
