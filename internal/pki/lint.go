package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3/lint"
	_ "github.com/zmap/zlint/v3/lints/apple" // these register themselves
	_ "github.com/zmap/zlint/v3/lints/cabf_br"
	_ "github.com/zmap/zlint/v3/lints/chrome"
	_ "github.com/zmap/zlint/v3/lints/community"
	_ "github.com/zmap/zlint/v3/lints/mozilla"
	_ "github.com/zmap/zlint/v3/lints/rfc"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// LintSource names the document whose rules a set of lints holds certificates against, as profiles list it.
type LintSource string

// The sources. Those of zlint that judge nothing which certctl issues (code signing, S/MIME, extended validation,
// qualified certificates, precertificates, OCSP responses) are not among them.
const (
	LintRFC3279   LintSource = "rfc3279" // use of RSA keys
	LintRFC5280   LintSource = "rfc5280"
	LintRFC5480   LintSource = "rfc5480" // use of elliptic curve keys
	LintRFC8813   LintSource = "rfc8813" // the same, as updated
	LintRFC5891   LintSource = "rfc5891" // internationalized names
	LintCommunity LintSource = "community"

	// The rules of the public Web.
	LintCABForum LintSource = "cabf_br"
	LintApple    LintSource = "apple"
	LintChrome   LintSource = "chrome"
	LintMozilla  LintSource = "mozilla"
)

// DefaultLintSources lists the sources that every certificate is held against: RFC 5280 and the RFCs of the
// algorithms.
var DefaultLintSources = []LintSource{LintRFC3279, LintRFC5280, LintRFC5480, LintRFC8813}

// AllLintSources lists every LintSource, the default ones first.
var AllLintSources = append(slices.Clone(DefaultLintSources),
	LintRFC5891, LintCommunity, LintCABForum, LintApple, LintChrome, LintMozilla)

// notRun names the lints of these sources that are left out, each with the reason.
var notRun = map[string]string{
	"e_cert_issued_by_compromised_emudhra_ca": "takes 3.5 ms, and judges a signature that is not there yet",
	"e_rsa_fermat_factorization":              "takes 0.34 ms for an RSA key of 2048 bits; CheckKey looks for close primes",
	"e_ecdsa_small_private_key":               "takes 0.25 ms for P-384, 0.75 ms for P-521, and 0.17 s when it is first run",
	"w_sub_cert_aia_contains_internal_names":  "asks the clock, so that one certificate could be judged in two ways",
	"e_sub_cert_certificate_policies_missing": "wants a policy that only a publicly trusted CA may assert",
	"e_sub_cert_cert_policy_empty":            "wants a policy that only a publicly trusted CA may assert",
}

// lintsOf holds the lints that are run for each source, in the order of their names.
var lintsOf = sync.OnceValue(func() map[LintSource][]*lint.CertificateLint {
	lints := make(map[LintSource][]*lint.CertificateLint, len(AllLintSources))
	for _, l := range lint.GlobalRegistry().CertificateLints().Lints() {
		source := LintSource(strings.ToLower(string(l.Source)))
		if _, left := notRun[l.Name]; !left && slices.Contains(AllLintSources, source) {
			lints[source] = append(lints[source], l)
		}
	}
	for _, of := range lints {
		slices.SortFunc(of, func(a, b *lint.CertificateLint) int { return strings.Compare(a.Name, b.Name) })
	}
	return lints
})

// unconfigured is what lints with settings are given: the settings that they come with.
var unconfigured = lint.NewEmptyConfig()

// A LintFinding is one rule that a certificate breaks.
type LintFinding struct {
	Lint   string // its name in zlint
	Detail string // what zlint says; may quote the certificate
}

// String returns the name of the lint and the detail, on one line.
func (f LintFinding) String() string {
	if f.Detail == "" {
		return f.Lint
	}
	return fmt.Sprintf("%s (%q)", f.Lint, f.Detail)
}

// A LintError says which rules forbid a certificate. Its text is one line, names nothing but lints and is fit for
// the client.
type LintError struct {
	Findings []LintFinding
}

func (e *LintError) Error() string {
	names := make([]string, len(e.Findings))
	for i, f := range e.Findings {
		names[i] = f.Lint
	}
	return "refused by linting before it was signed: " + strings.Join(names, ", ")
}

// What lints are about, by their names. TestLints lists it for each of them.
var (
	lintsOfNames = regexp.MustCompile(`dns_?name|_san_(bare|wildcard|iana|contains)|_common_name_(max|not)|international_dns|reserved_label|arpa|underscore`)
	lintsOfKeys  = regexp.MustCompile(`_rsa_(exp|mod|no_public|public|old)|_rsa_mod_|modulus|exponent|public_key|pub_key|_dsa_|_ec_improper|algorithm_identifier`)
)

// OfNames reports whether a rule about the names is among those that the certificate breaks.
func (e *LintError) OfNames() bool { return e.of(lintsOfNames) }

// OfKey reports whether a rule about the certificate's key is among those that the certificate breaks.
func (e *LintError) OfKey() bool { return e.of(lintsOfKeys) }

func (e *LintError) of(lints *regexp.Regexp) bool {
	return slices.ContainsFunc(e.Findings, func(f LintFinding) bool { return lints.MatchString(f.Lint) })
}

// A LintingSigner signs one certificate with a key, if the lints do not object. x509.CreateCertificate hands it the
// whole TBSCertificate (it is a crypto.MessageSigner), so what was linted is byte for byte what the key signs, and
// the key is not used for anything that was refused.
type LintingSigner struct {
	key      crypto.Signer
	sources  []LintSource
	warnings []LintFinding
}

// LintFirst returns a signer for one certificate that is held against the default sources and those given.
func LintFirst(key crypto.Signer, sources []LintSource) *LintingSigner {
	return &LintingSigner{key: key, sources: sources}
}

// Public returns the public key of the key that signs.
func (s *LintingSigner) Public() crypto.PublicKey { return s.key.Public() }

// Sign refuses: a digest cannot be linted.
func (s *LintingSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("a certificate is linted before it is signed, and only its digest was given")
}

// SignMessage lints a TBSCertificate and signs it. The error is a *LintError when a lint forbids the certificate.
func (s *LintingSigner) SignMessage(rand io.Reader, tbs []byte, opts crypto.SignerOpts) ([]byte, error) {
	var err error
	if s.warnings, err = lintTBS(tbs, s.key.Public(), s.sources); err != nil {
		return nil, err
	}
	return crypto.SignMessage(s.key, rand, tbs, opts)
}

// Warnings returns the recommendations that the certificate does not follow.
func (s *LintingSigner) Warnings() []LintFinding { return s.warnings }

// lintTBS holds a TBSCertificate that the key is to sign against the default sources and those given. What breaks a
// rule (error, fatal) is a *LintError; what a document only recommends (warn) is a warning.
//
// The verdict depends on the certificate and the sources alone: rules that came into force or ended at some day are
// chosen by notBefore, and no lint that is run asks the clock.
func lintTBS(tbs []byte, key crypto.PublicKey, sources []LintSource) (warnings []LintFinding, err error) {
	defer func() { // zlint guards its lints in this way, but not the parser
		if r := recover(); r != nil {
			err = fmt.Errorf("linting: the certificate cannot be parsed: %v", r)
		}
	}()
	cert, err := parseUnsigned(tbs, key)
	if err != nil {
		return nil, fmt.Errorf("linting: %w", err)
	}
	var forbidden []LintFinding
	run := func(source LintSource) {
		for _, l := range lintsOf()[source] {
			switch result := l.Execute(cert, unconfigured); result.Status {
			case lint.Warn:
				warnings = append(warnings, LintFinding{l.Name, result.Details})
			case lint.Error, lint.Fatal:
				forbidden = append(forbidden, LintFinding{l.Name, result.Details})
			}
		}
	}
	for _, source := range DefaultLintSources {
		run(source)
	}
	for i, source := range sources {
		switch {
		case !slices.Contains(AllLintSources, source):
			return nil, fmt.Errorf("linting: no lints of %q are known", source)
		case !slices.Contains(DefaultLintSources, source) && !slices.Contains(sources[:i], source):
			run(source)
		}
	}
	if len(forbidden) > 0 {
		return warnings, &LintError{Findings: forbidden}
	}
	return warnings, nil
}

// parseUnsigned reads a TBSCertificate as zlint wants it: in a certificate, whose signature only looks like one.
func parseUnsigned(tbs []byte, key crypto.PublicKey) (*zx509.Certificate, error) {
	var fields, algorithm cryptobyte.String
	input := cryptobyte.String(tbs)
	if !input.ReadASN1(&fields, asn1.SEQUENCE) || !input.Empty() ||
		!fields.SkipOptionalASN1(asn1.Tag(0).Constructed().ContextSpecific()) || // version
		!fields.SkipASN1(asn1.INTEGER) || // serialNumber
		!fields.ReadASN1Element(&algorithm, asn1.SEQUENCE) {
		return nil, errors.New("not a TBSCertificate")
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(algorithm)
		b.AddASN1BitString(placeholder(key))
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	cert, err := zx509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(cert.RawTBSCertificate, tbs) {
		return nil, errors.New("the certificate that was parsed is not the one to be signed")
	}
	return cert, nil
}

// placeholder returns bytes in the form of a signature by the key.
func placeholder(key crypto.PublicKey) []byte {
	ones := func(n int) []byte { return bytes.Repeat([]byte{1}, n) }
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		number := ones((key.Curve.Params().N.BitLen() + 7) / 8)
		var b cryptobyte.Builder
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for range 2 {
				b.AddASN1(asn1.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(number) })
			}
		})
		return b.BytesOrPanic()
	case *rsa.PublicKey:
		return ones(key.Size())
	}
	return ones(ed25519.SignatureSize)
}
