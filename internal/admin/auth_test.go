package admin

import (
	"strings"
	"testing"
	"time"
)

// Who fails to authenticate is told in the log, but not with what, and at most
// once a second.
func TestFailedAuthenticationIsLogged(t *testing.T) {
	f := newFixture(t)
	f.do("GET", "/profiles", f.auditor, "").want(t, 200)
	f.do("POST", "/profiles", f.auditor, `{}`).want(t, 403) // known, so no failed authentication
	if f.log.Len() > 0 {
		t.Errorf("logged: %s", f.log.String())
	}
	began := time.Now()
	const wrong = "ck_a-wrong-key-that-may-be-nearly-right"
	for range 50 {
		f.do("GET", "/eab-keys", wrong, "").want(t, 401)
		f.do("GET", "/eab-keys", "", "").want(t, 401)
	}
	log := f.log.String()
	if strings.Contains(log, "wrong") {
		t.Errorf("the key is told: %s", log)
	}
	first, _, _ := strings.Cut(log, "\n")
	for _, part := range []string{"level=WARN", `msg="API authentication failed"`, "remote=127.0.0.1:", "path=/api/v1/eab-keys", "unknown or disabled"} {
		if !strings.Contains(first, part) {
			t.Errorf("no %s in %s", part, first)
		}
	}
	if lines, most := strings.Count(log, "\n"), 1+int(time.Since(began)/refusalsEvery); lines > most {
		t.Errorf("%d lines, want at most %d:\n%s", lines, most, log)
	}
}

func TestRefusalsAreCounted(t *testing.T) {
	var f refusals
	begin := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		at     time.Duration
		untold int
		tell   bool
	}{
		{0, 0, true},
		{0, 0, false},
		{999 * time.Millisecond, 0, false},
		{time.Second, 2, true},
		{1500 * time.Millisecond, 0, false},
		{time.Hour, 1, true},
		{time.Minute, 0, true}, // a clock that was set back silences nothing
		{time.Minute, 0, false},
	} {
		if untold, tell := f.count(begin.Add(test.at)); untold != test.untold || tell != test.tell {
			t.Errorf("at %v: %d, %v", test.at, untold, tell)
		}
	}
}

// Times that cannot be meant are refused, in whatever zone they are written, and
// leave nothing behind that a list could stumble over.
func TestTimesFromOutside(t *testing.T) {
	f := newFixture(t)
	for _, at := range []string{"9999-12-31T23:59:59-10:00", "9999-01-01T00:00:00Z", "0000-01-01T00:00:00+10:00", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00+01:00"} {
		f.do("POST", "/eab-keys", f.admin, `{"profile_ids":["default"],"expires_at":"`+at+`"}`).want(t, 422, "expires_at: the year")
		f.do("POST", "/renewals", f.admin, `{"all":true,"until":"`+at+`"}`).want(t, 422, "until: the year")
		f.do("POST", "/renewals", f.admin, `{"all":true,"from":"`+at+`","until":"2030-12-31T23:59:59Z"}`).want(t, 422, "from: the year")
		f.do("POST", "/renewals", f.admin, `{"issued_before":"`+at+`","until":"2030-12-31T23:59:59Z"}`).want(t, 422, "issued_before: the year")
	}
	f.do("POST", "/eab-keys", f.admin, `{"profile_ids":["default"],"expires_at":"9998-12-31T13:59:59-10:00"}`).want(t, 201, "9998-12-31T23:59:59Z")
	f.do("POST", "/renewals", f.admin, `{"all":true,"from":"1970-01-01T00:00:00Z","until":"9998-12-31T23:59:59Z"}`).want(t, 200)
	f.do("GET", "/eab-keys", f.admin, "").want(t, 200)
}
