package policy

import (
	"fmt"
	"time"
)

// maxNoRevocation is the longest life that a certificate without revocation information may have. It must be shorter
// than the time in which a stolen key would be noticed, reported and published (RFC 9608, Section 6.1).
const maxNoRevocation = 7 * 24 * time.Hour

// IssuanceRules says what certificates are like beyond their names, keys and life.
type IssuanceRules struct {
	// NoRevocationBelowSeconds makes certificates that live shorter than this say that their revocation is published
	// nowhere, and point to no CRL and no OCSP responder (RFC 9608); 0: none does.
	NoRevocationBelowSeconds int64 `json:"no_revocation_below_seconds"`
}

// PublishesRevocation reports whether the revocation of a certificate that is issued now with the validity given would
// be published. What counts is how long its key can be used after this moment: a certificate that is dated in advance
// is as dangerous as one that lives until then. Both ends belong to the validity (RFC 5280, Section 4.1.2.5).
func (r IssuanceRules) PublishesRevocation(now, notBefore, notAfter time.Time) bool {
	if now.Before(notBefore) {
		notBefore = now
	}
	life := notAfter.Sub(notBefore) + time.Second
	return life >= time.Duration(r.NoRevocationBelowSeconds)*time.Second
}

func (r IssuanceRules) check() error {
	const most = int64(maxNoRevocation / time.Second)
	if r.NoRevocationBelowSeconds < 0 || r.NoRevocationBelowSeconds > most {
		return fmt.Errorf("no_revocation_below_seconds: %d is not between 0 (never) and %d (seven days)", r.NoRevocationBelowSeconds, most)
	}
	return nil
}
