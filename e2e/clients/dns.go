package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-acme/lego/v5/challenge/dns01"
	"github.com/miekg/dns"
)

var txtCommands = commands{"add": addTXT, "remove": removeTXT}

func addTXT(ctx context.Context, c *client, args []string) (any, error) {
	return c.txt(ctx, args, true)
}

func removeTXT(ctx context.Context, c *client, args []string) (any, error) {
	return c.txt(ctx, args, false)
}

func (c *client) txt(ctx context.Context, args []string, add bool) (any, error) {
	if len(args) != 2 {
		return nil, errors.New("want a name and a value")
	}
	return args, updateTXT(ctx, c.dns, args[0], args[1], add)
}

// updateTXT adds a TXT record beside others of its name, or removes it (RFC 2136, Section 2.5).
func updateTXT(ctx context.Context, server, name, value string, add bool) error {
	fqdn := dns.Fqdn(name)
	_, zone, _ := strings.Cut(fqdn, ".")
	record := []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: fqdn, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 1}, Txt: []string{value}}}
	update := new(dns.Msg).SetUpdate(zone)
	if add {
		update.Insert(record)
	} else {
		update.Remove(record)
	}
	answer, _, err := new(dns.Client).ExchangeContext(ctx, update, server)
	if err != nil {
		return fmt.Errorf("update of %s: %w", fqdn, err)
	}
	if answer.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("update of %s: %s", fqdn, dns.RcodeToString[answer.Rcode])
	}
	return nil
}

// zone is a DNS provider of lego.
type zone struct{ server string }

// Present publishes what the challenge asks for.
func (z zone) Present(ctx context.Context, domain, _, keyAuth string) error {
	info := dns01.GetChallengeInfo(ctx, domain, keyAuth)
	return updateTXT(ctx, z.server, info.EffectiveFQDN, info.Value, true)
}

// CleanUp takes it back.
func (z zone) CleanUp(ctx context.Context, domain, _, keyAuth string) error {
	info := dns01.GetChallengeInfo(ctx, domain, keyAuth)
	return updateTXT(ctx, z.server, info.EffectiveFQDN, info.Value, false)
}

// Timeout says how long lego looks for the record itself before it asks the CA to, and how often.
func (z zone) Timeout() (timeout, interval time.Duration) {
	return 10 * time.Second, 20 * time.Millisecond
}
