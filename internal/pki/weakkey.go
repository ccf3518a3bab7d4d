package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"math/bits"
)

// CheckKey returns a *KeyError when certificates must not be issued for the key: it is of another type than
// AllKeyTypes, or it is known how to find its private key. Checks that cost least come first, since anyone with an
// account can make the CA run them.
func CheckKey(pub crypto.PublicKey) error {
	if _, err := KeyTypeOf(pub); err != nil {
		return err
	}
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return checkRSA(pub)
	case *ecdsa.PublicKey:
		return checkECDSA(pub)
	case ed25519.PublicKey:
		return checkEd25519(pub)
	}
	return nil
}

// checkECDSA makes sure that the point is on the curve. The accepted curves have cofactor 1, so that every point
// that is on the curve and not at infinity, which has no encoding here, generates the whole group.
func checkECDSA(pub *ecdsa.PublicKey) error {
	//lint:ignore SA1019 Bytes panics on a key without coordinates
	if pub.X == nil || pub.Y == nil {
		return keyErrorf("the ECDSA key has no point")
	}
	if _, err := pub.Bytes(); err != nil {
		return keyErrorf("the ECDSA key's point is not on its curve")
	}
	return nil
}

// smallOrder holds the encodings of the points of Ed25519 whose order divides the cofactor 8, with and without the
// sign bit and reduced or not. Anyone can sign for them.
var smallOrder = func() map[[32]byte]bool {
	set := make(map[[32]byte]bool)
	for _, y := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		var point [32]byte
		hex.Decode(point[:], []byte(y))
		set[point] = true
		point[31] |= 0x80
		set[point] = true
	}
	return set
}()

func checkEd25519(pub ed25519.PublicKey) error {
	if smallOrder[[32]byte(pub)] {
		return keyErrorf("the Ed25519 key is a point of small order")
	}
	return nil
}

const (
	minExponent = 65537
	maxExponent = 1<<32 - 1
)

// checkRSA refuses moduli that are easily factored. What it costs is one integer square root and a few dozen
// divisions of the modulus by a machine word.
func checkRSA(pub *rsa.PublicKey) error {
	if e := int64(pub.E); e < minExponent || e > maxExponent || e%2 == 0 {
		return keyErrorf("the RSA exponent %d is not accepted, it must be odd and at least 65537", pub.E)
	}
	if pub.N.Sign() <= 0 || pub.N.Bit(0) == 0 {
		return keyErrorf("the RSA modulus is even")
	}
	var buf [4096 / 8]byte
	modulus := pub.N.FillBytes(buf[:])

	roca := true
	for _, group := range smallPrimes {
		rem := remainder(modulus, group.product)
		for _, p := range group.primes {
			r := rem % p.value
			if r == 0 {
				return keyErrorf("the RSA modulus has the small factor %d", p.value)
			}
			roca = roca && p.inROCA(r)
		}
	}
	if roca {
		return keyErrorf("the RSA key has the fingerprint of the ROCA weakness (CVE-2017-15361)")
	}
	if closePrimes(pub.N, modulus) {
		return keyErrorf("the primes of the RSA key are too close to each other")
	}
	return nil
}

// remainder returns n mod m of the big-endian n, whose length is a multiple of 8.
func remainder(n []byte, m uint64) uint64 {
	var rem uint64
	for ; len(n) > 0; n = n[8:] {
		_, rem = bits.Div64(rem, binary.BigEndian.Uint64(n), m)
	}
	return rem
}

const (
	// largestSmallPrime bounds the trial division: the primes below 752.
	largestSmallPrime = 751
	// largestROCAPrime is the largest prime whose remainders tell a key made by the Infineon library (Nemec et al.,
	// "The Return of Coppersmith's Attack"): primes have the form k*M + (65537^a mod M), with M a product of small primes.
	largestROCAPrime = 167
)

type smallPrime struct {
	value uint64
	// powers has bit r set when r is a power of 65537 modulo value; nil for primes that ROCA's M does not tell by.
	powers *[(largestROCAPrime + 63) / 64]uint64
}

// inROCA reports whether a modulus with remainder r may come from the Infineon library. A sound key passes for all
// primes together with a probability of about 2^-28.
func (p *smallPrime) inROCA(r uint64) bool {
	return p.powers == nil || p.powers[r/64]&(1<<(r%64)) != 0
}

// primeGroup holds primes whose product fits a machine word, so that one pass over the modulus serves them all.
type primeGroup struct {
	product uint64
	primes  []smallPrime
}

var smallPrimes = func() []primeGroup {
	var groups []primeGroup
	group := primeGroup{product: 1}
	for n := uint64(3); n <= largestSmallPrime; n += 2 {
		if !big.NewInt(int64(n)).ProbablyPrime(0) {
			continue
		}
		if hi, _ := bits.Mul64(group.product, n); hi != 0 {
			groups = append(groups, group)
			group = primeGroup{product: 1}
		}
		group.product *= n
		group.primes = append(group.primes, newSmallPrime(n))
	}
	return append(groups, group)
}()

func newSmallPrime(n uint64) smallPrime {
	p := smallPrime{value: n}
	if n > largestROCAPrime {
		return p
	}
	p.powers = new([(largestROCAPrime + 63) / 64]uint64)
	for r := uint64(1); p.powers[r/64]&(1<<(r%64)) == 0; r = r * 65537 % n {
		p.powers[r/64] |= 1 << (r % 64)
	}
	return p
}

// fermatRounds is how many candidates of Fermat's factorization are tried: enough for primes that were searched
// upwards from one starting point, far too few to find a factor of two independent primes.
const fermatRounds = 100

// squareModuli are small moduli whose squares are few, coprime so that they filter independently. 64 is kept
// apart: a remainder modulo a power of two is the last bits.
var squareModuli = [...]uint64{63, 55, 61, 59, 53, 47, 43}

// squareMasks has bit r set when r is a square modulo squareModuli[i]; the last one is for 64.
var squareMasks = func() (masks [len(squareModuli) + 1]uint64) {
	for i := range masks {
		m := uint64(64)
		if i < len(squareModuli) {
			m = squareModuli[i]
		}
		for r := range m {
			masks[i] |= 1 << (r * r % m)
		}
	}
	return masks
}()

// closePrimes looks for a and b with n = a*a - b*b = (a+b)(a-b), a from the root of n upwards. Whether a*a - n is a
// square is first asked of its remainders, which cost nothing to carry along; big numbers are computed for the few
// candidates that no remainder rules out.
func closePrimes(n *big.Int, modulus []byte) bool {
	root := new(big.Int).Sqrt(n)
	if square := new(big.Int).Mul(root, root); square.Cmp(n) == 0 {
		return true
	}
	root.Add(root, big.NewInt(1))

	var buf [4096 / 8]byte
	rootBytes := root.FillBytes(buf[:])
	var nRem, aRem [len(squareModuli)]uint64
	for i, m := range squareModuli {
		nRem[i], aRem[i] = remainder(modulus, m), remainder(rootBytes, m)
	}
	nLow, aLow := binary.BigEndian.Uint64(modulus[len(modulus)-8:]), binary.BigEndian.Uint64(rootBytes[len(rootBytes)-8:])

	for k := range uint64(fermatRounds) {
		if maybeSquare(aLow+k, nLow, k, &aRem, &nRem) && differenceIsSquare(root, k, n) {
			return true
		}
	}
	return false
}

// maybeSquare reports whether a*a - n can be a square as far as its remainders tell, for the a that is k above the
// one that aRem was computed of.
func maybeSquare(aLow, nLow, k uint64, aRem, nRem *[len(squareModuli)]uint64) bool {
	if squareMasks[len(squareModuli)]&(1<<((aLow*aLow-nLow)%64)) == 0 {
		return false
	}
	for i, m := range squareModuli {
		a := (aRem[i] + k) % m
		if squareMasks[i]&(1<<((a*a+m-nRem[i])%m)) == 0 {
			return false
		}
	}
	return true
}

func differenceIsSquare(root *big.Int, k uint64, n *big.Int) bool {
	a := new(big.Int).SetUint64(k)
	a.Add(a, root)
	difference := a.Mul(a, a)
	difference.Sub(difference, n)
	b := new(big.Int).Sqrt(difference)
	return b.Mul(b, b).Cmp(difference) == 0
}
