//lint:file-ignore SA1019 keys of the deprecated kinds, and points moved off their curves, are what is refused

package pki

import (
	"bytes"
	"crypto"
	"crypto/dsa"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// goodKeys are made once: RSA keys are slow to find.
var goodKeys = sync.OnceValue(func() map[KeyType]crypto.Signer {
	keys := make(map[KeyType]crypto.Signer)
	add := func(t KeyType, key crypto.Signer, err error) {
		if err != nil {
			panic(err)
		}
		keys[t] = key
	}
	for t, bits := range map[KeyType]int{RSA2048: 2048, RSA3072: 3072, RSA4096: 4096} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		add(t, key, err)
	}
	for t, curve := range map[KeyType]elliptic.Curve{ECDSAP256: elliptic.P256(), ECDSAP384: elliptic.P384(), ECDSAP521: elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		add(t, key, err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	add(Ed25519, key, err)
	return keys
})

func TestGoodKeys(t *testing.T) {
	keys := goodKeys()
	for _, want := range AllKeyTypes {
		pub := keys[want].Public()
		if got, err := KeyTypeOf(pub); err != nil || got != want {
			t.Errorf("KeyTypeOf: %s, %v; want %s", got, err, want)
		}
		if err := CheckKey(pub); err != nil {
			t.Errorf("%s: %v", want, err)
		}
	}
	if len(keys) != len(AllKeyTypes) {
		t.Error("a key type is not tested")
	}
}

func randomBits(bits int) *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(bits)))
	if err != nil {
		panic(err)
	}
	return n
}

func primorial(largest int64) *big.Int {
	product := big.NewInt(1)
	for n := int64(2); n <= largest; n++ {
		if p := big.NewInt(n); p.ProbablyPrime(0) {
			product.Mul(product, p)
		}
	}
	return product
}

// rocaPrime is a prime of the form k*M + (65537^a mod M), with the two highest bits set so that products have full length.
func rocaPrime(bits int) *big.Int {
	m := primorial(largestROCAPrime)
	for {
		p := new(big.Int).Exp(big.NewInt(65537), randomBits(200), m)
		k := randomBits(bits - 2)
		k.Or(k, new(big.Int).Lsh(big.NewInt(3), uint(bits-2))).Div(k, m)
		if p.Add(p, k.Mul(k, m)); p.BitLen() == bits && p.Bit(bits-2) == 1 && p.ProbablyPrime(1) {
			return p
		}
	}
}

// nextPrime returns the first prime above n.
func nextPrime(n *big.Int) *big.Int {
	p := new(big.Int).SetBit(n, 0, 1)
	if p.Cmp(n) == 0 {
		p.Add(p, big.NewInt(2))
	}
	for !p.ProbablyPrime(1) {
		p.Add(p, big.NewInt(2))
	}
	return p
}

func topPrime(bits int) *big.Int {
	n := randomBits(bits - 2)
	return nextPrime(n.Or(n, new(big.Int).Lsh(big.NewInt(3), uint(bits-2))))
}

// multipleOf returns a 2048-bit odd multiple of p and of no smaller prime.
func multipleOf(p int64) *big.Int {
	for {
		n := new(big.Int).Div(topPrime(2048), big.NewInt(p))
		if n = nextPrime(n); n.Mul(n, big.NewInt(p)).BitLen() == 2048 {
			return n
		}
	}
}

func TestWeakKeys(t *testing.T) {
	good := goodKeys()[RSA2048].Public().(*rsa.PublicKey)
	p := topPrime(1024)
	withExponent := func(e int) *rsa.PublicKey { return &rsa.PublicKey{N: good.N, E: e} }
	withModulus := func(n *big.Int) *rsa.PublicKey { return &rsa.PublicKey{N: n, E: 65537} }
	onCurve := goodKeys()[ECDSAP256].Public().(*ecdsa.PublicKey)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	x25519, _ := ecdh.X25519().GenerateKey(rand.Reader)

	for _, test := range []struct {
		name string
		pub  crypto.PublicKey
		want string
	}{
		{"no key", nil, "kind"},
		{"1024 bits", withModulus(new(big.Int).Mul(topPrime(512), topPrime(512))), "1024 bits"},
		{"2047 bits", withModulus(new(big.Int).Rsh(good.N, 1)), "2047 bits"},
		{"2056 bits", withModulus(new(big.Int).SetBit(good.N, 2055, 1)), "2056 bits"},
		{"8192 bits", withModulus(new(big.Int).Lsh(good.N, 6144)), "8192 bits"},
		{"no modulus", &rsa.PublicKey{E: 65537}, "no modulus"},
		{"negative modulus", withModulus(new(big.Int).Neg(good.N)), "even"},
		{"exponent 1", withExponent(1), "exponent 1 "},
		{"exponent 3", withExponent(3), "exponent 3 "},
		{"exponent 65535", withExponent(65535), "exponent"},
		{"even exponent", withExponent(65538), "exponent"},
		{"huge exponent", withExponent(1<<32 + 1), "exponent"},
		{"negative exponent", withExponent(-65537), "exponent"},
		{"even modulus", withModulus(new(big.Int).SetBit(good.N, 0, 0)), "even"},
		{"factor 3", withModulus(multipleOf(3)), "small factor 3"},
		{"factor 47", withModulus(multipleOf(47)), "small factor 47"},
		{"factor 751", withModulus(multipleOf(751)), "small factor 751"},
		{"square of a prime", withModulus(new(big.Int).Mul(p, p)), "too close"},
		{"neighbouring primes", withModulus(new(big.Int).Mul(p, nextPrime(p))), "too close"},
		{"primes 2^516 apart", withModulus(new(big.Int).Mul(p, nextPrime(new(big.Int).Add(p, new(big.Int).Lsh(big.NewInt(1), 516))))), "too close"},
		{"ROCA", withModulus(new(big.Int).Mul(rocaPrime(1024), rocaPrime(1024))), "ROCA"},
		{"P-224", p224.Public(), "curve"},
		{"no curve", &ecdsa.PublicKey{}, "no curve"},
		{"no point", &ecdsa.PublicKey{Curve: elliptic.P256()}, "no point"},
		{"point off the curve", &ecdsa.PublicKey{Curve: elliptic.P256(), X: onCurve.X, Y: new(big.Int).Add(onCurve.Y, big.NewInt(1))}, "not on its curve"},
		{"point at infinity", &ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int), Y: new(big.Int)}, "not on its curve"},
		{"coordinate not reduced", &ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int).Add(onCurve.X, elliptic.P256().Params().P), Y: onCurve.Y}, "not on its curve"},
		{"short Ed25519", ed25519.PublicKey(make([]byte, 31)), "31 bytes"},
		{"Ed25519 of order 4", ed25519.PublicKey(make([]byte, 32)), "small order"},
		{"X25519", x25519.PublicKey(), "kind"},
		{"DSA", &dsa.PublicKey{}, "kind"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := CheckKey(test.pub)
			var keyError *KeyError
			if !errors.As(err, &keyError) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want a KeyError with %q", err, test.want)
			}
		})
	}
}

func TestLargestExponent(t *testing.T) {
	good := goodKeys()[RSA2048].Public().(*rsa.PublicKey)
	for _, e := range []int{65537, 65539, 1<<31 - 1, 1<<32 - 1} {
		if err := CheckKey(&rsa.PublicKey{N: good.N, E: e}); err != nil {
			t.Errorf("exponent %d: %v", e, err)
		}
	}
}

// TestROCANeedsEveryPrime takes the fingerprint away in a single prime: sound keys share most of it.
func TestROCANeedsEveryPrime(t *testing.T) {
	m := primorial(largestSmallPrime)
	n := new(big.Int).Exp(big.NewInt(65537), big.NewInt(12345), m)
	n.Add(n, new(big.Int).Mul(m, new(big.Int).Div(topPrime(2048), m)))
	if n.BitLen() != 2048 {
		t.Fatal("the synthetic modulus has another length")
	}
	if err := CheckKey(&rsa.PublicKey{N: n, E: 65537}); err == nil || !strings.Contains(err.Error(), "ROCA") {
		t.Fatalf("synthetic modulus: %v", err)
	}
	// 65537 generates {1, 10} modulo 11. Adding multiples of all other primes changes the remainder modulo 11 only.
	step := new(big.Int).Div(m, big.NewInt(11))
	for range 11 {
		n.Add(n, step)
		r := new(big.Int).Mod(n, big.NewInt(11)).Int64()
		err := CheckKey(&rsa.PublicKey{N: n, E: 65537})
		if roca := err != nil && strings.Contains(err.Error(), "ROCA"); roca != (r == 1 || r == 10) {
			t.Errorf("remainder %d modulo 11: %v", r, err)
		}
	}
}

// TestSmallPrimes compares the grouped division with the obvious one.
func TestSmallPrimes(t *testing.T) {
	count, last := 0, uint64(0)
	for _, group := range smallPrimes {
		product := big.NewInt(1)
		for _, p := range group.primes {
			product.Mul(product, new(big.Int).SetUint64(p.value))
			count, last = count+1, p.value
		}
		if !product.IsUint64() || product.Uint64() != group.product {
			t.Errorf("the group's product is %d instead of %v", group.product, product)
		}
	}
	if count != 132 || last != largestSmallPrime {
		t.Errorf("%d odd primes up to %d", count, last)
	}
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Byte(), 64, 64).Draw(t, "n")
		m := rapid.Uint64Min(1).Draw(t, "m")
		want := new(big.Int).Mod(new(big.Int).SetBytes(raw), new(big.Int).SetUint64(m)).Uint64()
		if got := remainder(raw, m); got != want {
			t.Fatalf("got %d, want %d", got, want)
		}
	})
}

// TestClosePrimes holds the filtered search against Fermat's method written plainly, over distances on both sides of
// what the rounds reach.
func TestClosePrimes(t *testing.T) {
	plain := func(n *big.Int) bool {
		a := new(big.Int).Sqrt(n)
		if new(big.Int).Mul(a, a).Cmp(n) == 0 {
			return true
		}
		for range fermatRounds {
			a.Add(a, big.NewInt(1))
			b2 := new(big.Int).Sub(new(big.Int).Mul(a, a), n)
			if b := new(big.Int).Sqrt(b2); b.Mul(b, b).Cmp(b2) == 0 {
				return true
			}
		}
		return false
	}
	found := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		// Odd factors stand in for primes: the method does not care.
		raw := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "p")
		p := new(big.Int).SetBytes(raw)
		p.SetBit(p, 0, 1).SetBit(p, 255, 1).SetBit(p, 254, 1)
		// For p near 2^256 the rounds reach distances of about 2^133.
		distance := new(big.Int).Lsh(big.NewInt(rapid.Int64Range(128, 255).Draw(t, "d")), rapid.UintRange(118, 134).Draw(t, "shift"))
		n := new(big.Int).Mul(p, new(big.Int).Add(p, distance))
		want := plain(n)
		found[want]++
		if got := closePrimes(n, n.FillBytes(make([]byte, 72))); got != want {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
	if found[true] == 0 || found[false] == 0 {
		t.Errorf("one side was never tried: %v", found)
	}
}

// TestSmallOrderKeysSignAnything shows why these keys are refused: a signature that nobody made verifies.
func TestSmallOrderKeysSignAnything(t *testing.T) {
	forged := make([]byte, ed25519.SignatureSize)
	forged[0] = 1 // R is the neutral element, S is 0
	if len(smallOrder) != 14 {
		t.Errorf("%d encodings", len(smallOrder))
	}
	for point := range smallOrder {
		accepted := false
		for i := 0; i < 1000 && !accepted; i++ {
			accepted = ed25519.Verify(point[:], fmt.Append(nil, i), forged)
		}
		if !accepted {
			t.Errorf("%x is not of small order", point)
		}
	}
}

func TestBlocklist(t *testing.T) {
	keys := goodKeys()
	blocked, free := keys[ECDSAP256].Public(), keys[ECDSAP384].Public()
	hash, err := SPKIHash(blocked)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := ParseBlocklist(strings.NewReader("# keys found in the wild\n\n" + strings.ToUpper(hex.EncodeToString(hash[:])) + " # on a pastebin\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range []*Blocklist{parsed, NewBlocklist(hash)} {
		if list.Len() != 1 || list.Check(blocked) == nil || list.Check(free) != nil {
			t.Errorf("Len %d, blocked %v, free %v", list.Len(), list.Check(blocked), list.Check(free))
		}
	}
	var none *Blocklist
	if none.Check(blocked) != nil {
		t.Error("a nil list blocks")
	}
	for _, text := range []string{"abc", hex.EncodeToString(hash[:31]), "zz" + hex.EncodeToString(hash[1:])} {
		if _, err := ParseBlocklist(strings.NewReader("\n" + text)); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := SPKIHash(&ecdsa.PublicKey{}); err == nil {
		t.Error("a key without curve has a hash")
	}
}

func TestSubjectKeyID(t *testing.T) {
	for keyType, key := range goodKeys() {
		a, err := subjectKeyID(key.Public())
		if err != nil || len(a) != 20 {
			t.Errorf("%s: %x, %v", keyType, a, err)
		}
		if b, _ := subjectKeyID(key.Public()); !bytes.Equal(a, b) {
			t.Errorf("%s: not stable", keyType)
		}
	}
}

func BenchmarkCheckKey(b *testing.B) {
	for _, keyType := range AllKeyTypes {
		pub := goodKeys()[keyType].Public()
		b.Run(string(keyType), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := CheckKey(pub); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
