package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/certctl/certctl/internal/admin"
)

type issuerCmd struct {
	Connection connection `embed:""`

	List         issuerListCmd         `cmd:"" help:"List the issuers."`
	Show         issuerShowCmd         `cmd:"" help:"Show an issuer and its chains."`
	CSR          issuerCSRCmd          `cmd:"" name:"csr" help:"Print a request for another CA to sign the issuer's key."`
	AddChain     issuerAddChainCmd     `cmd:"" help:"Add a chain to the root of another CA."`
	RemoveChain  issuerRemoveChainCmd  `cmd:"" help:"Remove a chain that was added."`
	DefaultChain issuerDefaultChainCmd `cmd:"" help:"Choose the chain of clients that choose none."`
}

func (c *issuerCmd) Help() string {
	return "A CA that your machines trust already can sign the issuer's key too. Certificates then verify under its root as well, " +
		"and clients choose the chain by the root's name, as with lego --preferred-chain or cert-manager's preferredChain. " +
		"Sign with the extensions of the request copied:\n\n" +
		"    certctl issuer csr iss-local > iss.csr\n\n" +
		"    openssl x509 -req -in iss.csr -copy_extensions copyall -days 1825 -CA corp-root.pem -CAkey corp-root.key -out iss.pem\n\n" +
		"    cat iss.pem corp-root.pem > chain.pem; certctl issuer add-chain iss-local chain.pem"
}

type issuerListCmd struct{}

// Run lists the issuers.
func (c *issuerListCmd) Run(ctx context.Context, s *session) error {
	issuers, err := s.client.Issuers(ctx)
	if err != nil {
		return err
	}
	return s.print(issuers, func(w io.Writer) error {
		t := newTable("ID", "KIND", "NAME", "EXPIRES", "PERMITTED DOMAINS", "SHA-256 OF THE ROOT", "CHAINS")
		for _, i := range issuers.Items {
			names := make([]string, len(i.Chains))
			for n, chain := range i.Chains {
				names[n] = chain.Name
			}
			t.row(i.ID, i.Kind, i.Name, relative(i.NotAfter, s.now), permitted(i.PermittedDomains), i.RootSHA256, few(names))
		}
		return t.write(w)
	})
}

func permitted(domains []string) string {
	if len(domains) == 0 {
		return "any"
	}
	return few(domains)
}

type issuerShowCmd struct {
	ID string `arg:"" help:"Id of the issuer."`
}

// Run shows the issuer.
func (c *issuerShowCmd) Run(ctx context.Context, s *session) error {
	i, err := s.client.Issuer(ctx, c.ID)
	if err != nil {
		return err
	}
	return s.print(i, func(w io.Writer) error {
		t := new(table)
		t.field("Issuer", i.ID)
		t.field("Kind", i.Kind)
		t.field("Name", i.Name)
		t.field("Created", moment(&i.CreatedAt, s.now))
		t.field("Valid until", moment(&i.NotAfter, s.now))
		t.field("Permitted domains", permitted(i.PermittedDomains))
		t.field("SHA-256 of the root", i.RootSHA256)
		if err := t.write(w); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		return s.chainTable(i).write(w)
	})
}

func (s *session) chainTable(i *admin.Issuer) *table {
	t := newTable("CHAIN", "DEFAULT", "PREFERRED AS", "EXPIRES", "PERMITTED DOMAINS", "SHA-256 OF THE ROOT")
	for _, chain := range i.Chains {
		t.row(chain.ID, yesNo(chain.Default), chain.Name, relative(chain.NotAfter, s.now), permitted(chain.PermittedDomains), chain.RootSHA256)
		s.chainWarnings(chain)
	}
	return t
}

func (s *session) chainWarnings(chain admin.Chain) {
	for _, warning := range chain.Warnings {
		s.note("warning: chain %s: %s", chain.ID, warning)
	}
}

type issuerCSRCmd struct {
	ID string `arg:"" help:"Id of the issuer."`
}

func (c *issuerCSRCmd) Help() string {
	return "The other CA must keep the request's subject as it is and copy its extensions."
}

// Run prints the request.
func (c *issuerCSRCmd) Run(ctx context.Context, s *session) error {
	csr, err := s.client.IssuerCSR(ctx, c.ID)
	if err != nil {
		return err
	}
	return s.print(csr, func(w io.Writer) error {
		_, err := io.WriteString(w, csr.PEM)
		return err
	})
}

type issuerAddChainCmd struct {
	ID      string `arg:"" help:"Id of the issuer."`
	File    string `arg:"" help:"PEM file: the issuer's certificate as the other CA has signed it, then those above it, best with the root."`
	Default bool   `help:"Make it the chain of clients that choose none."`
}

// Run adds the chain.
func (c *issuerAddChainCmd) Run(ctx context.Context, s *session) error {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	chain, err := s.client.AddChain(ctx, c.ID, string(text), c.Default)
	if err != nil {
		return err
	}
	return s.print(chain, func(io.Writer) error {
		s.chainWarnings(*chain)
		return s.done("added chain %s to issuer %s; clients choose it as %q", chain.ID, c.ID, chain.Name)
	})
}

type issuerRemoveChainCmd struct {
	ID    string `arg:"" help:"Id of the issuer."`
	Chain string `arg:"" help:"Id of the chain."`
}

func (c *issuerRemoveChainCmd) Help() string {
	return "When it was the default chain, the issuer's own is again."
}

// Run removes the chain.
func (c *issuerRemoveChainCmd) Run(ctx context.Context, s *session) error {
	if err := s.client.RemoveChain(ctx, c.ID, c.Chain); err != nil {
		return err
	}
	return s.done("removed chain %s of issuer %s", c.Chain, c.ID)
}

type issuerDefaultChainCmd struct {
	ID    string `arg:"" help:"Id of the issuer."`
	Chain string `arg:"" help:"Id of the chain; \"own\" for the issuer's own."`
}

// Run sets the default chain.
func (c *issuerDefaultChainCmd) Run(ctx context.Context, s *session) error {
	i, err := s.client.SetDefaultChain(ctx, c.ID, c.Chain)
	if err != nil {
		return err
	}
	return s.print(i, func(io.Writer) error { return s.done("issuer %s has the default chain %s", c.ID, c.Chain) })
}
