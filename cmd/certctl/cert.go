package main

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/certctl/certctl/internal/admin"
)

type certCmd struct {
	Connection connection `embed:""`

	List   certListCmd   `cmd:"" help:"List certificates, the newest first."`
	Show   certShowCmd   `cmd:"" help:"Show a certificate."`
	Revoke certRevokeCmd `cmd:"" help:"Revoke a certificate for good."`
	Renew  certRenewCmd  `cmd:"" help:"Pull the renewal of certificates forward."`
}

type certListCmd struct {
	Account string `placeholder:"ID" help:"Only those of this account."`
	Profile string `placeholder:"ID" help:"Only those under this profile."`
	Name    string `placeholder:"NAME" help:"Only those for this name or address."`
	pageFlags
}

func (c *certListCmd) Help() string {
	return "Example:\n\n    certctl cert list --name www.example.com"
}

// Run lists a page of certificates.
func (c *certListCmd) Run(ctx context.Context, s *session) error {
	certs, err := s.client.Certificates(ctx, admin.CertificateQuery{AccountID: c.Account, ProfileID: c.Profile, Name: c.Name, Page: c.page()})
	if err != nil {
		return err
	}
	s.more(certs.Next)
	return s.print(certs, func(w io.Writer) error {
		t := newTable("SERIAL", "STATUS", "ISSUED", "EXPIRES", "PROFILE", "NAMES")
		for _, cert := range certs.Items {
			profile := cert.ProfileID
			if profile == "" {
				profile = "(server)"
			}
			t.row(cert.Serial, string(cert.Status), relative(cert.IssuedAt, s.now), relative(cert.NotAfter, s.now), profile, few(cert.Names))
		}
		return t.write(w)
	})
}

type certShowCmd struct {
	Serial serial `arg:"" help:"Serial number, with or without colons."`
	PEM    bool   `name:"pem" help:"Print the certificate and its issuers as PEM instead."`
}

func (c *certShowCmd) Help() string {
	return "Example:\n\n    certctl cert show 52c5b3b7a1c64be1a5b0c1bb9a9d2f10 --pem | openssl x509 -noout -text"
}

// Run shows the certificate.
func (c *certShowCmd) Run(ctx context.Context, s *session) error {
	cert, err := s.client.Certificate(ctx, string(c.Serial))
	if err != nil {
		return err
	}
	if c.PEM {
		_, err := io.WriteString(s.out, cert.PEM)
		return err
	}
	return s.print(cert, func(w io.Writer) error { return s.certText(cert).write(w) })
}

func (s *session) certText(cert *admin.Certificate) *table {
	t := new(table)
	t.field("Serial", cert.Serial)
	t.field("Status", string(cert.Status))
	t.field("Names", strings.Join(cert.Names, ", "))
	t.field("Valid from", moment(&cert.NotBefore, s.now))
	t.field("Valid until", moment(&cert.NotAfter, s.now))
	t.field("Issued", moment(&cert.IssuedAt, s.now))
	t.field("Revoked", moment(cert.RevokedAt, s.now))
	if cert.RevocationReason != nil {
		t.field("Reason", reason(*cert.RevocationReason).String())
	}
	t.field("Issuer", cert.IssuerID)
	t.field("Profile", cert.ProfileID)
	t.field("Account", cert.AccountID)
	t.field("Order", cert.OrderID)
	if cert.OrderID == "" {
		t.field("Made for", "the server itself")
	}
	t.field("Key", cert.KeyType)
	t.field("SHA-256", cert.SHA256)
	return t
}

type certRevokeCmd struct {
	Serial serial `arg:"" help:"Serial number, with or without colons."`
	Reason reason `default:"unspecified" placeholder:"REASON" help:"unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation or privilegeWithdrawn (default ${default})."`
}

func (c *certRevokeCmd) Help() string {
	return "Example:\n\n    certctl cert revoke 52:c5:b3:b7:a1:c6:4b:e1:a5:b0:c1:bb:9a:9d:2f:10 --reason keyCompromise"
}

// Run revokes the certificate.
func (c *certRevokeCmd) Run(ctx context.Context, s *session) error {
	cert, err := s.client.RevokeCertificate(ctx, string(c.Serial), int(c.Reason))
	if err != nil {
		return err
	}
	return s.print(cert, func(io.Writer) error {
		return s.done("revoked certificate %s (%s) for %s", cert.Serial, c.Reason, few(cert.Names))
	})
}

type certRenewCmd struct {
	Serials        []serial  `arg:"" optional:"" name:"serial" help:"Serial numbers."`
	Account        string    `placeholder:"ID" help:"Those of this account."`
	Profile        string    `placeholder:"ID" help:"Those under this profile."`
	IssuedBefore   timestamp `placeholder:"TIME" help:"Those issued before this time, such as 2030-01-31T12:00:00Z."`
	All            bool      `help:"Every certificate in use."`
	Within         life      `default:"6h" placeholder:"6h" help:"How soon: clients choose a time from now until then (default ${default})."`
	ExplanationURL string    `name:"explanation-url" placeholder:"URL" help:"Page that tells people why."`
}

func (c *certRenewCmd) Help() string {
	return "Clients that ask for renewal information (RFC 9773) are told the new window when they next ask. Examples:\n\n" +
		"    certctl cert renew --profile web --within 12h --explanation-url https://wiki.example.com/rollover\n\n" +
		"    certctl cert renew 52c5b3b7a1c64be1a5b0c1bb9a9d2f10 --within 1h"
}

// Run sets the renewal window.
func (c *certRenewCmd) Run(ctx context.Context, s *session) error {
	in := admin.NewRenewal{
		AccountID: c.Account, ProfileID: c.Profile, All: c.All, ExplanationURL: c.ExplanationURL,
		Until: s.now.Add(time.Duration(c.Within) * time.Second),
	}
	if at := time.Time(c.IssuedBefore); !at.IsZero() {
		in.IssuedBefore = &at
	}
	for _, serial := range c.Serials {
		in.Serials = append(in.Serials, string(serial))
	}
	set, err := s.client.CreateRenewal(ctx, in)
	if err != nil {
		return err
	}
	return s.print(set, func(io.Writer) error {
		return s.done("%d certificates are to be renewed until %s", set.Certificates, in.Until.UTC().Format(time.RFC3339))
	})
}
