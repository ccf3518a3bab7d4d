package main

import (
	"context"
	"crypto"
	"errors"
	"net"
	"time"

	"github.com/go-acme/lego/v5/acme"
	"github.com/go-acme/lego/v5/certcrypto"
	"github.com/go-acme/lego/v5/certificate"
	"github.com/go-acme/lego/v5/challenge/dns01"
	"github.com/go-acme/lego/v5/challenge/http01"
	"github.com/go-acme/lego/v5/challenge/tlsalpn01"
	"github.com/go-acme/lego/v5/lego"
	"github.com/go-acme/lego/v5/registration"
)

var legoCommands = commands{
	"register":     legoRegister,
	"account":      legoAccount,
	"rollover":     legoRollover,
	"deactivate":   legoDeactivate,
	"meta":         legoMeta,
	"obtain":       legoObtain,
	"renew":        legoRenew,
	"renewal-info": legoRenewalInfo,
	"revoke":       legoRevoke,
}

// user is the account in lego's form.
type user struct {
	*account
	registration *acme.ExtendedAccount
}

// GetEmail returns a contact.
func (u *user) GetEmail() string { return "you@example.com" }

// GetRegistration returns nil when the account is not registered.
func (u *user) GetRegistration() *acme.ExtendedAccount { return u.registration }

// GetPrivateKey returns the account's key.
func (u *user) GetPrivateKey() crypto.Signer { return u.signer }

// lego makes lego's client with the account's key; it signs with the URL, "" for the key itself.
func (c *client) lego(url string) (*lego.Client, *user, error) {
	a, err := c.account()
	if err != nil {
		return nil, nil, err
	}
	u := &user{account: a}
	if url != "" {
		u.registration = &acme.ExtendedAccount{Location: url}
	}
	config := lego.NewConfig(u)
	config.CADirURL = c.directory
	if config.HTTPClient, err = c.httpClient(); err != nil {
		return nil, nil, err
	}
	client, err := lego.NewClient(config)
	if err != nil {
		return nil, nil, err
	}
	return client, u, c.solve(client)
}

// solve gives lego the challenges that there is an address for.
func (c *client) solve(client *lego.Client) error {
	if c.http != "" {
		host, port, err := net.SplitHostPort(c.http)
		if err != nil {
			return err
		}
		if err := client.Challenge.SetHTTP01Provider(http01.NewProviderServer(host, port)); err != nil {
			return err
		}
	}
	if c.tls != "" {
		host, port, err := net.SplitHostPort(c.tls)
		if err != nil {
			return err
		}
		if err := client.Challenge.SetTLSALPN01Provider(tlsalpn01.NewProviderServer(host, port)); err != nil {
			return err
		}
	}
	if c.dns != "" {
		dns01.SetDefaultClient(dns01.NewClient(&dns01.Options{RecursiveNameservers: []string{c.dns}}))
		return client.Challenge.SetDNS01Provider(zone{c.dns}, dns01.DisableAuthoritativeNssPropagationRequirement())
	}
	return nil
}

// known makes lego's client with the account as it is kept.
func (c *client) known() (*lego.Client, *user, error) {
	a, err := c.account()
	if err != nil {
		return nil, nil, err
	}
	return c.lego(a.URL)
}

// registered makes lego's client, and an account when there is none.
func (c *client) registered(ctx context.Context) (*lego.Client, *user, error) {
	client, u, err := c.known()
	if err != nil || u.registration != nil {
		return client, u, err
	}
	if c.kid != "" {
		u.registration, err = client.Registration.RegisterWithExternalAccountBinding(ctx,
			registration.RegisterEABOptions{TermsOfServiceAgreed: true, Kid: c.kid, HmacEncoded: c.hmac})
	} else {
		u.registration, err = client.Registration.Register(ctx, registration.RegisterOptions{TermsOfServiceAgreed: true})
	}
	if err != nil {
		return nil, nil, err
	}
	if err := c.keep(u.registration.Location, u.signer); err != nil {
		return nil, nil, err
	}
	return c.known() // signs with the account's URL from now on
}

func legoRegister(ctx context.Context, c *client, _ []string) (any, error) {
	_, u, err := c.registered(ctx)
	if err != nil {
		return nil, err
	}
	return u.registration.Location, nil
}

// legoAccount asks for the account by its URL and by its key.
func legoAccount(ctx context.Context, c *client, _ []string) (any, error) {
	client, _, err := c.lego("")
	if err != nil {
		return nil, err
	}
	byKey, err := client.Registration.ResolveAccountByKey(ctx)
	if err != nil {
		return nil, err
	}
	client, u, err := c.known()
	if err != nil {
		return nil, err
	}
	byURL, err := client.Registration.QueryRegistration(ctx)
	if err != nil {
		return nil, err
	}
	if byKey.Location != u.URL {
		return nil, errors.New("the key belongs to " + byKey.Location)
	}
	return byURL.Status, nil
}

func legoRollover(ctx context.Context, c *client, _ []string) (any, error) {
	client, u, err := c.known()
	if err != nil {
		return nil, err
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	if err := client.Registration.KeyRollover(ctx, key); err != nil {
		return nil, err
	}
	return u.URL, c.keep(u.URL, key)
}

func legoDeactivate(ctx context.Context, c *client, _ []string) (any, error) {
	client, u, err := c.known()
	if err != nil {
		return nil, err
	}
	return u.URL, client.Registration.DeleteRegistration(ctx)
}

func legoMeta(_ context.Context, c *client, _ []string) (any, error) {
	client, _, err := c.known()
	if err != nil {
		return nil, err
	}
	return client.GetServerMetadata(), nil
}

func legoObtain(ctx context.Context, c *client, names []string) (any, error) {
	client, _, err := c.registered(ctx)
	if err != nil {
		return nil, err
	}
	got, err := client.Certificate.Obtain(ctx, certificate.ObtainRequest{
		Domains: names, Bundle: true, KeyType: certcrypto.EC256, Profile: c.profile, AlwaysDeactivateAuthorizations: c.giveUp,
	})
	if err != nil {
		return nil, err
	}
	return got, c.keepCertificate(names[0], got.Certificate)
}

// legoRenew renews a certificate as the one that replaces it (RFC 9773, Section 5).
func legoRenew(ctx context.Context, c *client, args []string) (any, error) {
	name, err := only(args)
	if err != nil {
		return nil, err
	}
	client, _, err := c.registered(ctx)
	if err != nil {
		return nil, err
	}
	chain, _, err := c.certificate(name)
	if err != nil {
		return nil, err
	}
	old := certificate.Resource{ID: name, Domains: args, Certificate: chain, KeyType: certcrypto.EC256}
	got, err := client.Certificate.Renew(ctx, old, &certificate.RenewOptions{Bundle: true, Profile: c.profile, UseARICertID: true})
	if err != nil {
		return nil, err
	}
	return got, c.keepCertificate(name, got.Certificate)
}

// renewalInfo is what a client makes of renewal information.
type renewalInfo struct {
	Start, End     time.Time
	ExplanationURL string
	RetryAfter     time.Duration
	RenewNow       bool // in the next hour
}

func legoRenewalInfo(ctx context.Context, c *client, args []string) (any, error) {
	name, err := only(args)
	if err != nil {
		return nil, err
	}
	client, _, err := c.known()
	if err != nil {
		return nil, err
	}
	_, leaf, err := c.certificate(name)
	if err != nil {
		return nil, err
	}
	info, err := client.Certificate.GetRenewalInfo(ctx, leaf)
	if err != nil {
		return nil, err
	}
	return renewalInfo{
		Start: info.SuggestedWindow.Start, End: info.SuggestedWindow.End, ExplanationURL: info.ExplanationURL,
		RetryAfter: info.RetryAfter, RenewNow: info.ShouldRenewAt(time.Now(), time.Hour) != nil,
	}, nil
}

func legoRevoke(ctx context.Context, c *client, args []string) (any, error) {
	name, err := only(args)
	if err != nil {
		return nil, err
	}
	client, _, err := c.known()
	if err != nil {
		return nil, err
	}
	chain, _, err := c.certificate(name)
	if err != nil {
		return nil, err
	}
	superseded := uint(4)
	return name, client.Certificate.RevokeWithReason(ctx, chain, &superseded)
}
