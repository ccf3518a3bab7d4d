package pki

import "strconv"

// CRLShards is into how many shards the revocations of a new issuer are divided. Certificates point to their shard for
// as long as they live, so the number belongs to the issuer and never changes.
//
// With 64, a shard has some 350 bytes while nothing is revoked and 77 KB when 100,000 certificates are; relying parties
// fetch that instead of 4.9 MB. Signing and checking all of them takes 10 ms. More shards would save nobody much and
// make each refresh longer.
const CRLShards = 64

// Shard returns to which of n shards, counted from 1, a certificate belongs. Serials end in random bits, so all shards
// grow alike. What is no serial belongs to the first; it is refused where serials are read.
func Shard(serial string, n int) int {
	tail, err := strconv.ParseUint(serial[max(0, len(serial)-8):], 16, 32)
	if err != nil {
		tail = 0
	}
	return 1 + int(tail%uint64(n))
}

// Pointers are the URLs that a certificate carries to what its issuer publishes.
type Pointers struct {
	CRL  []string `json:"crl,omitempty"`
	AIA  []string `json:"aia,omitempty"`
	OCSP []string `json:"ocsp,omitempty"`
	// NoRevAvail says in the certificate that its revocation is published nowhere (RFC 9608).
	NoRevAvail bool `json:"no_rev_avail,omitempty"`
}

// WithoutRevocation returns the pointers of a certificate whose revocation is published nowhere (RFC 9608, Section 3).
func (p Pointers) WithoutRevocation() Pointers {
	return Pointers{AIA: p.AIA, NoRevAvail: true}
}

// Point puts the pointers into the leaf.
func (l *Leaf) Point(p Pointers) {
	l.CRLDistributionPoints, l.IssuingCertificateURLs, l.OCSPServers = p.CRL, p.AIA, p.OCSP
	l.NoRevAvail = p.NoRevAvail
}
