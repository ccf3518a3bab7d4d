package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// corp is another CA: a root, and a CA below it that signs the CA under test.
type corp struct {
	t        *testing.T
	ca       *CA // under test
	own      *Chain
	rootKey  crypto.Signer
	subKey   crypto.Signer
	root     *x509.Certificate
	sub      *x509.Certificate
	template *x509.Certificate // of the CA's certificate by it
}

func newCorp(t *testing.T, spec CASpec) *corp {
	t.Helper()
	c := &corp{t: t, ca: newCA(t, spec), rootKey: newECKey(t), subKey: newECKey(t)}
	var err error
	if c.own, err = NewChain([]*x509.Certificate{c.ca.Issuing, c.ca.Root}); err != nil {
		t.Fatal(err)
	}
	c.root = c.sign(caTemplate("Corp Root"), nil, c.rootKey.Public(), c.rootKey)
	c.sub = c.sign(caTemplate("Corp Sub"), c.root, c.subKey.Public(), c.rootKey)
	c.template = caTemplate("")
	c.template.RawSubject, c.template.SubjectKeyId = c.ca.Issuing.RawSubject, c.ca.Issuing.SubjectKeyId
	return c
}

func newECKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRSAKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func caTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(5, 0, 0),
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// sign makes a certificate; a nil parent is itself.
func (c *corp) sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	c.t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		c.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	return cert
}

// crossSigned is the CA's certificate as the template says, signed by the sub CA.
func (c *corp) crossSigned() *x509.Certificate {
	c.t.Helper()
	return c.sign(c.template, c.sub, c.ca.IssuingKey.Public(), c.subKey)
}

func (c *corp) chain(certs ...*x509.Certificate) *Chain {
	c.t.Helper()
	chain, err := NewChain(certs)
	if err != nil {
		c.t.Fatal(err)
	}
	return chain
}

// verifies asks the standard library whether a leaf of the CA verifies under the chain.
func verifies(chain *Chain, leaf *x509.Certificate, at time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(chain.Root())
	for _, cert := range chain.certs {
		between.AddCert(cert)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at})
	return err
}

func TestChain(t *testing.T) {
	c := newCorp(t, CASpec{})
	cross := c.crossSigned()
	chain := c.chain(cross, c.sub, c.root)
	if err := chain.Check(c.own, now); err != nil {
		t.Fatal(err)
	}
	leaf := signLeaf(t, c.ca, newLeaf("a.test"))
	if err := verifies(chain, leaf, now); err != nil {
		t.Errorf("a leaf does not verify under it: %v", err)
	}
	if !bytes.Equal(chain.PEM(), EncodePEM(cross, c.sub)) || !chain.Root().Equal(c.root) || len(chain.All()) != 3 {
		t.Errorf("%d certificates, served %s", len(chain.All()), chain.PEM())
	}
	if chain.Name() != "Corp Root" || !chain.NotAfter().Equal(cross.NotAfter) || !chain.SignsCRLs() {
		t.Errorf("name %q, end %v, CRLs %v", chain.Name(), chain.NotAfter(), chain.SignsCRLs())
	}
	rootless := c.chain(cross, c.sub)
	if err := rootless.Check(c.own, now); err != nil || rootless.Root() != nil || rootless.ID() != chain.ID() || rootless.Name() != "Corp Root" || len(rootless.All()) != 2 {
		t.Errorf("without its root: %v, id %s of %s", err, rootless.ID(), chain.ID())
	}
	if c.own.ID() == chain.ID() || c.own.Name() != "Test Root CA" || len(chain.ID()) != 16 {
		t.Errorf("the own chain is %s %q", c.own.ID(), c.own.Name())
	}
	for _, certs := range [][]*x509.Certificate{nil, {c.root}} {
		if _, err := NewChain(certs); err == nil {
			t.Errorf("a chain of %d certificates", len(certs))
		}
	}
}

// TestChainOfOwnRoot: another CA may also have signed the CA's root instead.
func TestChainOfOwnRoot(t *testing.T) {
	c := newCorp(t, CASpec{})
	template := caTemplate("")
	template.RawSubject, template.SubjectKeyId = c.ca.Root.RawSubject, c.ca.Root.SubjectKeyId
	chain := c.chain(c.ca.Issuing, c.sign(template, c.root, c.ca.RootKey.Public(), c.rootKey), c.root)
	if err := chain.Check(c.own, now); err != nil {
		t.Error(err)
	}
	if err := verifies(chain, signLeaf(t, c.ca, newLeaf("a.test")), now); err != nil {
		t.Error(err)
	}
}

func TestChainRefusals(t *testing.T) {
	corpTest := []string{"corp.test"}
	for _, tt := range []struct {
		name string
		spec CASpec
		make func(c *corp) []*x509.Certificate
		want string
	}{
		{"the own chain", CASpec{}, func(c *corp) []*x509.Certificate { return []*x509.Certificate{c.ca.Issuing} }, "issuer's own chain"},
		{"another key", CASpec{}, func(c *corp) []*x509.Certificate {
			return []*x509.Certificate{c.sign(c.template, c.sub, c.ca.RootKey.Public(), c.subKey), c.sub, c.root}
		}, "first certificate is not for the issuer's key"},
		{"the wrong order", CASpec{}, func(c *corp) []*x509.Certificate {
			return []*x509.Certificate{c.sub, c.crossSigned(), c.root}
		}, "first certificate is not for the issuer's key"},
		{"another subject", CASpec{}, func(c *corp) []*x509.Certificate {
			c.template.RawSubject, c.template.Subject = nil, c.ca.Root.Subject
			return []*x509.Certificate{c.crossSigned(), c.sub, c.root}
		}, "must be that of the issuer's request"},
		{"a subject of other strings", CASpec{Name: "Example"}, func(c *corp) []*x509.Certificate {
			// As UTF8String what is a PrintableString.
			raw := bytes.ReplaceAll(c.ca.Issuing.RawSubject, []byte("\x13\x07Example"), []byte("\x0c\x07Example"))
			if bytes.Equal(raw, c.ca.Issuing.RawSubject) {
				c.t.Fatal("the subject has no such string")
			}
			c.template.RawSubject = raw
			return []*x509.Certificate{c.crossSigned(), c.sub, c.root}
		}, "byte for byte"},
		{"another key identifier", CASpec{}, func(c *corp) []*x509.Certificate {
			c.template.SubjectKeyId = []byte{1, 2, 3}
			return []*x509.Certificate{c.crossSigned(), c.sub, c.root}
		}, "has the subject key identifier 010203"},
		{"no CA", CASpec{}, func(c *corp) []*x509.Certificate {
			c.template.IsCA, c.template.MaxPathLen, c.template.KeyUsage = false, 0, x509.KeyUsageCertSign
			return []*x509.Certificate{c.crossSigned(), c.sub, c.root}
		}, "certificate 1 (CN=Test Issuing CA,O=Test) is not that of a CA"},
		{"no basic constraints", CASpec{}, func(c *corp) []*x509.Certificate {
			c.template.BasicConstraintsValid, c.template.IsCA, c.template.MaxPathLen = false, false, 0
			return []*x509.Certificate{c.crossSigned(), c.sub, c.root}
		}, "is not that of a CA"},
		{"no right to sign", CASpec{}, func(c *corp) []*x509.Certificate {
			c.template.KeyUsage = x509.KeyUsageCRLSign
			return []*x509.Certificate{c.crossSigned(), c.sub, c.root}
		}, "is not that of a CA"},
		{"no key usage", CASpec{}, func(c *corp) []*x509.Certificate {
			c.template.KeyUsage = 0
			return []*x509.Certificate{c.crossSigned(), c.sub, c.root}
		}, "is not that of a CA"},
		{"expired", CASpec{}, func(c *corp) []*x509.Certificate {
			c.template.NotAfter = now.Add(-time.Second)
			return []*x509.Certificate{c.crossSigned(), c.sub, c.root}
		}, "certificate 1 (CN=Test Issuing CA,O=Test) has expired"},
		{"not valid yet", CASpec{}, func(c *corp) []*x509.Certificate {
			c.template.NotBefore = now.Add(time.Second)
			return []*x509.Certificate{c.crossSigned(), c.sub, c.root}
		}, "is valid from"},
		{"an expired root", CASpec{}, func(c *corp) []*x509.Certificate {
			template := caTemplate("Corp Root")
			template.NotAfter = now.Add(-time.Second)
			return []*x509.Certificate{c.crossSigned(), c.sub, c.sign(template, nil, c.rootKey.Public(), c.rootKey)}
		}, "certificate 3 (CN=Corp Root) has expired"},
		{"a path length", CASpec{}, func(c *corp) []*x509.Certificate {
			template := caTemplate("Corp Sub")
			template.MaxPathLen, template.MaxPathLenZero = 0, true
			c.sub = c.sign(template, c.root, c.subKey.Public(), c.rootKey)
			return []*x509.Certificate{c.crossSigned(), c.sub, c.root}
		}, "certificate 2 (CN=Corp Sub) allows 0 CAs below it, and there are 1"},
		{"a path length of the root", CASpec{}, func(c *corp) []*x509.Certificate {
			template := caTemplate("Corp Root")
			template.MaxPathLen = 1
			return []*x509.Certificate{c.crossSigned(), c.sub, c.sign(template, nil, c.rootKey.Public(), c.rootKey)}
		}, "certificate 3 (CN=Corp Root) allows 1 CAs below it, and there are 2"},
		{"a critical extension", CASpec{}, func(c *corp) []*x509.Certificate {
			c.template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: asn1.NullBytes}}
			return []*x509.Certificate{c.crossSigned(), c.sub, c.root}
		}, "critical extension that few understand: 1.2.3"},
		{"a small key", CASpec{}, func(c *corp) []*x509.Certificate {
			key := newRSAKey(c.t, 1024)
			c.sub = c.sign(caTemplate("Corp Sub"), c.root, key.Public(), c.rootKey)
			return []*x509.Certificate{c.sign(c.template, c.sub, c.ca.IssuingKey.Public(), key), c.sub, c.root}
		}, "RSA key of 1024 bits"},
		{"a gap", CASpec{}, func(c *corp) []*x509.Certificate {
			return []*x509.Certificate{c.crossSigned(), c.root}
		}, `certificate 1 (CN=Test Issuing CA,O=Test) was issued by "CN=Corp Sub", and after it comes the certificate of "CN=Corp Root"`},
		{"another CA of that name", CASpec{}, func(c *corp) []*x509.Certificate {
			template := caTemplate("Corp Sub")
			template.SubjectKeyId = c.sub.SubjectKeyId
			other := newECKey(c.t)
			return []*x509.Certificate{c.crossSigned(), c.sign(template, c.root, other.Public(), c.rootKey), c.root}
		}, "is not signed by the one after it"},
		{"another key of that name", CASpec{}, func(c *corp) []*x509.Certificate {
			cross := c.crossSigned()
			template := caTemplate("Corp Sub")
			template.SubjectKeyId = []byte{9, 9}
			return []*x509.Certificate{cross, c.sign(template, c.root, c.subKey.Public(), c.rootKey), c.root}
		}, "after it comes the key 0909"},
		{"another root of that name", CASpec{}, func(c *corp) []*x509.Certificate {
			template := caTemplate("Corp Root")
			template.SubjectKeyId = c.root.SubjectKeyId
			other := newECKey(c.t)
			return []*x509.Certificate{c.crossSigned(), c.sub, c.sign(template, nil, other.Public(), other)}
		}, "certificate 2 (CN=Corp Sub) is not signed by the one after it"},
		{"a root that another has signed", CASpec{}, func(c *corp) []*x509.Certificate {
			template := caTemplate("Corp Root")
			template.SubjectKeyId = c.root.SubjectKeyId
			template.AuthorityKeyId = c.root.SubjectKeyId
			forged := c.sign(template, caTemplate("Corp Root"), c.rootKey.Public(), newECKey(c.t))
			return []*x509.Certificate{c.crossSigned(), c.sub, forged}
		}, "is not signed with its own key"},
		{"a root in between", CASpec{}, func(c *corp) []*x509.Certificate {
			return []*x509.Certificate{c.crossSigned(), c.sub, c.root, c.sub}
		}, "certificate 3 (CN=Corp Root) is self-signed"},
		{"itself as its root", CASpec{}, func(c *corp) []*x509.Certificate {
			return []*x509.Certificate{c.sign(c.template, nil, c.ca.IssuingKey.Public(), c.ca.IssuingKey), c.ca.Issuing}
		}, "certificate 1 (CN=Test Issuing CA,O=Test) is self-signed"},
		{"a circle", CASpec{}, func(c *corp) []*x509.Certificate {
			top := c.sign(caTemplate("Corp Top"), c.sub, c.rootKey.Public(), c.subKey)
			c.sub = c.sign(caTemplate("Corp Sub"), top, c.subKey.Public(), c.rootKey)
			return []*x509.Certificate{c.crossSigned(), c.sub, top, c.sub}
		}, "certificate 4 (CN=Corp Sub) is of a CA that comes earlier"},
		{"other uses", CASpec{}, func(c *corp) []*x509.Certificate {
			c.template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
			return []*x509.Certificate{c.crossSigned(), c.sub, c.root}
		}, "allow neither servers nor clients"},
		{"names of others", CASpec{PermittedDomains: corpTest, PermittedIPs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}, func(c *corp) []*x509.Certificate {
			c.template.PermittedDNSDomainsCritical, c.template.PermittedDNSDomains = true, []string{"other.test"}
			return []*x509.Certificate{c.crossSigned(), c.sub, c.root}
		}, "permit no name that the issuer may issue for"},
		{"its names excluded by the root", CASpec{PermittedDomains: corpTest}, func(c *corp) []*x509.Certificate {
			template := caTemplate("Corp Root")
			template.PermittedDNSDomainsCritical, template.ExcludedDNSDomains = true, []string{"test"}
			return []*x509.Certificate{c.crossSigned(), c.sub, c.sign(template, nil, c.rootKey.Public(), c.rootKey)}
		}, "permit no name that the issuer may issue for"},
		{"addresses of others", CASpec{PermittedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, func(c *corp) []*x509.Certificate {
			c.template.PermittedDNSDomainsCritical = true
			c.template.PermittedIPRanges = []*net.IPNet{ipNet(netip.MustParsePrefix("192.168.0.0/16"))}
			return []*x509.Certificate{c.crossSigned(), c.sub, c.root}
		}, "permit no name that the issuer may issue for"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCorp(t, tt.spec)
			err := c.chain(tt.make(c)...).Check(c.own, now)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestChainAccepts shows what looks like something that is refused.
func TestChainAccepts(t *testing.T) {
	for name, change := range map[string]func(c *corp) []*x509.Certificate{
		"no key identifier": func(c *corp) []*x509.Certificate {
			// CreateCertificate gives one to what it takes for a CA.
			c.template.SubjectKeyId, c.template.IsCA, c.template.BasicConstraintsValid, c.template.MaxPathLen = nil, false, false, 0
			c.template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}}
			cross := c.crossSigned()
			if len(cross.SubjectKeyId) != 0 || !cross.IsCA {
				c.t.Fatal("it has a key identifier")
			}
			return []*x509.Certificate{cross, c.sub, c.root}
		},
		"path lengths that are enough": func(c *corp) []*x509.Certificate {
			root, sub := caTemplate("Corp Root"), caTemplate("Corp Sub")
			root.MaxPathLen, sub.MaxPathLen = 2, 1
			c.template.MaxPathLen, c.template.MaxPathLenZero = 0, true
			c.root = c.sign(root, nil, c.rootKey.Public(), c.rootKey)
			c.sub = c.sign(sub, c.root, c.subKey.Public(), c.rootKey)
			return []*x509.Certificate{c.crossSigned(), c.sub, c.root}
		},
		"uses of servers": func(c *corp) []*x509.Certificate {
			c.template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			return []*x509.Certificate{c.crossSigned(), c.sub, c.root}
		},
		"constraints that leave names": func(c *corp) []*x509.Certificate {
			c.template.PermittedDNSDomainsCritical, c.template.PermittedDNSDomains = true, []string{"a.corp.test"}
			return []*x509.Certificate{c.crossSigned(), c.sub, c.root}
		},
		"constraints that leave all but some": func(c *corp) []*x509.Certificate {
			c.template.PermittedDNSDomainsCritical, c.template.ExcludedDNSDomains = true, []string{"corp.test", "b.test"}
			c.template.PermittedDNSDomains = []string{"test"}
			return []*x509.Certificate{c.crossSigned(), c.sub, c.root}
		},
		"an old root": func(c *corp) []*x509.Certificate {
			// Self-signed with SHA-1.
			template := caTemplate("Corp Root")
			template.SignatureAlgorithm = x509.SHA1WithRSA
			key := newRSAKey(c.t, 2048)
			c.root = c.sign(template, nil, key.Public(), key)
			c.sub = c.sign(caTemplate("Corp Sub"), c.root, c.subKey.Public(), key)
			return []*x509.Certificate{c.crossSigned(), c.sub, c.root}
		},
	} {
		t.Run(name, func(t *testing.T) {
			spec := CASpec{}
			if name == "constraints that leave names" {
				spec.PermittedDomains = []string{"corp.test"}
			}
			c := newCorp(t, spec)
			chain := c.chain(change(c)...)
			if err := chain.Check(c.own, now); err != nil {
				t.Fatal(err)
			}
			leaf := signLeaf(t, c.ca, newLeaf("x.a.corp.test"))
			if name == "constraints that leave all but some" {
				leaf = signLeaf(t, c.ca, newLeaf("x.a.test"))
			}
			if err := verifies(chain, leaf, now); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestOfferedChains: what a client is offered for a certificate verifies, as the standard library sees it.
func TestOfferedChains(t *testing.T) {
	c := newCorp(t, CASpec{})
	plain := c.chain(c.crossSigned(), c.sub, c.root)
	c.template.NotAfter = now.Add(time.Hour)
	short := c.chain(c.crossSigned(), c.sub, c.root)
	c.template.NotAfter = now.AddDate(1, 0, 0)
	c.template.PermittedDNSDomainsCritical, c.template.PermittedDNSDomains = true, []string{"a.test"}
	c.template.ExcludedIPRanges = []*net.IPNet{ipNet(allIPv4), ipNet(allIPv6)}
	narrow := c.chain(c.crossSigned(), c.sub, c.root)
	c.template.PermittedDNSDomains, c.template.ExcludedIPRanges, c.template.PermittedDNSDomainsCritical = nil, nil, false
	c.template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	clients := c.chain(c.crossSigned(), c.sub, c.root)
	all := []*Chain{narrow, c.own, clients, short, plain}

	for _, tt := range []struct {
		name  string
		usage ExtKeyUsage
		at    time.Time
		want  []*Chain
	}{
		{"a.test", ServerAuth, now, []*Chain{narrow, c.own, short, plain}},
		{"b.test", ServerAuth, now, []*Chain{c.own, short, plain}},
		{"10.0.0.1", ServerAuth, now, []*Chain{c.own, short, plain}},
		{"a.test", ClientAuth, now, []*Chain{narrow, c.own, clients, short, plain}},
		{"b.test", ServerAuth, now.Add(2 * time.Hour), []*Chain{c.own, plain}},
		{"b.test", ServerAuth, now.AddDate(50, 0, 0), all},
		{"b.test", ServerAuth, now.AddDate(-50, 0, 0), all},
	} {
		leaf := newLeaf()
		leaf.ExtKeyUsages = []ExtKeyUsage{tt.usage}
		if addr, err := netip.ParseAddr(tt.name); err == nil {
			leaf.IPs = []netip.Addr{addr}
		} else {
			leaf.DNSNames = []string{tt.name}
		}
		cert := signLeaf(t, c.ca, leaf)
		got, err := OfferedChains(cert.Raw, all, tt.at)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s for %s at %v: %d chains, want %d (%v)", tt.name, tt.usage, tt.at, len(got), len(tt.want), err)
		}
		if len(got) == len(all) {
			continue
		}
		for _, chain := range all {
			roots, between := x509.NewCertPool(), x509.NewCertPool()
			roots.AddCert(chain.Root())
			for _, ca := range chain.certs {
				between.AddCert(ca)
			}
			_, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: tt.at, KeyUsages: cert.ExtKeyUsage})
			if tt.at.Equal(now) && (err == nil) != slices.Contains(got, chain) {
				t.Errorf("%s for %s: chain %s offered: %v, and the standard library says %v", tt.name, tt.usage, chain.Name(), slices.Contains(got, chain), err)
			}
		}
	}
	if _, err := OfferedChains([]byte("x"), all, now); err == nil {
		t.Error("what is no certificate is carried")
	}
	if got, err := OfferedChains([]byte("x"), all[:1], now); err != nil || len(got) != 1 {
		t.Errorf("one chain: %v, %v", got, err)
	}
}

func TestConstraintsLeave(t *testing.T) {
	ranges := func(list ...string) (nets []*net.IPNet) {
		for _, text := range list {
			nets = append(nets, ipNet(netip.MustParsePrefix(text)))
		}
		return nets
	}
	everything := ranges("0.0.0.0/0", "::/0")
	for _, tt := range []struct {
		name         string
		certs        []*x509.Certificate
		domains, ips bool
	}{
		{"nothing said", []*x509.Certificate{{}}, true, true},
		{"a subtree", []*x509.Certificate{{PermittedDNSDomains: []string{"a.test"}}}, true, true},
		{"below a name only", []*x509.Certificate{{PermittedDNSDomains: []string{".A.test"}}}, true, true},
		{"a name only", []*x509.Certificate{{PermittedDNSDomains: []string{"a.test"}}, {ExcludedDNSDomains: []string{".a.test"}}}, true, true},
		{"neither", []*x509.Certificate{{PermittedDNSDomains: []string{".a.test"}}, {ExcludedDNSDomains: []string{".a.test"}}}, false, true},
		{"within each other", []*x509.Certificate{{PermittedDNSDomains: []string{"test"}}, {PermittedDNSDomains: []string{"x.b.test", "org"}}}, true, true},
		{"beside each other", []*x509.Certificate{{PermittedDNSDomains: []string{"a.test"}}, {PermittedDNSDomains: []string{"b.test"}}}, false, true},
		{"no domains", []*x509.Certificate{{ExcludedDNSDomains: []string{""}}}, false, true},
		{"no addresses", []*x509.Certificate{{ExcludedIPRanges: everything}}, true, false},
		{"nothing left", []*x509.Certificate{{ExcludedIPRanges: everything, ExcludedDNSDomains: []string{""}}}, false, false},
		{"ranges within each other", []*x509.Certificate{{PermittedIPRanges: ranges("172.16.0.0/12")}, {PermittedIPRanges: ranges("172.20.0.0/16")}}, true, true},
		{"the end of a range", []*x509.Certificate{{PermittedIPRanges: ranges("172.16.0.0/12")}, {ExcludedIPRanges: ranges("172.16.0.0/13")}}, true, true},
		{"ranges beside each other", []*x509.Certificate{{PermittedIPRanges: ranges("172.16.0.0/16")}, {PermittedIPRanges: ranges("172.17.0.0/16")}}, true, false},
		{"a range of version 6", []*x509.Certificate{{PermittedIPRanges: ranges("2001:db8::/32")}}, true, true},
	} {
		if domains, ips := NameConstraintsOf(tt.certs...).leave(); domains != tt.domains || ips != tt.ips {
			t.Errorf("%s: left are domains %v, addresses %v", tt.name, domains, ips)
		}
	}
}
