package pki

import "testing"

// TestNoRevAvailIsForLeaves: "This extension MUST NOT be present in CA public key
// certificates" (RFC 9608, Section 2), nor the CA flag beside it (Section 3).
func TestNoRevAvailIsForLeaves(t *testing.T) {
	ca := newCA(t, CASpec{})
	if extension(ca.Root, 2, 5, 29, 56) != nil || extension(ca.Issuing, 2, 5, 29, 56) != nil {
		t.Error("a CA certificate has noRevAvail")
	}
	leaf := newLeaf("a.test")
	leaf.NoRevAvail = true
	if cert := signLeaf(t, ca, leaf); cert.IsCA {
		t.Error("a certificate with noRevAvail is a CA's")
	}
}
