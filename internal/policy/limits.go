package policy

import "time"

// Limit allows Burst events at once and regains Burst events per Period, evenly. The zero value is no limit.
//
// It is the generic cell rate algorithm: all that is remembered of the past is the "theoretical arrival time" (TAT),
// the moment at which everything spent will have been regained. Who keeps that time keeps the limit.
type Limit struct {
	Burst  int
	Period time.Duration
}

// Off reports whether there is no limit.
func (l Limit) Off() bool { return l.Burst <= 0 || l.Period <= 0 }

// Interval returns the time in which one event is regained: Period/Burst, rounded up to the microsecond, so that a
// TAT may be kept with the precision of a database. It is zero when the limit is off.
func (l Limit) Interval() time.Duration {
	if l.Off() {
		return 0
	}
	step := time.Duration(l.Burst) * time.Microsecond
	if step/time.Microsecond != time.Duration(l.Burst) || step > l.Period {
		return time.Microsecond
	}
	n := l.Period / step
	if l.Period%step != 0 {
		n++
	}
	return n * time.Microsecond
}

// Spend takes n events at the time now from a limit whose state is tat; the zero time is a limit never spent from.
// If they are to be had, it returns the new state. If not, it returns the old state and the time after which they
// will be, as long as nobody else spends; more than Burst are never to be had, and retryAfter is zero then.
//
// No spending leaves a state beyond now + Burst intervals. One that lies there was written under a clock that ran
// ahead: these n events are then to be had and leave the limit used up, a state that is true under the clock of now,
// and nobody is locked out until the wrong clock's time has come.
func (l Limit) Spend(tat, now time.Time, n int) (newTAT time.Time, retryAfter time.Duration, ok bool) {
	if l.Off() || n <= 0 {
		return tat, 0, true
	}
	if n > l.Burst {
		return tat, 0, false
	}
	interval := l.Interval()
	full := now.Add(time.Duration(l.Burst) * interval)
	start := tat
	switch {
	case start.Before(now):
		start = now
	case start.After(full):
		start = full.Add(-time.Duration(n) * interval)
	}
	next := start.Add(time.Duration(n) * interval)
	if next.After(full) {
		return tat, next.Sub(full), false
	}
	return next, 0, true
}
