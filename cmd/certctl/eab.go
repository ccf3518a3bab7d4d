package main

import (
	"context"
	"io"
	"strings"

	"github.com/certctl/certctl/internal/admin"
	"github.com/certctl/certctl/internal/store"
)

type eabCmd struct {
	Connection connection `embed:""`

	Create  eabCreateCmd  `cmd:"" help:"Create an external account key and show its secret once."`
	List    eabListCmd    `cmd:"" help:"List external account keys."`
	Disable eabDisableCmd `cmd:"" help:"Disable an external account key for good."`
	Bind    eabBindCmd    `cmd:"" help:"Bind an account to an external account key."`
}

func (c *eabCmd) Help() string {
	return "An external account key lets the accounts bound to it use profiles and names. " +
		"A client binds its account by sending the key's id and HMAC key when it registers."
}

type eabCreateCmd struct {
	Profile     []string `required:"" sep:"none" placeholder:"ID" help:"Profile that bound accounts may use. Repeatable."`
	AllowDomain []string `sep:"none" placeholder:"RULE" help:"Names that bound accounts may have, as in profiles. None: all that the profile allows. Repeatable."`
	Reusable    bool     `help:"Let the key bind any number of accounts instead of one."`
	Expires     expiry   `placeholder:"WHEN" help:"When the key stops binding accounts: 24h, 90d or a time such as 2030-01-31T12:00:00Z."`
}

func (c *eabCreateCmd) Help() string {
	return "Example:\n\n    certctl eab create --profile web --allow-domain .shop.example.com --expires 7d"
}

// Run creates the key and shows it.
func (c *eabCreateCmd) Run(ctx context.Context, s *session) error {
	in := admin.NewEABKey{ProfileIDs: *list(c.Profile), Reusable: c.Reusable, ExpiresAt: c.Expires.time(s.now)}
	if domains := list(c.AllowDomain); domains != nil {
		in.AllowedDomains = *domains
	}
	k, err := s.client.CreateEABKey(ctx, in)
	if err != nil {
		return err
	}
	return s.print(k, func(w io.Writer) error {
		s.note("the HMAC key is shown this once")
		t := new(table)
		t.field("Key id", k.KeyID)
		t.field("HMAC key", k.HMACKey)
		t.field("Profiles", strings.Join(k.ProfileIDs, ", "))
		t.field("Allowed domains", strings.Join(k.AllowedDomains, ", "))
		t.field("Binds", binds(k.EABKey))
		t.field("Expires", moment(k.ExpiresAt, s.now))
		return t.write(w)
	})
}

func binds(k store.EABKey) string {
	if k.Reusable {
		return "any number of accounts"
	}
	return "one account"
}

type eabListCmd struct{}

// Run lists the keys.
func (c *eabListCmd) Run(ctx context.Context, s *session) error {
	keys, err := s.client.EABKeys(ctx)
	if err != nil {
		return err
	}
	return s.print(keys, func(w io.Writer) error {
		t := newTable("ID", "STATE", "CREATED", "PROFILES", "DOMAINS", "BINDS", "ACCOUNTS")
		for _, k := range keys.Items {
			domains := few(k.AllowedDomains)
			if domains == "" {
				domains = "as the profiles"
			}
			t.row(k.KeyID, s.eabState(k), relative(k.CreatedAt, s.now), few(k.ProfileIDs), domains, binds(k), few(k.Accounts))
		}
		return t.write(w)
	})
}

func (s *session) eabState(k store.EABKey) string {
	switch {
	case k.DisabledAt != nil:
		return "disabled " + relative(*k.DisabledAt, s.now)
	case k.ExpiresAt != nil && k.ExpiresAt.Before(s.now):
		return "expired " + relative(*k.ExpiresAt, s.now)
	case k.ExpiresAt != nil:
		return "expires " + relative(*k.ExpiresAt, s.now)
	}
	return "in use"
}

type eabDisableCmd struct {
	KeyID string `arg:"" name:"kid" help:"Id of the key."`
}

func (c *eabDisableCmd) Help() string {
	return "It binds no account any more, and what bound accounts could do because of it ends."
}

// Run disables the key.
func (c *eabDisableCmd) Run(ctx context.Context, s *session) error {
	if err := s.client.DisableEABKey(ctx, c.KeyID); err != nil {
		return err
	}
	return s.done("disabled external account key %s", c.KeyID)
}

type eabBindCmd struct {
	KeyID   string `arg:"" name:"kid" help:"Id of the key."`
	Account string `arg:"" help:"Id of the account."`
}

// Run binds the account.
func (c *eabBindCmd) Run(ctx context.Context, s *session) error {
	a, err := s.client.BindEABKey(ctx, c.KeyID, c.Account)
	if err != nil {
		return err
	}
	return s.print(a, func(io.Writer) error { return s.done("bound account %s to external account key %s", a.ID, c.KeyID) })
}
