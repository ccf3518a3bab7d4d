// Acmeclients runs the ACME clients that come as Go libraries, for the end-to-end tests: lego v5, acmez, which is
// Caddy's, and golang.org/x/crypto/acme. Each run is one step of a client whose account, keys and certificates are
// kept in a folder. The result goes to standard output as JSON; every request that the client made, and what it was
// answered, to standard error.
//
//	acmeclients -dir DIR -server DIRECTORY -roots FILE [flags] lego|acmez|xcrypto COMMAND [ARGUMENT]...
//	acmeclients -dns ADDRESS txt add|remove NAME VALUE
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"time"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "acmeclients:", err)
		os.Exit(1)
	}
}

// client is what every library is given.
type client struct {
	folder

	directory string
	roots     string
	http      string // address that answers http-01
	tls       string // address that answers tls-alpn-01
	dns       string // address of the DNS server that is told what dns-01 needs

	profile  string
	replaces string // name of the certificate that the order replaces
	kid      string
	hmac     string // in base64url
	giveUp   bool   // deactivate authorizations when they were used
}

// commands are what a library can do, by name.
type commands map[string]func(ctx context.Context, c *client, args []string) (any, error)

var libraries = map[string]commands{
	"lego":    legoCommands,
	"acmez":   acmezCommands,
	"xcrypto": xcryptoCommands,
	"txt":     txtCommands,
}

func run(ctx context.Context, args []string) error {
	c := new(client)
	flags := flag.NewFlagSet("acmeclients", flag.ContinueOnError)
	flags.StringVar((*string)(&c.folder), "dir", ".", "`folder` of the account and its certificates")
	flags.StringVar(&c.directory, "server", "", "`URL` of the directory")
	flags.StringVar(&c.roots, "roots", "", "`file` of the roots to trust")
	flags.StringVar(&c.http, "http", "", "answer http-01 at this `address`")
	flags.StringVar(&c.tls, "tls", "", "answer tls-alpn-01 at this `address`")
	flags.StringVar(&c.dns, "dns", "", "solve dns-01 by dynamic updates to this `address`")
	flags.StringVar(&c.profile, "profile", "", "`name` of the profile to order under")
	flags.StringVar(&c.replaces, "replaces", "", "`name` of the certificate that is replaced")
	flags.StringVar(&c.kid, "kid", "", "`id` of an external account key")
	flags.StringVar(&c.hmac, "hmac", "", "the external account `key`")
	flags.BoolVar(&c.giveUp, "give-up-authorizations", false, "deactivate authorizations after they were used")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 1 && flags.Arg(0) == "versions" {
		return json.NewEncoder(os.Stdout).Encode(versions())
	}
	if flags.NArg() < 2 {
		return errors.New("name a library and a command")
	}
	command := libraries[flags.Arg(0)][flags.Arg(1)]
	if command == nil {
		return fmt.Errorf("%s cannot %s", flags.Arg(0), flags.Arg(1))
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	result, err := command(ctx, c, flags.Args()[2:])
	if err != nil {
		return fmt.Errorf("%s %s: %w", flags.Arg(0), flags.Arg(1), err)
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// versions returns the versions of the modules that are compiled in.
func versions() map[string]string {
	all := make(map[string]string)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			all[module.Path] = module.Version
		}
	}
	return all
}

// only returns the one argument that a command takes.
func only(args []string) (string, error) {
	if len(args) != 1 {
		return "", fmt.Errorf("%d arguments, want one", len(args))
	}
	return args[0], nil
}
