package issuer

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/pki"
)

// TestCSR: another CA that copies what the request asks for makes a certificate of the same CA.
func TestCSR(t *testing.T) {
	ca := newCA(t, []string{"corp.test"})
	l := newLocal(t, ca)
	der, err := l.CSR()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := csr.CheckSignature(); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(csr.RawSubject, ca.Issuing.RawSubject) || !ca.IssuingKey.PublicKey.Equal(csr.PublicKey) {
		t.Errorf("the request is for %s", csr.Subject)
	}
	var ids []string
	for _, extension := range csr.Extensions {
		ids = append(ids, extension.Id.String())
		if !slices.ContainsFunc(ca.Issuing.Extensions, func(e pkix.Extension) bool {
			return e.Id.Equal(extension.Id) && e.Critical == extension.Critical && bytes.Equal(e.Value, extension.Value)
		}) {
			t.Errorf("the extension %s is not that of the issuing certificate", extension.Id)
		}
	}
	slices.Sort(ids)
	if !slices.Equal(ids, requested) {
		t.Errorf("the request asks for %v, want %v", ids, requested)
	}
	if again, err := l.CSR(); err != nil || !bytes.Equal(again, der) {
		t.Errorf("asked again: another request, %v", err)
	}

	// openssl begins certificates now.
	other, err := pki.CreateCA(pki.CASpec{Name: "Corp", Now: time.Now()}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := pki.MarshalKey(other.RootKey)
	if err != nil {
		t.Fatal(err)
	}
	output, err := exec.Command("openssl", "x509", "-req", "-in", write("csr.pem", "CERTIFICATE REQUEST", der), "-copy_extensions", "copyall", "-days", "100",
		"-CA", write("root.pem", "CERTIFICATE", other.Root.Raw), "-CAkey", write("root.key", "PRIVATE KEY", key)).Output()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(output)
	cross, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := pki.NewChain([]*x509.Certificate{cross, other.Root})
	if err != nil {
		t.Fatal(err)
	}
	own, err := pki.NewChain([]*x509.Certificate{ca.Issuing, ca.Root})
	if err != nil {
		t.Fatal(err)
	}
	if err := chain.Check(own, cross.NotBefore); err != nil {
		t.Error(err)
	}
}
