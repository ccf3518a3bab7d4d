package main

import (
	"context"
	"io"

	"github.com/certctl/certctl/internal/admin"
	"github.com/certctl/certctl/internal/store"
)

type apiKeyCmd struct {
	Connection connection `embed:""`

	Create  apiKeyCreateCmd  `cmd:"" help:"Create an API key and show it once."`
	List    apiKeyListCmd    `cmd:"" help:"List API keys."`
	Disable apiKeyDisableCmd `cmd:"" help:"Disable an API key for good."`
}

type apiKeyCreateCmd struct {
	Name string     `arg:"" help:"Name of the holder, as the audit log will tell it."`
	Role store.Role `default:"auditor" enum:"admin,auditor" placeholder:"ROLE" help:"admin: may do everything. auditor: may read everything (default ${default})."`
}

func (c *apiKeyCreateCmd) Help() string {
	return "The key alone goes to standard output. Example:\n\n    certctl api-key create ci --role admin > ci.key"
}

// Run creates the key and prints it, and nothing else, to standard output.
func (c *apiKeyCreateCmd) Run(ctx context.Context, s *session) error {
	k, err := s.client.CreateAPIKey(ctx, admin.NewAPIKey{Name: c.Name, Role: c.Role})
	if err != nil {
		return err
	}
	return s.print(k, func(io.Writer) error {
		s.note("created API key %s with the role %s; it is shown this once", k.Name, k.Role)
		return s.done("%s", k.Key)
	})
}

type apiKeyListCmd struct{}

// Run lists the keys.
func (c *apiKeyListCmd) Run(ctx context.Context, s *session) error {
	keys, err := s.client.APIKeys(ctx)
	if err != nil {
		return err
	}
	return s.print(keys, func(w io.Writer) error {
		t := newTable("NAME", "ROLE", "STATE", "CREATED")
		for _, k := range keys.Items {
			state := "in use"
			if k.DisabledAt != nil {
				state = "disabled " + relative(*k.DisabledAt, s.now)
			}
			t.row(k.Name, string(k.Role), state, relative(k.CreatedAt, s.now))
		}
		return t.write(w)
	})
}

type apiKeyDisableCmd struct {
	Name string `arg:"" help:"Name of the key."`
}

// Run disables the key.
func (c *apiKeyDisableCmd) Run(ctx context.Context, s *session) error {
	if err := s.client.DisableAPIKey(ctx, c.Name); err != nil {
		return err
	}
	return s.done("disabled API key %s", c.Name)
}
