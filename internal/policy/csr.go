package policy

import (
	"crypto"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/pki"
)

// MatchCSR reports whether the CSR may finalize an order for the identifiers: it "MUST indicate the exact same set of
// requested identifiers as the initial newOrder request", in the common name, the subjectAltName or both (RFC 8555,
// Section 7.4). Its key must be of a type that the profile allows, and neither the account's (RFC 8555, Section 11.1)
// nor a CA's. The error is an *acme.Problem.
func MatchCSR(csr *pki.CSR, ids []acme.Identifier, keyTypes []pki.KeyType, accountKey crypto.PublicKey, caKeys ...crypto.PublicKey) error {
	if !slices.Contains(keyTypes, csr.KeyType) {
		return acme.BadCSR("the CSR's key is of type %s; the profile allows %s", csr.KeyType, listed(keyTypes))
	}
	if sameKey(csr.PublicKey, accountKey) {
		return acme.BadCSR("the CSR's key is the account key; make a key of its own for the certificate")
	}
	for _, key := range caKeys {
		if sameKey(csr.PublicKey, key) {
			return acme.BadCSR("the CSR's key is a CA's key")
		}
	}
	if csr.Emails+csr.URIs+csr.OtherNames > 0 {
		return acme.BadCSR("the CSR asks for names that are neither DNS names nor IP addresses")
	}
	return matchNames(csr, ids)
}

func sameKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && b != nil && key.Equal(b)
}

func matchNames(csr *pki.CSR, ids []acme.Identifier) error {
	ordered := make(map[acme.Identifier]bool, len(ids)) // -> whether the CSR has it
	for _, id := range ids {
		ordered[id] = false
	}
	var extra, missing []string
	take := func(id acme.Identifier) {
		if _, ok := ordered[id]; ok {
			ordered[id] = true
		} else {
			extra = append(extra, id.Value)
		}
	}
	for _, name := range csr.DNSNames {
		take(acme.Identifier{Type: acme.DNS, Value: strings.ToLower(name)})
	}
	for _, addr := range csr.IPs {
		take(acme.Identifier{Type: acme.IP, Value: addr.String()})
	}
	if csr.CommonName != "" {
		take(commonName(csr))
	}
	for _, id := range ids {
		if !ordered[id] {
			missing = append(missing, id.Value)
		}
	}
	switch {
	case len(extra) > 0:
		return acme.BadCSR("the CSR has names that are not in the order: %s", few(extra))
	case len(missing) > 0:
		return acme.BadCSR("the CSR lacks names of the order: %s", few(missing))
	}
	return nil
}

// commonName reads the common name as the identifier that it stands for.
func commonName(csr *pki.CSR) acme.Identifier {
	if addr, err := netip.ParseAddr(csr.CommonName); err == nil {
		return acme.Identifier{Type: acme.IP, Value: addr.String()}
	}
	return acme.Identifier{Type: acme.DNS, Value: strings.ToLower(csr.CommonName)}
}

// few lists names for an error: not all of a hundred, and none longer than a name can be.
func few(names []string) string {
	const most, longest = 5, 253
	shown := make([]string, 0, most)
	for _, name := range names[:min(most, len(names))] {
		shown = append(shown, fmt.Sprintf("%q", name[:min(longest, len(name))]))
	}
	text := strings.Join(shown, ", ")
	if more := len(names) - len(shown); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// maxCommonName is the upper bound that RFC 5280, Appendix A.1 puts on a common name.
const maxCommonName = 64

// Leaf describes the certificate for an order. All of it comes from the order and the profile; the CSR, which
// MatchCSR has accepted, gives the key and whether there is a common name.
func (p *Profile) Leaf(csr *pki.CSR, ids []acme.Identifier, serial string, nb, na time.Time) pki.Leaf {
	leaf := pki.Leaf{Serial: serial, NotBefore: nb, NotAfter: na, PublicKey: csr.PublicKey, LintSources: p.LintSources}
	if csr.CommonName != "" {
		if id := commonName(csr); slices.Contains(ids, id) && len(id.Value) <= maxCommonName {
			leaf.CommonName = id.Value
		}
	}
	seen := make(map[acme.Identifier]struct{}, len(ids))
	for _, id := range ids {
		if _, again := seen[id]; again {
			continue
		}
		seen[id] = struct{}{}
		switch id.Type {
		case acme.DNS:
			leaf.DNSNames = append(leaf.DNSNames, id.Value)
		case acme.IP:
			if addr, err := netip.ParseAddr(id.Value); err == nil {
				leaf.IPs = append(leaf.IPs, addr)
			}
		}
	}
	for _, usage := range p.ExtKeyUsages {
		leaf.ExtKeyUsages = append(leaf.ExtKeyUsages, pki.ExtKeyUsage(usage))
	}
	return leaf
}
