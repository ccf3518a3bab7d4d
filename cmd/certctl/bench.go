package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/certctl/certctl/bench"
)

type benchCmd struct {
	Directory      string     `required:"" placeholder:"URL" help:"Directory of the profile to order from."`
	RootsFile      string     `required:"" type:"existingfile" placeholder:"FILE" env:"CERTCTL_ROOTS_FILE" help:"PEM file of the roots that the server and every certificate must lead to."`
	Mode           bench.Mode `default:"trust" enum:"trust,http-01" help:"How orders are authorized: trust or http-01."`
	HTTPListen     string     `name:"http-listen" placeholder:"ADDRESS" help:"Address to answer http-01 challenges on."`
	Clients        int        `default:"64" help:"Clients at once, each on a connection of its own."`
	Accounts       int        `default:"0" help:"Accounts that the clients share; 0: one for each client."`
	Orders         int        `default:"2000" help:"Orders to make."`
	Names          int        `default:"1" help:"Names in each order."`
	Domain         string     `default:"bench.test" help:"Domain that the names lie below."`
	NewConnections bool       `help:"Make a connection for each order instead of keeping one."`
	PID            int        `name:"pid" help:"Process of the server, on this machine: its CPU time and memory are told too."`
	JSON           bool       `name:"json" help:"Tell the results as JSON."`
}

func (c *benchCmd) Help() string {
	return "Orders certificates from many clients at once, verifies each one and tells how long that took. " +
		"It opens accounts and leaves certificates behind: use it on a server that is there to be tried."
}

// Run fails when an order does.
func (c *benchCmd) Run(ctx context.Context, stdout io.Writer) error {
	roots, err := os.ReadFile(c.RootsFile)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(roots) {
		return fmt.Errorf("%s: no certificate in PEM form", c.RootsFile)
	}
	report, err := bench.Run(ctx, bench.Config{
		Directory: c.Directory, Roots: pool, Mode: c.Mode, Listen: c.HTTPListen,
		Clients: c.Clients, Accounts: c.Accounts, Orders: c.Orders, Names: c.Names, Domain: c.Domain,
		NewConnections: c.NewConnections, PID: c.PID,
	})
	if report.Orders > 0 {
		if err := c.tell(stdout, &report); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	if failed := report.Failed(); failed > 0 {
		return fmt.Errorf("%d of %d orders failed; the first: %s", failed, report.Orders, report.FirstError)
	}
	return nil
}

func (c *benchCmd) tell(stdout io.Writer, report *bench.Report) error {
	if c.JSON {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(report)
	}
	_, err := io.WriteString(stdout, report.String())
	return err
}
