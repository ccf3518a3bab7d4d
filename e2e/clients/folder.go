package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// folder keeps an account and its certificates.
type folder string

// account is what is kept of an account.
type account struct {
	URL string
	Key []byte // PKCS #8

	signer crypto.Signer
}

func (f folder) accountFile() string { return filepath.Join(string(f), "account.json") }

// account returns the account, or a new key for one that is not registered yet.
func (f folder) account() (*account, error) {
	text, err := os.ReadFile(f.accountFile())
	if errors.Is(err, os.ErrNotExist) {
		key, err := newKey()
		return &account{signer: key}, err
	}
	if err != nil {
		return nil, err
	}
	a := new(account)
	if err := json.Unmarshal(text, a); err != nil {
		return nil, fmt.Errorf("%s: %w", f.accountFile(), err)
	}
	key, err := x509.ParsePKCS8PrivateKey(a.Key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.accountFile(), err)
	}
	a.signer = key.(*ecdsa.PrivateKey)
	return a, nil
}

// keep saves the account with the key that it now has.
func (f folder) keep(url string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text, err := json.Marshal(&account{URL: url, Key: der})
	if err != nil {
		return err
	}
	return os.WriteFile(f.accountFile(), text, 0o600)
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func (f folder) file(name, suffix string) string {
	return filepath.Join(string(f), strings.Replace(name, "*", "_", 1)+suffix)
}

// keepCertificate saves a chain, leaf first, in PEM.
func (f folder) keepCertificate(name string, chain []byte) error {
	return os.WriteFile(f.file(name, ".crt"), chain, 0o600)
}

// certificate reads a chain back.
func (f folder) certificate(name string) (chain []byte, leaf *x509.Certificate, err error) {
	if chain, err = os.ReadFile(f.file(name, ".crt")); err != nil {
		return nil, nil, err
	}
	block, _ := pem.Decode(chain)
	if block == nil {
		return nil, nil, fmt.Errorf("%s: no certificate", name)
	}
	leaf, err = x509.ParseCertificate(block.Bytes)
	return chain, leaf, err
}
