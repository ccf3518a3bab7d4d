package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/alecthomas/kong"

	"github.com/certctl/certctl/internal/admin"
)

// defaultRoots is where a server that runs in the same folder keeps its root.
const defaultRoots = "./data/roots.pem"

// connection holds the flags of the commands that speak to a server.
type connection struct {
	Server    string `default:"https://localhost:8443" env:"CERTCTL_SERVER" help:"URL of the server."`
	APIKey    string `name:"api-key" placeholder:"KEY" env:"CERTCTL_API_KEY" help:"Key to the server's API. The variable keeps it out of the process list."`
	RootsFile string `placeholder:"FILE" env:"CERTCTL_ROOTS_FILE" help:"PEM file of the roots to trust. Unset: ./data/roots.pem when it is there, else the system's."`
	JSON      bool   `name:"json" help:"Print the API's JSON."`
}

// AfterApply makes the session that the command runs in. What is wrong here is
// wrong with the command line.
func (c *connection) AfterApply(k *kong.Context) error {
	roots := c.RootsFile
	if roots == "" {
		if _, err := os.Stat(defaultRoots); err == nil {
			roots = defaultRoots
		}
	}
	client, err := admin.NewClient(admin.ClientConfig{URL: c.Server, Key: c.APIKey, RootsFile: roots})
	if err != nil {
		return err
	}
	k.Bind(&session{client: client, server: c.Server, json: c.JSON, out: k.Stdout, notes: k.Stderr, now: time.Now()})
	return nil
}

// session is what a command that speaks to a server works with.
type session struct {
	client *admin.Client
	server string
	json   bool
	out    io.Writer // what was asked for
	notes  io.Writer // what people should know beside it
	now    time.Time
}

// print writes an answer of the API: as it is with --json, else as text makes it.
func (s *session) print(answer any, text func(w io.Writer) error) error {
	if !s.json {
		return text(s.out)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(answer); err != nil {
		return err
	}
	_, err := io.WriteString(s.out, escape(b.String()))
	return err
}

// done tells that something was changed of which the API has nothing to show.
func (s *session) done(format string, args ...any) error {
	if s.json {
		return nil
	}
	_, err := fmt.Fprintln(s.out, clean(fmt.Sprintf(format, args...)))
	return err
}

// note tells people something that is not part of the answer.
func (s *session) note(format string, args ...any) {
	fmt.Fprintln(s.notes, "certctl:", clean(fmt.Sprintf(format, args...)))
}

// pageFlags choose the part of a list.
type pageFlags struct {
	Limit  pageSize `default:"100" placeholder:"N" help:"The most entries to list, up to 1000 (default ${default})."`
	Before string   `placeholder:"ID" help:"List what is older than this one."`
}

func (p pageFlags) page() admin.Page { return admin.Page{Before: p.Before, Limit: int(p.Limit)} }

// more tells how to list on.
func (s *session) more(next string) {
	if next != "" && !s.json {
		s.note("there is more: --before %s", next)
	}
}
