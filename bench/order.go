package bench

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Order is one order and how far it came.
type Order struct {
	Names   []string
	Account *Account
	Key     *ecdsa.PrivateKey // the certificate's
	CSR     []byte

	URL         string // told by the answer to newOrder
	FinalizeURL string
	Finalized   bool   // finalize was sent
	Certificate string // its URL, told by the answer that said "valid"
	Chain       []byte // PEM, as downloaded
	Serial      string // hexadecimal, known once the chain is verified

	Err      error // an *Error where the server or the network is to blame
	Latency  time.Duration
	Requests int

	newOrder, finalize []byte // payloads
	badNonces          int
	started            time.Time
}

func (o *Order) began() bool { return !o.started.IsZero() }

// wire is what the answers about orders, authorizations and challenges hold.
type wire struct {
	Status         string
	Authorizations []string
	Finalize       string
	Certificate    string
	Challenges     []challenge
	Error          *struct{ Type, Detail string }
}

type challenge struct {
	Type, URL, Token, Status string
	Error                    *struct{ Type, Detail string }
}

// prepare makes all of an order that needs no server.
func (l *load) prepare(i int) (*Order, error) {
	o := &Order{Account: l.accounts[i%len(l.accounts)]}
	type identifier struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	var ids []identifier
	for n := range l.cfg.Names {
		name := fmt.Sprintf("b%s-%d-%d.%s", l.run, i, n, l.cfg.Domain)
		o.Names = append(o.Names, name)
		ids = append(ids, identifier{"dns", name})
	}
	var err error
	if o.Key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if o.CSR, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: o.Names}, o.Key); err != nil {
		return nil, err
	}
	if o.newOrder, err = json.Marshal(map[string]any{"identifiers": ids}); err != nil {
		return nil, err
	}
	o.finalize = FinalizePayload(o.CSR)
	return o, nil
}

// FinalizePayload is the payload of finalize (RFC 8555, Section 7.4).
func FinalizePayload(csr []byte) []byte {
	return []byte(`{"csr":"` + base64.RawURLEncoding.EncodeToString(csr) + `"}`)
}

// order makes one order from newOrder to the download.
func (l *load) order(ctx context.Context, c *Client, o *Order) {
	requests, badNonces := c.Requests, c.BadNonces
	o.started = time.Now()
	if l.cfg.NewConnections {
		c.Close()
	}
	step, err := l.steps(ctx, c, o)
	if err != nil {
		var known *Error
		if errors.As(err, &known) {
			known.Step = step
		}
		o.Err = err
	}
	o.Latency = time.Since(o.started)
	o.Requests, o.badNonces = c.Requests-requests, c.BadNonces-badNonces
	if l.cfg.Done != nil {
		l.cfg.Done(o)
	}
}

// steps returns the name of the step that failed.
func (l *load) steps(ctx context.Context, c *Client, o *Order) (step string, err error) {
	response, err := c.Post(ctx, o.Account, c.newOrder, o.newOrder)
	if err != nil {
		return "newOrder", err
	}
	var order wire
	if err := response.decode(&order); err != nil {
		return "newOrder", err
	}
	o.URL, o.FinalizeURL = response.Location, order.Finalize
	if order.Status == "pending" {
		if l.responder == nil {
			return "newOrder", &Error{Type: "protocol", Detail: "the order is pending: this profile wants challenges, use the mode http-01"}
		}
		if err := l.authorize(ctx, c, o.Account, order.Authorizations); err != nil {
			return "challenge", err
		}
	}
	o.Finalized = true
	if response, err = c.Post(ctx, o.Account, o.FinalizeURL, o.finalize); err != nil {
		return "finalize", err
	}
	order = wire{}
	if err := response.decode(&order); err != nil {
		return "finalize", err
	}
	if order.Status == "processing" {
		if order, err = poll(ctx, c, o.Account, o.URL, "processing"); err != nil {
			return "finalize", err
		}
	}
	if order.Status != "valid" || order.Certificate == "" {
		return "finalize", &Error{Type: "invalid", Detail: "the order is " + order.Status + reason(order)}
	}
	o.Certificate = order.Certificate
	if response, err = c.Post(ctx, o.Account, o.Certificate, nil); err != nil {
		return "certificate", err
	}
	o.Chain = response.Body
	return "", nil
}

// hitTime is how long the validation of a challenge is waited for before its
// authorization is looked at anyway.
const hitTime = time.Second

// authorize has each authorization validated. It asks about one only when the
// server has fetched the challenge's answer, and a little later, so that a
// validation costs one question, as with a client that waits as long as it is told
// to.
func (l *load) authorize(ctx context.Context, c *Client, a *Account, urls []string) error {
	type waiting struct {
		url string
		hit <-chan struct{}
	}
	var all []waiting
	for _, u := range urls {
		response, err := c.Post(ctx, a, u, nil)
		if err != nil {
			return err
		}
		var authz wire
		if err := response.decode(&authz); err != nil {
			return err
		}
		if authz.Status == "valid" {
			continue
		}
		i := slices.IndexFunc(authz.Challenges, func(c challenge) bool { return c.Type == "http-01" })
		if i < 0 {
			return &Error{Type: "protocol", Detail: "no http-01 challenge is offered"}
		}
		token := authz.Challenges[i].Token
		hit := l.responder.answer(token, token+"."+a.Thumbprint())
		defer l.responder.forget(token)
		if _, err := c.Post(ctx, a, authz.Challenges[i].URL, []byte("{}")); err != nil {
			return err
		}
		all = append(all, waiting{u, hit})
	}
	for _, w := range all {
		select {
		case <-w.hit:
		case <-time.After(hitTime):
		case <-ctx.Done():
		}
		asked := c.Requests
		authz, err := poll(ctx, c, a, w.url, "pending")
		if c.Requests > asked+1 {
			c.patience = min(c.patience*3/2, lastPoll)
		} else {
			c.patience = max(c.patience*24/25, firstPoll)
		}
		if err != nil {
			return err
		}
		if authz.Status != "valid" {
			return &Error{Type: "invalid", Detail: "the authorization is " + authz.Status + reason(authz)}
		}
	}
	return nil
}

const (
	firstPoll = 2 * time.Millisecond // the least
	lastPoll  = time.Second
	pollTime  = time.Minute
)

// poll asks about an object until it is no longer in the state given. The first
// pause is the client's patience, which learns how long the server takes.
func poll(ctx context.Context, c *Client, a *Account, url, state string) (wire, error) {
	began := time.Now()
	for pause := c.patience; ; pause = min(2*pause, lastPoll) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		response, err := c.Post(ctx, a, url, nil)
		if err != nil {
			return wire{}, err
		}
		var w wire
		if err := response.decode(&w); err != nil || w.Status != state {
			return w, err
		}
		if time.Since(began) > pollTime {
			return w, &Error{Type: "timeout", Detail: fmt.Sprintf("%s after %v", state, pollTime)}
		}
	}
}

// reason tells the error of an order, or of one of an authorization's challenges.
func reason(w wire) string {
	if w.Error != nil {
		return ": " + w.Error.Detail
	}
	for _, c := range w.Challenges {
		if c.Error != nil {
			return ": " + c.Error.Detail
		}
	}
	return ""
}

// verify checks that the chain is the order's: for its key, for its names and for
// nothing else, valid now and leading to a root. It sets the serial.
func (o *Order) verify(roots *x509.CertPool) error {
	bad := func(format string, args ...any) error {
		return &Error{Step: "verify", Type: "certificate", Detail: fmt.Sprintf(format, args...)}
	}
	var leaf *x509.Certificate
	intermediates := x509.NewCertPool()
	for rest := o.Chain; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if len(bytes.TrimSpace(rest)) > 0 {
				return bad("the chain ends in what is no PEM")
			}
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return bad("%v", err)
		}
		if leaf == nil {
			leaf = cert
		} else {
			intermediates.AddCert(cert)
		}
	}
	if leaf == nil {
		return bad("the chain is empty")
	}
	if !o.Key.PublicKey.Equal(leaf.PublicKey) {
		return bad("it is for another key")
	}
	names := slices.Sorted(slices.Values(leaf.DNSNames))
	if !slices.Equal(names, slices.Sorted(slices.Values(o.Names))) || len(leaf.IPAddresses)+len(leaf.EmailAddresses)+len(leaf.URIs) > 0 {
		return bad("it is for %q and not for %q", names, o.Names)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates}); err != nil {
		return bad("%v", err)
	}
	o.Serial = fmt.Sprintf("%032x", leaf.SerialNumber)
	return nil
}
