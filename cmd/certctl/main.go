// Certctl is a certificate authority that speaks ACME.
//
// Usage:
//
//	certctl COMMAND [FLAGS]
//
// "certctl --help" lists the commands. The exit code is 0 on success, 2 when the command line or a setting is wrong,
// and 1 when anything else failed; what went wrong is told on standard error in lines that begin with "certctl:".
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/certctl/certctl/internal/app"
)

const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

type cli struct {
	Server  serverCmd  `cmd:"" help:"Run the certificate authority."`
	Profile profileCmd `cmd:"" help:"Say who may have which names."`
	Account accountCmd `cmd:"" help:"See and deactivate ACME accounts."`
	Order   orderCmd   `cmd:"" help:"See orders and why they failed."`
	Cert    certCmd    `cmd:"" help:"See and revoke certificates."`
	Audit   auditCmd   `cmd:"" help:"See what was done, and by whom."`
	EAB     eabCmd     `cmd:"" name:"eab" help:"Hand out keys that bind accounts (external account binding)."`
	APIKey  apiKeyCmd  `cmd:"" name:"api-key" help:"Hand out keys to the API."`
	Issuer  issuerCmd  `cmd:"" help:"See who signs, and have it signed by another CA."`
	Bench   benchCmd   `cmd:"" help:"Measure how fast a server issues certificates."`
	Version versionCmd `cmd:"" help:"Tell which build this is."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal kills
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the command that args name and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	helped := false
	parser := kong.Must(&cli{}, append(app.KongOptions(),
		kong.Name("certctl"),
		kong.Description("A certificate authority that speaks ACME."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 120}),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { helped = true }), // called behind --help alone
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.BindTo(stdout, (*io.Writer)(nil)),
	)...)

	command, err := parser.Parse(args)
	if helped {
		return exitOK
	}
	if err == nil {
		err = command.Run()
	}
	return report(stderr, err)
}

// report tells err on stderr and returns the exit code that it stands for.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	text := err.Error()
	var settings app.SettingsError
	if errors.As(err, &settings) {
		text = settings.Error() // without what kong puts in front
	}
	for line := range strings.SplitSeq(text, "\n") {
		fmt.Fprintf(stderr, "certctl: %s\n", clean(line)) // a server may have told it
	}
	var usage *kong.ParseError
	if !errors.As(err, &usage) {
		return exitFailed
	}
	fmt.Fprintf(stderr, "Run \"%s --help\" for the usage.\n", commandPath(usage.Context))
	return exitUsage
}

// commandPath returns the command that the parser had come to when it failed.
func commandPath(ctx *kong.Context) string {
	path := "certctl"
	for _, p := range ctx.Path {
		if p.Command != nil {
			path += " " + p.Command.Name
		}
	}
	return path
}
