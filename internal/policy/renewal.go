package policy

import (
	"hash/fnv"
	"time"
)

// Window is the time in which a certificate should be renewed (RFC 9773, Section 4.2). Start is before End.
type Window struct{ Start, End time.Time }

// RenewalWindow suggests when to renew a certificate: about two thirds into its life, whatever its length. Windows are
// a twelfth of the life wide and begin at a place of their own between 62 and 70 percent of it, derived from the
// serial, so that certificates issued together are not renewed together.
func RenewalWindow(serial string, notBefore, notAfter time.Time) Window {
	life := notAfter.Sub(notBefore)
	h := fnv.New32a()
	_, _ = h.Write([]byte(serial)) // never fails
	shift := life / 100 * time.Duration(h.Sum32()%800) / 100
	start := notBefore.Add(life/100*62 + shift).Truncate(time.Second)
	end := start.Add(max(life/12, time.Second)).Truncate(time.Second)
	return Window{start, end}
}

// RevokedWindow is that of a revoked certificate: in the past, so that it is renewed at once.
func RevokedWindow(notBefore, revokedAt time.Time) Window {
	end := revokedAt.Truncate(time.Second)
	start := end.Add(-time.Hour)
	if start.Before(notBefore) && notBefore.Before(end) {
		start = notBefore
	}
	return Window{start, end}
}

// RenewalPoll is how long a client should wait before it asks again (RFC 9773, Section 4.3.1): the setting, or a tenth
// of the remaining life when that is less.
func RenewalPoll(setting time.Duration, now, notAfter time.Time) time.Duration {
	return max(min(setting, notAfter.Sub(now)/10), time.Second)
}
