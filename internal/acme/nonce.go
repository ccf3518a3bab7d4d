package acme

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"
	"time"
)

// A Nonce is what an anti-replay nonce stands for (RFC 8555, Section 6.5). No
// two have the same Epoch and Counter, so that pair is what is remembered as
// spent, and only until Expires.
type Nonce struct {
	Epoch   uint32    // names the memory of spent nonces; a new one voids older nonces
	Counter uint64    // differs in all nonces of an epoch
	Expires time.Time // whole seconds, from 1970 to 2106
}

const (
	nonceHead = 16 // epoch, expiry and counter
	nonceMAC  = 16
	nonceSize = nonceHead + nonceMAC
	nonceText = (nonceSize*8 + 5) / 6 // in base64url
)

// A NonceSealer turns nonces into the strings that clients get, and back. All
// replicas that share a key open each other's nonces. It may be used by
// several goroutines at once.
//
// The string is base64url(head XOR pad, mac), where head is the nonce in 16
// octets, mac is HMAC-SHA256(key 1, head) cut to 16, and pad is AES(key 2,
// mac). The pad is there because a nonce has to be "unpredictable to anyone
// besides the server" (RFC 8555, Section 6.5.1) and because a counter in the
// clear tells every client how busy the server is. As the mac is a function of
// head and differs for each, no pad is used twice.
type NonceSealer struct {
	macKey  []byte
	mask    cipher.Block
	scratch sync.Pool // of *nonceScratch
}

type nonceScratch struct {
	mac  hash.Hash
	sum  [sha256.Size]byte
	pad  [aes.BlockSize]byte
	raw  [nonceSize]byte
	text [nonceText]byte
}

// NewNonceSealer makes a NonceSealer with a secret key of 32 octets.
func NewNonceSealer(key []byte) (*NonceSealer, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("a nonce key has 32 bytes, not %d", len(key))
	}
	mask, err := aes.NewCipher(deriveKey(key, "certctl nonce mask"))
	if err != nil {
		return nil, err
	}
	s := &NonceSealer{macKey: deriveKey(key, "certctl nonce mac"), mask: mask}
	s.scratch.New = func() any {
		return &nonceScratch{mac: hmac.New(sha256.New, s.macKey)}
	}
	return s, nil
}

func deriveKey(key []byte, purpose string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(purpose))
	return mac.Sum(nil)
}

// Seal is the string for n. Equal nonces have equal strings.
func (s *NonceSealer) Seal(n Nonce) string {
	w := s.scratch.Get().(*nonceScratch)
	defer s.scratch.Put(w)
	head, mac := w.raw[:nonceHead], w.raw[nonceHead:]
	binary.BigEndian.PutUint32(head[0:], n.Epoch)
	binary.BigEndian.PutUint32(head[4:], uint32(n.Expires.Unix()))
	binary.BigEndian.PutUint64(head[8:], n.Counter)
	copy(mac, w.authenticate(head))
	s.mask.Encrypt(w.pad[:], mac)
	subtle.XORBytes(head, head, w.pad[:])
	base64.RawURLEncoding.Encode(w.text[:], w.raw[:])
	return string(w.text[:])
}

// Open is the nonce that text was sealed from. It reports false for any string
// that Seal did not make with the same key. That the nonce has not expired and
// is not spent is for the caller to see.
func (s *NonceSealer) Open(text string) (Nonce, bool) {
	if len(text) != nonceText {
		return Nonce{}, false
	}
	w := s.scratch.Get().(*nonceScratch)
	defer s.scratch.Put(w)
	copy(w.text[:], text)
	if n, err := strictBase64URL.Decode(w.raw[:], w.text[:]); err != nil || n != nonceSize {
		return Nonce{}, false
	}
	head, mac := w.raw[:nonceHead], w.raw[nonceHead:]
	s.mask.Encrypt(w.pad[:], mac)
	subtle.XORBytes(head, head, w.pad[:])
	if subtle.ConstantTimeCompare(w.authenticate(head), mac) != 1 {
		return Nonce{}, false
	}
	return Nonce{
		Epoch:   binary.BigEndian.Uint32(head[0:]),
		Expires: time.Unix(int64(binary.BigEndian.Uint32(head[4:])), 0).UTC(),
		Counter: binary.BigEndian.Uint64(head[8:]),
	}, true
}

// authenticate is the MAC of head, good until the next call.
func (w *nonceScratch) authenticate(head []byte) []byte {
	w.mac.Reset()
	w.mac.Write(head)
	return w.mac.Sum(w.sum[:0])[:nonceMAC]
}
