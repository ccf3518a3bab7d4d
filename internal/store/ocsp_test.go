package store_test

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/store"
)

func always(*store.OCSPAnswer) bool { return true }

// saying returns a signer whose answers say whether the certificate is revoked.
func saying(signed *atomic.Int32) func(store.RevocationStatus) (*store.OCSPAnswer, error) {
	return func(status store.RevocationStatus) (*store.OCSPAnswer, error) {
		if signed != nil {
			signed.Add(1)
		}
		return &store.OCSPAnswer{IssuerID: status.IssuerID, DER: fmt.Append(nil, !status.RevokedAt.IsZero())}, nil
	}
}

func TestOCSPAnswer(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		one, other := w.certificate(), w.certificate()
		var signed atomic.Int32
		ask := func(serial string, form int) string {
			t.Helper()
			answer, err := s.OCSPAnswer(ctx, serial, form, always, saying(&signed))
			w.ok(err)
			return string(answer.DER)
		}
		expect := func(step, answer, want string, signatures int32) {
			t.Helper()
			if answer != want || signed.Load() != signatures {
				t.Errorf("%s: %s after %d signatures, want %s after %d", step, answer, signed.Load(), want, signatures)
			}
		}
		expect("first", ask(one, 0), "false", 1)
		expect("kept", ask(one, 0), "false", 1)
		expect("another form", ask(one, 3), "false", 2)
		expect("another certificate", ask(other, 0), "false", 3)
		w.ok(s.RevokeCertificate(ctx, "api:test", one, 1))
		expect("revoked", ask(one, 0), "true", 4)
		expect("revoked, another form", ask(one, 3), "true", 5)
		expect("the other stays", ask(other, 0), "false", 5)

		if _, err := s.OCSPAnswer(ctx, one, 0, func(*store.OCSPAnswer) bool { return false }, saying(&signed)); err != nil || signed.Load() != 6 {
			t.Errorf("one that is not usable was used: %v", err)
		}
		if _, err := s.OCSPAnswer(ctx, newSerial(), 0, always, saying(&signed)); !errors.Is(err, store.ErrNotFound) || signed.Load() != 6 {
			t.Errorf("an unknown serial: %v", err)
		}
		failed := errors.New("failed")
		_, err := s.OCSPAnswer(ctx, other, 1, always, func(store.RevocationStatus) (*store.OCSPAnswer, error) { return nil, failed })
		if !errors.Is(err, failed) {
			t.Errorf("got %v", err)
		}
		expect("after a failure", ask(other, 1), "false", 7)
	})
}

// TestOCSPAnswerFromBeforeARevocation signs while the certificate is revoked.
func TestOCSPAnswerFromBeforeARevocation(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		serial := w.certificate()
		answer, err := s.OCSPAnswer(ctx, serial, 0, always, func(status store.RevocationStatus) (*store.OCSPAnswer, error) {
			w.ok(s.RevokeCertificate(ctx, "api:test", serial, 1))
			return saying(nil)(status)
		})
		w.ok(err)
		if string(answer.DER) != "false" {
			t.Errorf("revoked in the meantime: %s", answer.DER)
		}
		if answer, err = s.OCSPAnswer(ctx, serial, 0, always, saying(nil)); err != nil || string(answer.DER) != "true" {
			t.Errorf("the answer from before the revocation was kept: %s, %v", answer.DER, err)
		}
	})
}

// TestOCSPAnswerAfterALostRevocation revokes so that the commit is made and
// reported as failed.
func TestOCSPAnswerAfterALostRevocation(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		serial := w.certificate()
		_, err := s.OCSPAnswer(ctx, serial, 0, always, saying(nil))
		w.ok(err)
		s.Fault(func(committed bool) error {
			if committed {
				return errors.New("lost")
			}
			return nil
		})
		if s.RevokeCertificate(ctx, "api:test", serial, 1) == nil {
			t.Fatal("the fault was not seen")
		}
		s.Fault(nil)
		if answer, err := s.OCSPAnswer(ctx, serial, 0, always, saying(nil)); err != nil || string(answer.DER) != "true" {
			t.Errorf("got %s, %v", answer.DER, err)
		}
	})
}

// TestOCSPAnswerWhileRevoking asks all the time for certificates that are revoked
// one after the other: whoever asks after a revocation was acknowledged hears of it.
func TestOCSPAnswerWhileRevoking(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		for range 20 {
			serial := w.certificate()
			var acknowledged atomic.Bool
			var askers sync.WaitGroup
			stop := make(chan struct{})
			for range 4 {
				askers.Go(func() {
					for {
						before := acknowledged.Load()
						answer, err := s.OCSPAnswer(ctx, serial, 0, always, saying(nil))
						if err != nil || before && string(answer.DER) != "true" {
							t.Errorf("asked after the revocation: %s, %v", answer.DER, err)
							return
						}
						select {
						case <-stop:
							return
						default:
						}
					}
				})
			}
			w.ok(s.RevokeCertificate(ctx, "api:test", serial, 1))
			acknowledged.Store(true)
			for range 50 {
				if answer, err := s.OCSPAnswer(ctx, serial, 0, always, saying(nil)); err != nil || string(answer.DER) != "true" {
					t.Errorf("got %s, %v", answer.DER, err)
				}
			}
			close(stop)
			askers.Wait()
		}
	})
}

func TestCRLIsRead(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		read := func(shard int, want string) {
			t.Helper()
			crl, err := s.CRL(ctx, "iss", shard)
			if err != nil || string(crl.DER) != want || crl.Shard != shard {
				t.Errorf("shard %d: %+v, %v, want %s", shard, crl, err, want)
			}
		}
		publish := func(number int64, der string, shards ...int) error {
			var crls []store.CRL
			for _, shard := range shards {
				crls = append(crls, store.CRL{Shard: shard, Number: number, DER: []byte(der), ThisUpdate: begin, NextUpdate: begin})
			}
			return s.PublishCRL(ctx, "iss", crls...)
		}
		w.ok(publish(1, "one", 0, 1, 2))
		read(0, "one")
		read(2, "one")
		w.ok(publish(2, "two", 0, 2))
		read(0, "two")
		read(1, "one")
		read(2, "two")
		// All or nothing: shard 0 has number 2 already.
		if err := publish(2, "three", 1, 0); !errors.Is(err, store.ErrConflict) {
			t.Errorf("got %v", err)
		}
		read(1, "one")
		if _, err := s.CRL(ctx, "iss", 3); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v", err)
		}
		if s.PublishCRL(ctx, "iss") == nil {
			t.Error("nothing was published")
		}
	})
}

// TestClaimKeepsPointers: whoever takes over a claim signs the pointers that it was
// made with, and the certificate says of itself what they say.
func TestClaimKeepsPointers(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		pointers := pki.Pointers{CRL: []string{"http://a/crl"}, AIA: []string{"http://a/aia"}, OCSP: []string{"http://a/ocsp"}}
		for _, p := range []pki.Pointers{pointers, pointers.WithoutRevocation()} {
			c := newClaim(w.trusted())
			c.Pointers = p
			w.ok(s.ClaimOrder(ctx, c, time.Minute))
			s.Advance(2 * time.Minute)
			taken, err := s.TakeClaims(ctx, time.Minute, 10)
			w.ok(err)
			if len(taken) != 1 || !reflect.DeepEqual(taken[0].Pointers, p) {
				t.Fatalf("took over %+v, want %+v", taken, p)
			}
			w.ok(s.FinishOrder(ctx, &taken[0], []byte("der")))
			cert, err := s.Certificate(ctx, c.Serial)
			w.ok(err)
			status, err := s.RevocationStatus(ctx, c.Serial)
			w.ok(err)
			if cert.NoRevAvail != p.NoRevAvail || status.NoRevAvail != p.NoRevAvail {
				t.Errorf("of %+v became %+v, %+v", p, cert, status)
			}
		}
	})
}
