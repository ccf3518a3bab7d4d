package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/admin"
)

type orderCmd struct {
	Connection connection `embed:""`

	List orderListCmd `cmd:"" help:"List orders, the newest first."`
	Show orderShowCmd `cmd:"" help:"Show an order, and why it failed."`
}

type orderListCmd struct {
	Account string `placeholder:"ID" help:"Only those of this account."`
	Profile string `placeholder:"ID" help:"Only those under this profile."`
	Name    string `placeholder:"NAME" help:"Only those for this name or address."`
	pageFlags
}

func (c *orderListCmd) Help() string {
	return "Example:\n\n    certctl order list --name www.example.com"
}

// Run lists a page of orders.
func (c *orderListCmd) Run(ctx context.Context, s *session) error {
	orders, err := s.client.Orders(ctx, admin.OrderQuery{AccountID: c.Account, ProfileID: c.Profile, Name: c.Name, Page: c.page()})
	if err != nil {
		return err
	}
	s.more(orders.Next)
	return s.print(orders, func(w io.Writer) error {
		t := newTable("ID", "STATUS", "CREATED", "PROFILE", "NAMES", "WHY")
		for _, o := range orders.Items {
			t.row(o.ID, string(o.Status), relative(o.CreatedAt, s.now), o.ProfileID, few(values(o.Identifiers)), clip(o.Reason, 80))
		}
		return t.write(w)
	})
}

func values(ids []acme.Identifier) []string {
	all := make([]string, len(ids))
	for i, id := range ids {
		all[i] = id.Value
	}
	return all
}

type orderShowCmd struct {
	ID string `arg:"" help:"Id of the order."`
}

// Run shows the order.
func (c *orderShowCmd) Run(ctx context.Context, s *session) error {
	o, err := s.client.Order(ctx, c.ID)
	if err != nil {
		return err
	}
	return s.print(o, func(w io.Writer) error {
		if err := s.orderText(o).write(w); err != nil {
			return err
		}
		return s.writeAuthorizations(w, o.Authorizations)
	})
}

func (s *session) orderText(o *admin.Order) *table {
	t := new(table)
	t.field("Order", o.ID)
	t.field("Status", string(o.Status))
	t.field("Why", o.Reason)
	t.field("Names", strings.Join(values(o.Identifiers), ", "))
	t.field("Account", o.AccountID)
	t.field("Profile", o.ProfileID)
	t.field("Certificate", o.Serial)
	t.field("Created", moment(&o.CreatedAt, s.now))
	t.field("Finalized", moment(o.FinalizedAt, s.now))
	t.field("Issued", moment(o.IssuedAt, s.now))
	if o.IssuedAt == nil {
		t.field("Expires", moment(&o.ExpiresAt, s.now))
	}
	t.field("Wanted from", moment(o.NotBefore, s.now))
	t.field("Wanted until", moment(o.NotAfter, s.now))
	return t
}

// writeAuthorizations writes how each name was authorized and, behind the table,
// what the validations did.
func (s *session) writeAuthorizations(w io.Writer, authzs []admin.Authorization) error {
	t := newTable("NAME", "STATUS", "BY", "WHEN", "PROBLEM")
	for _, z := range authzs {
		by, at, problem := string(z.Attempted), "", ""
		if z.Offered == nil {
			by = "trust in the account"
		}
		if z.ValidatedAt != nil {
			at = relative(*z.ValidatedAt, s.now)
		} else if z.AttemptedAt != nil {
			at = relative(*z.AttemptedAt, s.now)
		}
		if z.Problem != nil {
			problem = z.Problem.Error()
		}
		t.row(authorizedName(z), string(z.Status), by, at, problem)
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	if err := t.write(w); err != nil {
		return err
	}
	for _, z := range authzs {
		if err := writeTrace(w, z); err != nil {
			return err
		}
	}
	return nil
}

func authorizedName(z admin.Authorization) string {
	if z.Wildcard {
		return "*." + z.Identifier.Value
	}
	return z.Identifier.Value
}

// writeTrace writes the steps of the last validation. They come from package
// validate by way of the database, which may hold those of another version.
func writeTrace(w io.Writer, z admin.Authorization) error {
	var steps []struct {
		At      time.Time `json:"at"`
		Kind    string    `json:"kind"`
		Target  string    `json:"target"`
		Address string    `json:"address"`
		Detail  string    `json:"detail"`
	}
	if len(z.Trace) == 0 || json.Unmarshal(z.Trace, &steps) != nil || len(steps) == 0 {
		return nil
	}
	if _, err := fmt.Fprintf(w, "\nValidation of %s by %s\n", clean(authorizedName(z)), clean(string(z.Attempted))); err != nil {
		return err
	}
	t := new(table)
	for _, step := range steps {
		t.row("  "+step.At.UTC().Format("15:04:05.000"), step.Kind, step.Target, step.Address, step.Detail)
	}
	return t.write(w)
}
