package main

import (
	"context"
	"encoding/base64"
	"errors"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

var acmezCommands = commands{
	"register":     acmezRegister,
	"rollover":     acmezRollover,
	"order":        acmezOrder,
	"obtain":       acmezObtain,
	"renewal-info": acmezRenewalInfo,
}

// acmez makes acmez's client, and an account when there is none.
func (c *client) acmez(ctx context.Context) (*acmez.Client, acme.Account, error) {
	a, err := c.account()
	if err != nil {
		return nil, acme.Account{}, err
	}
	client := &acmez.Client{
		Client:           &acme.Client{Directory: c.directory, PollInterval: 50 * time.Millisecond},
		ChallengeSolvers: make(map[string]acmez.Solver),
	}
	if client.HTTPClient, err = c.httpClient(); err != nil {
		return nil, acme.Account{}, err
	}
	if c.http != "" {
		client.ChallengeSolvers[acme.ChallengeTypeHTTP01] = &httpSolver{site: site{address: c.http}, answers: make(map[string]string)}
	}
	if c.tls != "" {
		client.ChallengeSolvers[acme.ChallengeTypeTLSALPN01] = &tlsSolver{site: site{address: c.tls}}
	}
	account := acme.Account{PrivateKey: a.signer, Location: a.URL, Contact: []string{"mailto:you@example.com"}, TermsOfServiceAgreed: true}
	if a.URL != "" {
		account, err = client.GetAccount(ctx, account)
		return client, account, err
	}
	if c.kid != "" {
		key := acme.EAB{KeyID: c.kid, MACKey: c.hmac}
		if _, err := base64.RawURLEncoding.DecodeString(c.hmac); err != nil {
			return nil, account, err
		}
		if err := account.SetExternalAccountBinding(ctx, client.Client, key); err != nil {
			return nil, account, err
		}
	}
	if account, err = client.NewAccount(ctx, account); err != nil {
		return nil, account, err
	}
	return client, account, c.keep(account.Location, a.signer)
}

func acmezRegister(ctx context.Context, c *client, _ []string) (any, error) {
	_, account, err := c.acmez(ctx)
	return account.Location, err
}

func acmezRollover(ctx context.Context, c *client, _ []string) (any, error) {
	client, account, err := c.acmez(ctx)
	if err != nil {
		return nil, err
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	if _, err := client.AccountKeyRollover(ctx, account, key); err != nil {
		return nil, err
	}
	return account.Location, c.keep(account.Location, key)
}

// acmezOrder makes an order and does nothing for it.
func acmezOrder(ctx context.Context, c *client, names []string) (any, error) {
	client, account, err := c.acmez(ctx)
	if err != nil {
		return nil, err
	}
	o := acme.Order{Profile: c.profile}
	for _, name := range names {
		o.Identifiers = append(o.Identifiers, acme.Identifier{Type: "dns", Value: name})
	}
	if c.replaces != "" {
		_, leaf, err := c.certificate(c.replaces)
		if err != nil {
			return nil, err
		}
		if o.Replaces, err = acme.ARIUniqueIdentifier(leaf); err != nil {
			return nil, err
		}
	}
	if o, err = client.NewOrder(ctx, account, o); err != nil {
		return nil, err
	}
	return order{URL: o.Location, Status: o.Status}, nil
}

func acmezObtain(ctx context.Context, c *client, names []string) (any, error) {
	client, account, err := c.acmez(ctx)
	if err != nil {
		return nil, err
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	csr, err := acmez.NewCSR(key, names)
	if err != nil {
		return nil, err
	}
	params, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		return nil, err
	}
	params.Profile = c.profile
	if c.replaces != "" {
		if _, params.Replaces, err = c.certificate(c.replaces); err != nil {
			return nil, err
		}
	}
	chains, err := client.ObtainCertificate(ctx, params)
	if err != nil {
		return nil, err
	}
	if len(chains) == 0 {
		return nil, errors.New("no certificate")
	}
	return chains[0].URL, c.keepCertificate(names[0], chains[0].ChainPEM)
}

func acmezRenewalInfo(ctx context.Context, c *client, args []string) (any, error) {
	name, err := only(args)
	if err != nil {
		return nil, err
	}
	client, _, err := c.acmez(ctx)
	if err != nil {
		return nil, err
	}
	_, leaf, err := c.certificate(name)
	if err != nil {
		return nil, err
	}
	info, err := client.GetRenewalInfo(ctx, leaf)
	if err != nil {
		return nil, err
	}
	told := renewalInfo{Start: info.SuggestedWindow.Start, End: info.SuggestedWindow.End, ExplanationURL: info.ExplanationURL}
	if info.RetryAfter != nil {
		told.RetryAfter = time.Until(*info.RetryAfter)
	}
	told.RenewNow = info.SelectedTime.Before(time.Now().Add(time.Hour))
	return told, nil
}
