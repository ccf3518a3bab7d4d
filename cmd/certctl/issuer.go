package main

import (
	"context"
	"io"
)

type issuerCmd struct {
	Connection connection `embed:""`

	List issuerListCmd `cmd:"" help:"List the issuers."`
}

type issuerListCmd struct{}

// Run lists the issuers.
func (c *issuerListCmd) Run(ctx context.Context, s *session) error {
	issuers, err := s.client.Issuers(ctx)
	if err != nil {
		return err
	}
	return s.print(issuers, func(w io.Writer) error {
		t := newTable("ID", "KIND", "NAME", "EXPIRES", "PERMITTED DOMAINS", "SHA-256 OF THE ROOT")
		for _, i := range issuers.Items {
			permitted := few(i.PermittedDomains)
			if permitted == "" {
				permitted = "any"
			}
			t.row(i.ID, i.Kind, i.Name, relative(i.NotAfter, s.now), permitted, i.RootSHA256)
		}
		return t.write(w)
	})
}
