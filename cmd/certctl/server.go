package main

import (
	"context"
	"io"
	"os"

	"github.com/certctl/certctl/internal/app"
)

type serverCmd struct {
	Config app.Config `embed:""`
}

func (c *serverCmd) Help() string {
	return "Every setting is a flag, an environment variable and a key of the --config file. " +
		"Flags win over the environment, the environment over the file, the file over the default. " +
		"Lists are written with commas."
}

// Run serves until ctx is done.
func (c *serverCmd) Run(ctx context.Context, stdout io.Writer) error {
	return app.Run(ctx, c.Config, stdout, os.Stderr)
}
