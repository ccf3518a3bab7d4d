package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"
)

const ocspSerial = "4a000102030405060708090a0b0c0d0e"

// A spec of an OCSP request, for building well-formed and other ones.
type requestSpec struct {
	version    []byte // the content of the tag, DER
	requestor  []byte
	certIDs    [][]byte
	single     []byte // content of singleRequestExtensions
	extensions []byte // content of requestExtensions
	signature  []byte // content of optionalSignature
	after      []byte // inside of the request, behind all that it has
	tail       []byte
}

func (s requestSpec) der(t testing.TB) []byte {
	t.Helper()
	optional := func(b *cryptobyte.Builder, tag uint8, content []byte) {
		if content != nil {
			b.AddASN1(contextTag(tag), func(b *cryptobyte.Builder) { b.AddBytes(content) })
		}
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			optional(b, 0, s.version)
			optional(b, 1, s.requestor)
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, id := range s.certIDs {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddBytes(id)
						optional(b, 0, s.single)
					})
				}
			})
			optional(b, 2, s.extensions)
		})
		optional(b, 0, s.signature)
		b.AddBytes(s.after)
	})
	b.AddBytes(s.tail)
	der, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// certIDHex returns a CertID with hashes of 20 bytes and the DER of algorithm and serial given.
func certIDHex(algorithm, serial string) string {
	content := strings.ReplaceAll(algorithm, " ", "") + "0414" + strings.Repeat("aa", 20) + "0414" + strings.Repeat("bb", 20) + serial
	return "30" + hex.EncodeToString([]byte{byte(len(content) / 2)}) + content
}

const (
	sha1Null   = "3009 06052b0e03021a 0500"
	sha1Absent = "3007 06052b0e03021a"
	md5        = "300c 06082a864886f70d0205 0500"
	serialDER  = "0210" + ocspSerial
)

// noncePart is an Extension with a nonce of n octets.
func noncePart(n int) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidOCSPNonce)
		b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(bytes.Repeat([]byte{7}, n)) })
	})
	return b.BytesOrPanic()
}

func sequence(parts ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(bytes.Join(parts, nil)) })
	return b.BytesOrPanic()
}

func TestParseOCSPRequest(t *testing.T) {
	plain := unhex(t, certIDHex(sha1Null, serialDER))
	unknown := unhex(t, "300c 0603550403 0405 0403010203")                    // an extension nobody knows
	critical := unhex(t, "300f 0603550403 0101ff 0405 0403010203")            // the same, critical
	criticalNonce := unhex(t, "3012 06092b0601050507300102 0101ff 0402 0400") // too short besides
	for _, test := range []struct {
		name string
		spec requestSpec
		ok   bool
	}{
		{"plain", requestSpec{}, true},
		{"no parameters", requestSpec{certIDs: [][]byte{unhex(t, certIDHex(sha1Absent, serialDER))}}, true},
		{"a hash that is not known", requestSpec{certIDs: [][]byte{unhex(t, certIDHex(md5, serialDER))}}, true},
		{"a serial of another CA", requestSpec{certIDs: [][]byte{unhex(t, certIDHex(sha1Null, "020101"))}}, true},
		{"version 1 spelled out", requestSpec{version: []byte{2, 1, 0}}, true},
		{"requestor", requestSpec{requestor: unhex(t, "8203612e62")}, true},
		{"signature", requestSpec{signature: unhex(t, "3003 0101ff")}, true},
		{"unknown extension", requestSpec{extensions: sequence(unknown), single: sequence(unknown)}, true},
		{"nonce of 1", requestSpec{extensions: sequence(noncePart(1))}, true},
		{"nonce of 32", requestSpec{extensions: sequence(unknown, noncePart(32))}, true},
		{"nonce of 128", requestSpec{extensions: sequence(noncePart(128))}, true},
		{"explicitly not critical", requestSpec{extensions: sequence(unhex(t, "300f 0603550403 010100 0405 0403010203"))}, true},

		{"nonce of 0", requestSpec{extensions: sequence(noncePart(0))}, false},
		{"nonce of 129", requestSpec{extensions: sequence(noncePart(129))}, false},
		{"two nonces", requestSpec{extensions: sequence(noncePart(8), noncePart(8))}, false},
		{"nonce that is no octet string", requestSpec{extensions: sequence(unhex(t, "3010 06092b0601050507300102 0403 020107"))}, false},
		{"nonce with a tail", requestSpec{extensions: sequence(unhex(t, "3011 06092b0601050507300102 0404 04010700"))}, false},
		{"short critical nonce", requestSpec{extensions: sequence(criticalNonce)}, false},
		{"critical extension", requestSpec{extensions: sequence(critical)}, false},
		{"critical single extension", requestSpec{single: sequence(critical)}, false},
		{"no extensions in extensions", requestSpec{extensions: sequence()}, false},
		{"version 2", requestSpec{version: []byte{2, 1, 1}}, false},
		{"no requests", requestSpec{certIDs: [][]byte{}}, false},
		{"two requests", requestSpec{certIDs: [][]byte{plain, plain}}, false},
		{"tail", requestSpec{tail: []byte{0}}, false},
		{"more", requestSpec{after: []byte{5, 0}}, false},
		{"signature with more", requestSpec{signature: unhex(t, "3003 0101ff 0500")}, false},
		{"signature of nothing", requestSpec{signature: []byte{0x30, 0}}, false},
		{"requestor with more", requestSpec{requestor: unhex(t, "8203612e62 0500")}, false},
		{"empty signature", requestSpec{signature: []byte{}}, false},
		{"leading zero in the serial", requestSpec{certIDs: [][]byte{unhex(t, certIDHex(sha1Null, "021100"+ocspSerial))}}, false},
		{"leading ff in a negative serial", requestSpec{certIDs: [][]byte{unhex(t, certIDHex(sha1Null, "0202ff80"))}}, false},
		{"empty serial", requestSpec{certIDs: [][]byte{unhex(t, certIDHex(sha1Null, "0200"))}}, false},
		{"NULL that is not empty", requestSpec{certIDs: [][]byte{unhex(t, certIDHex("300a 06052b0e03021a 050100", serialDER))}}, false},
		{"certID with more", requestSpec{certIDs: [][]byte{unhex(t, certIDHex(sha1Null, serialDER+"0500"))}}, false},
		{"large", requestSpec{signature: sequence(bytes.Repeat([]byte{5, 0}, MaxOCSPRequest/2))}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.spec.certIDs == nil {
				test.spec.certIDs = [][]byte{plain}
			}
			der := test.spec.der(t)
			r, err := ParseOCSPRequest(der)
			if (err == nil) != test.ok {
				t.Fatalf("%x: %v", der, err)
			}
			if err != nil {
				if !errors.Is(err, errOCSPRequest) {
					t.Errorf("got %v", err)
				}
				return
			}
			if !bytes.Equal(r.CertID.raw, test.spec.certIDs[0]) {
				t.Errorf("the CertID became %x", r.CertID.raw)
			}
			for n := range der {
				if _, err := ParseOCSPRequest(der[:n]); err == nil {
					t.Errorf("cut to %d bytes it is a request still", n)
				}
			}
		})
	}
}

func TestParseOCSPRequestReads(t *testing.T) {
	for _, test := range []struct {
		algorithm, serial string
		hash              crypto.Hash
		want              string
		form              int
	}{
		{sha1Null, serialDER, crypto.SHA1, ocspSerial, 1},
		{sha1Absent, serialDER, crypto.SHA1, ocspSerial, 0},
		{"300d 0609608648016503040201 0500", serialDER, crypto.SHA256, ocspSerial, 3},
		{"300b 0609608648016503040201", serialDER, crypto.SHA256, ocspSerial, 2},
		{md5, serialDER, 0, ocspSerial, 1},
		{"300a 06052b0e03021a 020105", serialDER, 0, ocspSerial, 0}, // SHA-1 with a parameter is something else
		{sha1Null, "020f01" + ocspSerial[4:], crypto.SHA1, "", 1},
		{sha1Null, "0210" + "ff" + ocspSerial[2:], crypto.SHA1, "", 1},
		{sha1Null, "020100", crypto.SHA1, "", 1},
	} {
		r, err := ParseOCSPRequest(requestSpec{certIDs: [][]byte{unhex(t, certIDHex(test.algorithm, test.serial))}}.der(t))
		if err != nil {
			t.Errorf("%s %s: %v", test.algorithm, test.serial, err)
			continue
		}
		if r.CertID.Hash != test.hash || r.CertID.Serial != test.want || r.CertID.Form() != test.form || r.Nonce != nil {
			t.Errorf("%s %s: %+v", test.algorithm, test.serial, r.CertID)
		}
	}
}

// ocspCA is a CA with an OCSP responder.
func ocspCA(t testing.TB) (ca *CA, responder *x509.Certificate, key *ecdsa.PrivateKey) {
	t.Helper()
	ca, err := CreateCA(CASpec{Name: "Test", Now: now}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	spec := OCSPResponder{Serial: "4b000102030405060708090a0b0c0d0e", NotBefore: now, NotAfter: now.Add(time.Hour), CommonName: "OCSP", PublicKey: key.Public()}
	template, err := spec.Template()
	if err != nil {
		t.Fatal(err)
	}
	if responder, err = sign(template, ca.Issuing, &key.PublicKey, ca.IssuingKey); err != nil {
		t.Fatal(err)
	}
	return ca, responder, key
}

// TestOCSPResponse has golang.org/x/crypto/ocsp ask and read.
func TestOCSPResponse(t *testing.T) {
	ca, responder, key := ocspCA(t)
	leaf := signLeaf(t, ca, newLeaf("a.test"))
	hashes, err := NewOCSPIssuer(ca.Issuing)
	if err != nil {
		t.Fatal(err)
	}
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		for _, reason := range []int{-1, ReasonUnspecified, ReasonKeyCompromise, ReasonPrivilegeWithdrawn} {
			der, err := ocsp.CreateRequest(leaf, ca.Issuing, &ocsp.RequestOptions{Hash: hash})
			if err != nil {
				t.Fatal(err)
			}
			request, err := ParseOCSPRequest(der)
			if err != nil {
				t.Fatal(err)
			}
			if !hashes.Issued(&request.CertID) || request.CertID.Serial != newLeaf().Serial {
				t.Fatalf("%v: not recognized", hash)
			}
			r := OCSPResponse{CertID: &request.CertID, ThisUpdate: now.Add(time.Millisecond), NextUpdate: now.Add(time.Hour)}
			if reason >= 0 {
				r.RevokedAt, r.Reason = now.Add(-time.Minute), reason
			}
			signed, err := r.Sign(rand.Reader, responder, key)
			if err != nil {
				t.Fatal(err)
			}
			read, err := ocsp.ParseResponseForCert(signed, leaf, ca.Issuing)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case read.IssuerHash != hash || !read.ThisUpdate.Equal(now) || !read.ProducedAt.Equal(now) || !read.NextUpdate.Equal(now.Add(time.Hour)):
				t.Errorf("%+v", read)
			case reason < 0 && read.Status != ocsp.Good:
				t.Errorf("status %d", read.Status)
			case reason >= 0 && (read.Status != ocsp.Revoked || read.RevocationReason != reason || !read.RevokedAt.Equal(now.Add(-time.Minute))):
				t.Errorf("status %d, reason %d, %v", read.Status, read.RevocationReason, read.RevokedAt)
			case !bytes.Equal(read.Certificate.Raw, responder.Raw) || len(read.ResponderKeyHash) != 20:
				t.Errorf("the responder is %x", read.ResponderKeyHash)
			case !bytes.Contains(signed, request.CertID.raw):
				t.Error("the CertID is another")
			}
		}
	}
}

// TestOCSPIssued takes one bit of each hash away.
func TestOCSPIssued(t *testing.T) {
	ca, _, _ := ocspCA(t)
	other, _, _ := ocspCA(t)
	leaf := signLeaf(t, ca, newLeaf("a.test"))
	hashes, err := NewOCSPIssuer(ca.Issuing)
	if err != nil {
		t.Fatal(err)
	}
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		der, err := ocsp.CreateRequest(leaf, ca.Issuing, &ocsp.RequestOptions{Hash: hash})
		if err != nil {
			t.Fatal(err)
		}
		request, err := ParseOCSPRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		id := request.CertID
		if !hashes.Issued(&id) {
			t.Fatal("not recognized")
		}
		id.nameHash[3] ^= 1
		if hashes.Issued(&id) {
			t.Error("another name is recognized")
		}
		id.nameHash[3] ^= 1
		id.keyHash[3] ^= 1
		if hashes.Issued(&id) {
			t.Error("another key is recognized")
		}
		id.keyHash[3] ^= 1
		id.nameHash = id.nameHash[:19]
		if hashes.Issued(&id) {
			t.Error("a short hash is recognized")
		}
		// The other CA has the same name.
		if der, err = ocsp.CreateRequest(leaf, other.Issuing, &ocsp.RequestOptions{Hash: hash}); err != nil {
			t.Fatal(err)
		}
		if request, err = ParseOCSPRequest(der); err != nil || hashes.Issued(&request.CertID) {
			t.Errorf("another CA's: %v", err)
		}
	}
	if hashes.Issued(&OCSPCertID{}) {
		t.Error("no hash is recognized")
	}
}

func TestOCSPNonce(t *testing.T) {
	_, responder, key := ocspCA(t)
	example := unhex(t, "302f 06092b0601050507300102 0422 0420 dd49d4072c449da1c317bd1c1bdffe dbe150312ec4cd0add18e5bd6f84bf14 c8")
	request, err := ParseOCSPRequest(requestSpec{certIDs: [][]byte{unhex(t, certIDHex(sha1Null, serialDER))}, extensions: sequence(example)}.der(t))
	if err != nil || len(request.Nonce) != 32 || request.Nonce[0] != 0xdd {
		t.Fatalf("%x, %v", request.Nonce, err)
	}
	r := OCSPResponse{CertID: &request.CertID, ThisUpdate: now, NextUpdate: now.Add(time.Hour), Nonce: request.Nonce}
	with, err := r.Sign(rand.Reader, responder, key)
	if err != nil || !bytes.Contains(with, example) {
		t.Errorf("the nonce is not in the response as it was in the request: %v", err)
	}
	r.Nonce = nil
	without, err := r.Sign(rand.Reader, responder, key)
	if err != nil || bytes.Contains(without, unhex(t, "06092b0601050507300102")) {
		t.Errorf("a nonce came from nowhere: %v", err)
	}
}

func TestOCSPSignRefuses(t *testing.T) {
	ca, responder, key := ocspCA(t)
	request, err := ParseOCSPRequest(requestSpec{certIDs: [][]byte{unhex(t, certIDHex(sha1Null, serialDER))}}.der(t))
	if err != nil {
		t.Fatal(err)
	}
	good := OCSPResponse{CertID: &request.CertID, ThisUpdate: now, NextUpdate: now.Add(time.Hour)}
	if _, err := good.Sign(rand.Reader, ca.Issuing, key); err == nil {
		t.Error("signed with the key of another certificate")
	}
	bad := good
	bad.NextUpdate = now.Add(time.Millisecond) // the same second
	if _, err := bad.Sign(rand.Reader, responder, key); err == nil {
		t.Error("signed for no time")
	}
	bad = good
	bad.RevokedAt, bad.Reason = now, 7
	if _, err := bad.Sign(rand.Reader, responder, key); err == nil {
		t.Error("signed an unknown reason")
	}
}

func TestOCSPErrorsAreTheUsualOnes(t *testing.T) {
	for status, want := range map[OCSPErrorStatus][]byte{
		OCSPMalformedRequest: ocsp.MalformedRequestErrorResponse, OCSPInternalError: ocsp.InternalErrorErrorResponse,
		OCSPTryLater: ocsp.TryLaterErrorResponse, OCSPUnauthorized: ocsp.UnauthorizedErrorResponse,
	} {
		if !bytes.Equal(status.Response(), want) {
			t.Errorf("%d: %x, want %x", status, status.Response(), want)
		}
	}
}

// FuzzParseOCSPRequest holds the parser against golang.org/x/crypto/ocsp, which is more lenient: what is accepted here
// is accepted there, with the same meaning.
func FuzzParseOCSPRequest(f *testing.F) {
	plain := unhex(f, certIDHex(sha1Null, serialDER))
	for _, spec := range []requestSpec{
		{certIDs: [][]byte{plain}},
		{certIDs: [][]byte{unhex(f, certIDHex(sha1Absent, "020101"))}},
		{certIDs: [][]byte{plain, plain}},
		{certIDs: [][]byte{plain}, extensions: sequence(noncePart(32))},
		{certIDs: [][]byte{plain}, version: []byte{2, 1, 0}, single: sequence(noncePart(2))},
	} {
		f.Add(spec.der(f))
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := ParseOCSPRequest(der)
		if err != nil {
			return
		}
		if len(r.Nonce) > maxOCSPNonce || r.Nonce != nil && len(r.Nonce) == 0 || r.CertID.Form() < 0 || r.CertID.Form() >= OCSPForms {
			t.Fatalf("%+v", r)
		}
		if r.CertID.Serial != "" {
			if _, err := ParseSerial(r.CertID.Serial); err != nil {
				t.Fatal(err)
			}
		}
		// The CertID is repeated in the response, so it must be DER that reads as the same.
		again, err := ParseOCSPRequest(requestSpec{certIDs: [][]byte{r.CertID.raw}}.der(t))
		if err != nil || again.CertID.Serial != r.CertID.Serial || again.CertID.Hash != r.CertID.Hash || again.CertID.Form() != r.CertID.Form() {
			t.Fatalf("%x reads as another: %v", r.CertID.raw, err)
		}
		theirs, err := ocsp.ParseRequest(again.der(t))
		if r.CertID.Hash == 0 {
			return
		}
		if err != nil {
			t.Fatalf("%x: %v", der, err)
		}
		serial, _ := FormatSerial(theirs.SerialNumber)
		if theirs.HashAlgorithm != r.CertID.Hash || serial != r.CertID.Serial || !bytes.Equal(theirs.IssuerKeyHash, r.CertID.keyHash) ||
			!bytes.Equal(theirs.IssuerNameHash, r.CertID.nameHash) {
			t.Fatalf("%x: %+v, theirs %+v", der, r, theirs)
		}
	})
}

// der is a plain request for the same certificate.
func (r *OCSPRequest) der(t testing.TB) []byte {
	return requestSpec{certIDs: [][]byte{r.CertID.raw}}.der(t)
}

func BenchmarkOCSPSign(b *testing.B) {
	_, responder, key := ocspCA(b)
	request, err := ParseOCSPRequest(requestSpec{certIDs: [][]byte{unhex(b, certIDHex(sha1Null, serialDER))}}.der(b))
	if err != nil {
		b.Fatal(err)
	}
	r := OCSPResponse{CertID: &request.CertID, ThisUpdate: now, NextUpdate: now.Add(time.Hour)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Sign(rand.Reader, responder, key); err != nil {
			b.Fatal(err)
		}
	}
}
