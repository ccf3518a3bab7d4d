package acme

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestStatusOfTypes(t *testing.T) {
	for _, test := range []struct {
		make   func(string, ...any) *Problem
		name   string
		status int
	}{
		{AccountDoesNotExist, "accountDoesNotExist", 400}, // RFC 8555, Section 7.3.1
		{AlreadyRevoked, "alreadyRevoked", 400},
		{AlreadyReplaced, "alreadyReplaced", 409}, // RFC 9773, Section 5
		{BadCSR, "badCSR", 400},
		{BadNonce, "badNonce", 400},         // RFC 8555, Section 6.5
		{BadPublicKey, "badPublicKey", 400}, // RFC 8555, Section 6.2
		{BadRevocationReason, "badRevocationReason", 400},
		{BadSignatureAlgorithm, "badSignatureAlgorithm", 400}, // RFC 8555, Section 6.2
		{CAA, "caa", 403},
		{Connection, "connection", 400},
		{DNSProblem, "dns", 400},
		{ExternalAccountRequired, "externalAccountRequired", 403},
		{IncorrectResponse, "incorrectResponse", 403},
		{InvalidContact, "invalidContact", 400},
		{InvalidProfile, "invalidProfile", 400},
		{Malformed, "malformed", 400},
		{OrderNotReady, "orderNotReady", 403}, // RFC 8555, Section 7.4
		{RateLimited, "rateLimited", 429},
		{RejectedIdentifier, "rejectedIdentifier", 403}, // RFC 8555, Section 7.4.1
		{ServerInternal, "serverInternal", 500},
		{TLS, "tls", 400},
		{Unauthorized, "unauthorized", 403},
		{UnsupportedContact, "unsupportedContact", 400},
		{UnsupportedIdentifier, "unsupportedIdentifier", 400},
		{UserActionRequired, "userActionRequired", 403}, // RFC 8555, Section 7.3.3
	} {
		p := test.make("about %q", "x")
		if want := "urn:ietf:params:acme:error:" + test.name; string(p.Type) != want {
			t.Errorf("type is %s, want %s", p.Type, want)
		}
		if p.Status != test.status {
			t.Errorf("%s has status %d, want %d", test.name, p.Status, test.status)
		}
		if want := test.name + `: about "x"`; p.Error() != want {
			t.Errorf("error is %q, want %q", p.Error(), want)
		}
	}
	if got := (&Problem{Type: ErrMalformed}).Error(); got != "malformed" {
		t.Errorf("error without detail is %q", got)
	}
}

// TestProblemJSON writes the example of RFC 8555, Section 6.7.1 and reads it
// back.
func TestProblemJSON(t *testing.T) {
	const example = `{
    "type": "urn:ietf:params:acme:error:malformed",
    "detail": "Some of the identifiers requested were rejected",
    "subproblems": [
        {
            "type": "urn:ietf:params:acme:error:malformed",
            "detail": "Invalid underscore in DNS name \"_example.org\"",
            "identifier": {
                "type": "dns",
                "value": "_example.org"
            }
        },
        {
            "type": "urn:ietf:params:acme:error:rejectedIdentifier",
            "detail": "This CA will not issue for \"example.net\"",
            "identifier": {
                "type": "dns",
                "value": "example.net"
            }
        }
    ]
}`
	p := &Problem{
		Type:   ErrMalformed,
		Detail: "Some of the identifiers requested were rejected",
		Subproblems: []*Problem{
			{Type: ErrMalformed, Detail: `Invalid underscore in DNS name "_example.org"`, Identifier: &Identifier{DNS, "_example.org"}},
			{Type: ErrRejectedIdentifier, Detail: `This CA will not issue for "example.net"`, Identifier: &Identifier{DNS, "example.net"}},
		},
	}
	text, err := json.MarshalIndent(p, "", "    ")
	if err != nil || string(text) != example {
		t.Errorf("%s, %v", text, err)
	}
	var read Problem
	if err := json.Unmarshal([]byte(example), &read); err != nil || !reflect.DeepEqual(&read, p) {
		t.Errorf("%+v, %v", read, err)
	}

	// What travels in header fields stays out of the document.
	p = RateLimited("slow down")
	p.RetryAfter, p.Location, p.Links = time.Minute, "https://example.com/x", []Link{{"help", "https://example.com/help"}}
	text, err = json.Marshal(p)
	if want := `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"slow down","status":429}`; err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
	text, err = json.Marshal(BadSignatureAlgorithm("no"))
	if want := `{"type":"urn:ietf:params:acme:error:badSignatureAlgorithm","detail":"no","status":400,"algorithms":["ES256","ES384","ES512","RS256","EdDSA"]}`; err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}

func TestCompound(t *testing.T) {
	a, b := Identifier{DNS, "a.test"}, Identifier{DNS, "b.test"}
	limited := RateLimited("slow")
	limited.RetryAfter = time.Minute
	later := RateLimited("slower")
	later.RetryAfter = time.Hour
	plain := Malformed("x")

	if Compound(nil) != nil {
		t.Error("no problems make one")
	}
	if Compound([]*Problem{plain}) != plain {
		t.Error("a single problem is not returned as it is")
	}
	for _, test := range []struct {
		name     string
		problems []*Problem
		want     ErrorType
		status   int
		retry    time.Duration
		detail   string
	}{
		{"one of an identifier", []*Problem{RejectedIdentifier("no a").For(a)}, ErrRejectedIdentifier, 403, 0, "no a"},
		{"one type", []*Problem{RejectedIdentifier("no a").For(a), RejectedIdentifier("no b").For(b)}, ErrRejectedIdentifier, 403, 0, "2 problems; the first: no a"},
		{"two types", []*Problem{Malformed("bad a").For(a), RejectedIdentifier("no b").For(b)}, ErrCompound, 403, 0, "2 problems; the first: bad a"},
		{"the server's fault", []*Problem{RejectedIdentifier("no a").For(a), ServerInternal("oops")}, ErrCompound, 500, 0, "the first: no a"},
		{"the longest wait", []*Problem{limited, later, limited}, ErrRateLimited, 429, time.Hour, "3 problems; the first: slow"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := Compound(test.problems)
			if c.Type != test.want || c.Status != test.status || c.RetryAfter != test.retry || !strings.Contains(c.Detail, test.detail) {
				t.Errorf("%+v", c)
			}
			if c.Identifier != nil {
				t.Error("the identifier field is present at the top level (RFC 8555, Section 6.7.1)")
			}
			if !reflect.DeepEqual(c.Subproblems, test.problems) {
				t.Errorf("subproblems are %v", c.Subproblems)
			}
		})
	}
}

func TestProblemFor(t *testing.T) {
	p := Malformed("x")
	id := Identifier{DNS, "a.test"}
	q := p.For(id)
	if p.Identifier != nil || *q.Identifier != id || q.Detail != "x" {
		t.Errorf("%+v, %+v", p, q)
	}
}

func TestProblemIsAnError(t *testing.T) {
	var p *Problem
	if err := fmt.Errorf("wrapped: %w", Malformed("x")); !errors.As(err, &p) || p.Type != ErrMalformed {
		t.Error(err)
	}
}
