package main

import (
	"context"
	"io"
	"time"

	"github.com/certctl/certctl/internal/admin"
)

type auditCmd struct {
	Connection connection `embed:""`

	List auditListCmd `cmd:"" help:"List audit events, the newest first."`
}

type auditListCmd struct {
	Actor    string `placeholder:"ACTOR" help:"Only what this one did, such as api:root or acme:ID."`
	Action   string `placeholder:"ACTION" help:"Only this, such as certificate_issued."`
	Resource string `placeholder:"ID" help:"Only what was done to this: the id of an order, profile or account, the serial of a certificate."`
	pageFlags
}

func (c *auditListCmd) Help() string {
	return "Example:\n\n    certctl audit list --action certificate_revoked --limit 10"
}

// Run lists a page of audit events.
func (c *auditListCmd) Run(ctx context.Context, s *session) error {
	events, err := s.client.AuditEvents(ctx, admin.AuditQuery{Actor: c.Actor, Action: c.Action, ResourceID: c.Resource, Page: c.page()})
	if err != nil {
		return err
	}
	s.more(events.Next)
	return s.print(events, func(w io.Writer) error {
		t := newTable("TIME", "ACTOR", "ACTION", "RESOURCE", "DETAILS")
		for _, e := range events.Items {
			details := string(e.Details)
			if details == "{}" {
				details = ""
			}
			t.row(e.CreatedAt.UTC().Format(time.RFC3339), e.Actor, string(e.Action), e.ResourceType+" "+e.ResourceID, clip(details, 80))
		}
		return t.write(w)
	})
}
