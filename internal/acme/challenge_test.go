package acme

import (
	"crypto/rand"
	"io"
	"strings"
	"testing"
)

// counted tells how much was read of the random source.
type counted struct{ read int }

func (c *counted) Read(p []byte) (int, error) {
	c.read += len(p)
	return rand.Read(p)
}

// TestNewToken: "This value MUST have at least 128 bits of entropy. It MUST NOT
// contain any characters outside the base64url alphabet and MUST NOT include
// base64 padding characters" (RFC 8555, Section 8.3).
func TestNewToken(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		var source counted
		token, err := NewToken(&source)
		if err != nil {
			t.Fatal(err)
		}
		if raw, err := decodeBase64URL([]byte(token)); err != nil || len(raw) != source.read || source.read*8 < 128 {
			t.Fatalf("%q of %d random octets: %v", token, source.read, err)
		}
		if seen[token] {
			t.Fatalf("%q twice", token)
		}
		seen[token] = true
	}
	if token, err := NewToken(io.LimitReader(rand.Reader, 15)); err == nil {
		t.Errorf("%q of a source that ran dry", token)
	}
	if token, err := NewToken(strings.NewReader("")); err == nil {
		t.Errorf("%q of no source", token)
	}
}
