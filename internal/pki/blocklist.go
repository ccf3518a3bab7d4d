package pki

import (
	"bufio"
	"crypto"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// A Blocklist is a set of keys that are refused because somebody else has the private key, named by their SPKIHash.
// A nil Blocklist blocks nothing. It does not change and may be used by many goroutines.
type Blocklist struct {
	hashes map[[32]byte]struct{}
}

// NewBlocklist blocks the keys with these hashes.
func NewBlocklist(hashes ...[32]byte) *Blocklist {
	b := &Blocklist{hashes: make(map[[32]byte]struct{}, len(hashes))}
	for _, hash := range hashes {
		b.hashes[hash] = struct{}{}
	}
	return b
}

// ParseBlocklist reads one hash in hexadecimal a line; empty lines and what follows a # are ignored.
func ParseBlocklist(r io.Reader) (*Blocklist, error) {
	b := NewBlocklist()
	lines := bufio.NewScanner(r)
	for number := 1; lines.Scan(); number++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		raw, err := hex.DecodeString(text)
		if err != nil || len(raw) != 32 {
			return nil, fmt.Errorf("line %d: not a SHA-256 in hexadecimal", number)
		}
		b.hashes[[32]byte(raw)] = struct{}{}
	}
	return b, lines.Err()
}

// Len returns how many keys are blocked.
func (b *Blocklist) Len() int {
	if b == nil {
		return 0
	}
	return len(b.hashes)
}

// Check returns a *KeyError when the key is blocked.
func (b *Blocklist) Check(pub crypto.PublicKey) error {
	if b.Len() == 0 {
		return nil
	}
	hash, err := SPKIHash(pub)
	if err != nil {
		return err
	}
	if _, blocked := b.hashes[hash]; blocked {
		return keyErrorf("the key is known to be compromised")
	}
	return nil
}
