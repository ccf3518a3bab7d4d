package main

import (
	"context"
	"io"
	"strings"

	"github.com/certctl/certctl/internal/admin"
)

type accountCmd struct {
	Connection connection `embed:""`

	List       accountListCmd       `cmd:"" help:"List accounts, the newest first."`
	Show       accountShowCmd       `cmd:"" help:"Show an account."`
	Deactivate accountDeactivateCmd `cmd:"" help:"Deactivate an account for good."`
}

type accountListCmd struct{ pageFlags }

// Run lists a page of accounts.
func (c *accountListCmd) Run(ctx context.Context, s *session) error {
	accounts, err := s.client.Accounts(ctx, c.page())
	if err != nil {
		return err
	}
	s.more(accounts.Next)
	return s.print(accounts, func(w io.Writer) error {
		t := newTable("ID", "STATUS", "CREATED", "EAB", "CONTACTS")
		for _, a := range accounts.Items {
			t.row(a.ID, string(a.Status), relative(a.CreatedAt, s.now), yesNo(a.EABBound), few(a.Contacts))
		}
		return t.write(w)
	})
}

type accountShowCmd struct {
	ID string `arg:"" help:"Id of the account."`
}

// Run shows the account.
func (c *accountShowCmd) Run(ctx context.Context, s *session) error {
	a, err := s.client.Account(ctx, c.ID)
	if err != nil {
		return err
	}
	return s.print(a, func(w io.Writer) error { return s.accountText(a).write(w) })
}

func (s *session) accountText(a *admin.Account) *table {
	t := new(table)
	t.field("Account", a.ID)
	t.field("Status", string(a.Status))
	t.row("Contacts", strings.Join(a.Contacts, ", "))
	t.field("Key thumbprint", a.Thumbprint)
	t.field("EAB keys", strings.Join(a.EABKeyIDs, ", "))
	t.field("Created", moment(&a.CreatedAt, s.now))
	t.field("Terms agreed", moment(a.TermsAgreedAt, s.now))
	t.field("Deactivated", moment(a.DeactivatedAt, s.now))
	return t
}

type accountDeactivateCmd struct {
	ID string `arg:"" help:"Id of the account."`
}

func (c *accountDeactivateCmd) Help() string {
	return "Its open orders end. Its certificates stay valid until they expire or are revoked."
}

// Run deactivates the account.
func (c *accountDeactivateCmd) Run(ctx context.Context, s *session) error {
	a, err := s.client.DeactivateAccount(ctx, c.ID)
	if err != nil {
		return err
	}
	return s.print(a, func(io.Writer) error { return s.done("deactivated account %s", a.ID) })
}
