package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"

	"golang.org/x/crypto/acme"
)

var xcryptoCommands = commands{
	"register":                 xcryptoRegister,
	"rollover":                 xcryptoRollover,
	"authorize":                xcryptoAuthorize,
	"deactivate-authorization": xcryptoDeactivate,
	"order":                    xcryptoOrder,
	"obtain":                   xcryptoObtain,
}

// xcrypto makes the client of x/crypto, and an account when there is none.
func (c *client) xcrypto(ctx context.Context) (*acme.Client, error) {
	a, err := c.account()
	if err != nil {
		return nil, err
	}
	client := &acme.Client{Key: a.signer, DirectoryURL: c.directory, KID: acme.KeyID(a.URL)}
	if client.HTTPClient, err = c.httpClient(); err != nil {
		return nil, err
	}
	if a.URL != "" {
		return client, nil
	}
	made, err := client.Register(ctx, &acme.Account{Contact: []string{"mailto:you@example.com"}}, acme.AcceptTOS)
	if err != nil {
		return nil, err
	}
	return client, c.keep(made.URI, a.signer)
}

func xcryptoRegister(ctx context.Context, c *client, _ []string) (any, error) {
	client, err := c.xcrypto(ctx)
	if err != nil {
		return nil, err
	}
	return client.KID, nil
}

func xcryptoRollover(ctx context.Context, c *client, _ []string) (any, error) {
	client, err := c.xcrypto(ctx)
	if err != nil {
		return nil, err
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	if err := client.AccountKeyRollover(ctx, key); err != nil {
		return nil, err
	}
	return client.KID, c.keep(string(client.KID), key)
}

// authorization is what is told of one.
type authorization struct{ URL, Status string }

// xcryptoAuthorize proves control of a name without an order (RFC 8555, Section 7.4.1).
func xcryptoAuthorize(ctx context.Context, c *client, args []string) (any, error) {
	name, err := only(args)
	if err != nil {
		return nil, err
	}
	client, err := c.xcrypto(ctx)
	if err != nil {
		return nil, err
	}
	authz, err := client.Authorize(ctx, name)
	if err != nil {
		return nil, err
	}
	if authz, err = c.prove(ctx, client, authz); err != nil {
		return nil, err
	}
	return authorization{authz.URI, authz.Status}, nil
}

// prove solves http-01 unless the authorization is valid already.
func (c *client) prove(ctx context.Context, client *acme.Client, authz *acme.Authorization) (*acme.Authorization, error) {
	if authz.Status == acme.StatusValid {
		return authz, nil
	}
	var challenge *acme.Challenge
	for _, offered := range authz.Challenges {
		if offered.Type == "http-01" {
			challenge = offered
		}
	}
	if challenge == nil {
		return nil, errors.New("no http-01")
	}
	answer, err := client.HTTP01ChallengeResponse(challenge.Token)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", c.http)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc(client.HTTP01ChallengePath(challenge.Token), func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) })
	server := &http.Server{Handler: mux}
	defer server.Close()
	go func() { _ = server.Serve(listener) }() // ends with Close
	if _, err := client.Accept(ctx, challenge); err != nil {
		return nil, err
	}
	return client.WaitAuthorization(ctx, authz.URI)
}

// xcryptoDeactivate gives an authorization up (RFC 8555, Section 7.5.2).
func xcryptoDeactivate(ctx context.Context, c *client, args []string) (any, error) {
	url, err := only(args)
	if err != nil {
		return nil, err
	}
	client, err := c.xcrypto(ctx)
	if err != nil {
		return nil, err
	}
	if err := client.RevokeAuthorization(ctx, url); err != nil {
		return nil, err
	}
	authz, err := client.GetAuthorization(ctx, url)
	if err != nil {
		return nil, err
	}
	return authorization{authz.URI, authz.Status}, nil
}

// order is what is told of one.
type order struct {
	URL, Status    string
	Authorizations []authorization
}

func (c *client) xcryptoOrder(ctx context.Context, client *acme.Client, names []string) (*acme.Order, error) {
	var options []acme.OrderOption
	if c.profile != "" {
		options = append(options, acme.WithOrderIssuanceProfile(acme.ProfileName(c.profile)))
	}
	return client.AuthorizeOrder(ctx, acme.DomainIDs(names...), options...)
}

// xcryptoOrder makes an order and does nothing for it.
func xcryptoOrder(ctx context.Context, c *client, names []string) (any, error) {
	client, err := c.xcrypto(ctx)
	if err != nil {
		return nil, err
	}
	o, err := c.xcryptoOrder(ctx, client, names)
	if err != nil {
		return nil, err
	}
	told := order{URL: o.URI, Status: o.Status}
	for _, url := range o.AuthzURLs {
		authz, err := client.GetAuthorization(ctx, url)
		if err != nil {
			return nil, err
		}
		told.Authorizations = append(told.Authorizations, authorization{authz.URI, authz.Status})
	}
	return told, nil
}

func xcryptoObtain(ctx context.Context, c *client, names []string) (any, error) {
	client, err := c.xcrypto(ctx)
	if err != nil {
		return nil, err
	}
	o, err := c.xcryptoOrder(ctx, client, names)
	if err != nil {
		return nil, err
	}
	for _, url := range o.AuthzURLs {
		authz, err := client.GetAuthorization(ctx, url)
		if err != nil {
			return nil, err
		}
		if _, err := c.prove(ctx, client, authz); err != nil {
			return nil, err
		}
	}
	if o, err = client.WaitOrder(ctx, o.URI); err != nil {
		return nil, err
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, key)
	if err != nil {
		return nil, err
	}
	chain, url, err := client.CreateOrderCert(ctx, o.FinalizeURL, csr, true)
	if err != nil {
		return nil, err
	}
	var text []byte
	for _, der := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return url, c.keepCertificate(names[0], text)
}
