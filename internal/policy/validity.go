package policy

import (
	"fmt"
	"time"

	"github.com/certctl/certctl/internal/acme"
)

const (
	// backdate is how far before its issuance a certificate starts to be valid when the client does not say when, for
	// the sake of machines whose clocks are slow. Short certificates spend at most a tenth of their life on it.
	backdate = time.Minute
	// maxRequestedAge is how far in the past a requested notBefore may lie.
	maxRequestedAge = 5 * time.Minute
)

// Validity returns the first and the last second of a certificate: notAfter is inclusive (RFC 5280, Section 4.1.2.5),
// so the certificate is valid for notAfter - notBefore + 1 second, and that is never more than MaxTTLSeconds.
//
// A zero notBefore or notAfter was not requested and is chosen here, within the life of the CA certificate. A
// requested one is honoured to the second or refused: the server "MUST NOT issue a certificate with contents other
// than those requested" (RFC 8555, Section 7.4). A refusal is an *acme.Problem; any other error is the issuer's.
//
// Dates that were requested are bounded by the time of the request: for an order that asks for any, now is when the
// order was made, however much later it is finalized.
func (p *Profile) Validity(notBefore, notAfter, now, caNotAfter time.Time) (nb, na time.Time, err error) {
	now, caNotAfter = wholeSecond(now), wholeSecond(caNotAfter)
	if !caNotAfter.After(now) {
		return nb, na, fmt.Errorf("the CA certificate of issuer %s expired at %s", p.IssuerID, stamp(caNotAfter))
	}
	w := window{max: p.maxTTL(), now: now, caNotAfter: caNotAfter}
	if !notBefore.IsZero() {
		nb = wholeSecond(notBefore)
		if err := w.checkNotBefore(nb); err != nil {
			return time.Time{}, time.Time{}, err
		}
	}
	if notAfter.IsZero() {
		nb, na = w.fill(nb, p.defaultTTL())
	} else {
		na = wholeSecond(notAfter)
		if nb.IsZero() {
			nb = w.startFor(na)
		}
	}
	if err := w.checkNotAfter(nb, na); err != nil {
		return time.Time{}, time.Time{}, err
	}
	return nb, na, nil
}

func (p *Profile) maxTTL() time.Duration { return time.Duration(p.MaxTTLSeconds) * time.Second }

func (p *Profile) defaultTTL() time.Duration {
	if p.DefaultTTLSeconds == 0 {
		return p.maxTTL()
	}
	return time.Duration(p.DefaultTTLSeconds) * time.Second
}

// window holds what bounds a validity. Its times are whole seconds.
type window struct {
	max             time.Duration
	now, caNotAfter time.Time
}

// fill chooses notAfter, and notBefore when it is zero.
func (w window) fill(notBefore time.Time, ttl time.Duration) (nb, na time.Time) {
	nb = notBefore
	if nb.IsZero() {
		nb = w.now.Add(-backdateFor(ttl))
	}
	na = nb.Add(ttl - time.Second)
	if na.After(w.caNotAfter) {
		na = w.caNotAfter
	}
	return nb, na
}

// startFor chooses notBefore for a requested notAfter. A client that asks for all that the profile gives gets less
// backdating rather than a refusal.
func (w window) startFor(na time.Time) time.Time {
	nb := w.now.Add(-backdateFor(na.Sub(w.now)))
	earliest := na.Add(time.Second - w.max)
	switch {
	case earliest.After(w.now):
		return w.now
	case earliest.After(nb):
		return earliest
	}
	return nb
}

func (w window) checkNotBefore(nb time.Time) error {
	latest := w.now.Add(w.max)
	if latest.After(w.caNotAfter) {
		latest = w.caNotAfter
	}
	switch earliest := w.now.Add(-maxRequestedAge); {
	case nb.Before(earliest):
		return acme.Malformed("notBefore %s is in the past; the earliest for this profile is %s now", stamp(nb), stamp(earliest))
	case nb.After(latest):
		return acme.Malformed("notBefore %s is too far ahead; the latest for this profile is %s now", stamp(nb), stamp(latest))
	}
	return nil
}

func (w window) checkNotAfter(nb, na time.Time) error {
	latest := nb.Add(w.max - time.Second)
	switch {
	case !na.After(w.now):
		return acme.Malformed("notAfter %s is not in the future", stamp(na))
	case na.Before(nb):
		return acme.Malformed("notAfter %s is before notBefore %s", stamp(na), stamp(nb))
	case na.After(latest):
		return acme.Malformed("notAfter %s is too late: the profile allows %s, the second of notAfter included, so at the latest %s",
			stamp(na), w.max, stamp(latest))
	case na.After(w.caNotAfter):
		return acme.Malformed("notAfter %s is after the end of the CA certificate, %s", stamp(na), stamp(w.caNotAfter))
	}
	return nil
}

func backdateFor(ttl time.Duration) time.Duration {
	return max(0, min(backdate, ttl/10)).Truncate(time.Second)
}

// wholeSecond cuts to what a certificate can tell.
func wholeSecond(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

func stamp(t time.Time) string { return t.Format(time.RFC3339) }
