package bench

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	requestTime = 30 * time.Second
	maxBody     = 4 << 20
	// nonceTries bounds how often a request is sent again for a badNonce
	// (RFC 8555, Section 6.5).
	nonceTries = 3
)

// Account is an ACME account.
type Account struct {
	Key *ecdsa.PrivateKey // P-256
	URL string            // its kid
}

// Thumbprint is the account key's (RFC 7638).
func (a *Account) Thumbprint() string {
	hash := sha256.Sum256(a.jwk())
	return base64.RawURLEncoding.EncodeToString(hash[:])
}

// jwk has the members and their order of RFC 7638, Section 3.
func (a *Account) jwk() []byte {
	point, err := a.Key.PublicKey.Bytes() // uncompressed: 4, x, y
	if err != nil || len(point) != 65 {
		return nil
	}
	b64 := base64.RawURLEncoding
	return []byte(`{"crv":"P-256","kty":"EC","x":"` + b64.EncodeToString(point[1:33]) + `","y":"` + b64.EncodeToString(point[33:]) + `"}`)
}

// Client speaks to one server over one connection, which it makes when it needs
// one. It serves one goroutine at a time.
//
// Its requests are written and read without net/http's transport, whose two
// goroutines for each connection would cost more than the request.
type Client struct {
	Requests  int // sent
	BadNonces int // of these, answered badNonce and sent again

	base  *url.URL // of the directory
	dial  func(context.Context) (net.Conn, error)
	conn  net.Conn
	read  *bufio.Reader
	nonce string
	// patience is the pause before the first question about a validation.
	patience time.Duration

	newNonce, newAccount, newOrder string
}

// NewClient reads the directory and fetches a first nonce.
func NewClient(ctx context.Context, directory string, roots *x509.CertPool) (*Client, error) {
	base, err := url.Parse(directory)
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, fmt.Errorf("%q is not the URL of a directory", directory)
	}
	c := &Client{base: base, dial: dialer(base, roots), patience: 10 * firstPoll}
	response, err := c.roundTrip(ctx, http.MethodGet, directory, nil)
	if err != nil {
		return nil, err
	}
	var urls struct{ NewNonce, NewAccount, NewOrder string }
	if err := response.decode(&urls); err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	c.newNonce, c.newAccount, c.newOrder = urls.NewNonce, urls.NewAccount, urls.NewOrder
	return c, c.fetchNonce(ctx)
}

// dialer returns what connects to the host of base.
func dialer(base *url.URL, roots *x509.CertPool) func(context.Context) (net.Conn, error) {
	address := base.Host
	if base.Port() == "" {
		address = net.JoinHostPort(base.Hostname(), base.Scheme)
	}
	plain := &net.Dialer{Timeout: requestTime}
	if base.Scheme == "http" {
		return func(ctx context.Context) (net.Conn, error) { return plain.DialContext(ctx, "tcp", address) }
	}
	secure := &tls.Dialer{NetDialer: plain, Config: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	return func(ctx context.Context) (net.Conn, error) { return secure.DialContext(ctx, "tcp", address) }
}

// Close closes the connection. The next request makes a new one.
func (c *Client) Close() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing is under way
		c.conn = nil
	}
}

// Nonce returns the nonce that the next request would have carried, which then
// fetches another.
func (c *Client) Nonce() string {
	nonce := c.nonce
	c.nonce = ""
	return nonce
}

// UseNonce makes the next request carry the nonce given.
func (c *Client) UseNonce(nonce string) { c.nonce = nonce }

func (c *Client) fetchNonce(ctx context.Context) error {
	_, err := c.roundTrip(ctx, http.MethodHead, c.newNonce, nil)
	if err == nil && c.nonce == "" {
		err = &Error{Step: "newNonce", Type: "protocol", Detail: "the answer has no nonce"}
	}
	return err
}

// Register makes an account, or finds the one that the key has
// (RFC 8555, Section 7.3).
func (c *Client) Register(ctx context.Context, key *ecdsa.PrivateKey) (*Account, error) {
	a := &Account{Key: key}
	response, err := c.Post(ctx, a, c.newAccount, []byte(`{"termsOfServiceAgreed":true}`))
	if err != nil {
		return nil, err
	}
	if response.Location == "" {
		return nil, errors.New("the answer has no Location")
	}
	a.URL = response.Location
	return a, nil
}

// Post sends a signed request; a nil payload makes it a POST-as-GET
// (RFC 8555, Section 6.3). What the server refuses is an *Error.
func (c *Client) Post(ctx context.Context, a *Account, to string, payload []byte) (*Response, error) {
	for try := 1; ; try++ {
		if c.nonce == "" {
			if err := c.fetchNonce(ctx); err != nil {
				return nil, err
			}
		}
		body, err := sign(a, c.Nonce(), to, payload)
		if err != nil {
			return nil, err
		}
		response, err := c.roundTrip(ctx, http.MethodPost, to, body)
		var refused *Error
		if try <= nonceTries && errors.As(err, &refused) && refused.Type == "badNonce" {
			c.BadNonces++
			continue
		}
		return response, err
	}
}

// sign makes a flattened JWS (RFC 8555, Section 6.2): with the account's URL as
// kid, or with its key while it has no URL.
func sign(a *Account, nonce, to string, payload []byte) ([]byte, error) {
	header := struct {
		Alg   string          `json:"alg"`
		KID   string          `json:"kid,omitempty"`
		JWK   json.RawMessage `json:"jwk,omitempty"`
		Nonce string          `json:"nonce"`
		URL   string          `json:"url"`
	}{Alg: "ES256", KID: a.URL, Nonce: nonce, URL: to}
	if a.URL == "" {
		header.JWK = a.jwk()
	}
	protected, err := json.Marshal(&header)
	if err != nil {
		return nil, err
	}
	b64 := base64.RawURLEncoding
	signed := make([]byte, 0, b64.EncodedLen(len(protected))+1+b64.EncodedLen(len(payload)))
	signed = b64.AppendEncode(signed, protected)
	dot := len(signed)
	signed = append(signed, '.')
	signed = b64.AppendEncode(signed, payload)
	hash := sha256.Sum256(signed)
	r, s, err := ecdsa.Sign(rand.Reader, a.Key, hash[:])
	if err != nil {
		return nil, err
	}
	var signature [64]byte // RFC 7518, Section 3.4
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])

	body := make([]byte, 0, len(signed)+160)
	body = append(body, `{"protected":"`...)
	body = append(body, signed[:dot]...)
	body = append(body, `","payload":"`...)
	body = append(body, signed[dot+1:]...)
	body = append(body, `","signature":"`...)
	body = b64.AppendEncode(body, signature[:])
	return append(body, `"}`...), nil
}

// Response is an answer that is no refusal.
type Response struct {
	Status     int
	Location   string
	RetryAfter time.Duration
	Body       []byte
}

func (r *Response) decode(v any) error {
	if err := json.Unmarshal(r.Body, v); err != nil {
		return &Error{Type: "protocol", Detail: "the answer is not the JSON expected: " + err.Error()}
	}
	return nil
}

// Error is why a request or an order failed. Type is an ACME error type without
// its namespace, or one of: network, http (a refusal without a problem document),
// protocol (an answer that RFC 8555 does not allow), invalid (a challenge or order
// that failed), timeout, certificate (one that does not hold).
type Error struct {
	Step   string // of the order
	Type   string
	Detail string
}

func (e *Error) Error() string {
	if e.Step == "" {
		return e.Type + ": " + e.Detail
	}
	return e.Step + ": " + e.Type + ": " + e.Detail
}

// roundTrip sends one request and reads its answer. A connection that failed is
// closed, and the request not sent again: the server may have seen it.
func (c *Client) roundTrip(ctx context.Context, method, to string, body []byte) (*Response, error) {
	c.Requests++
	response, content, err := c.exchange(ctx, method, to, body)
	if err != nil {
		c.Close()
		return nil, &Error{Type: "network", Detail: err.Error()}
	}
	if response.Close {
		c.Close()
	}
	if nonce := response.Header.Get("Replay-Nonce"); nonce != "" {
		c.nonce = nonce
	}
	if response.StatusCode/100 != 2 {
		return nil, refusal(response.StatusCode, content)
	}
	seconds, _ := strconv.Atoi(response.Header.Get("Retry-After")) // a date is not used here
	return &Response{
		Status:     response.StatusCode,
		Location:   response.Header.Get("Location"),
		RetryAfter: time.Duration(seconds) * time.Second,
		Body:       content,
	}, nil
}

func (c *Client) exchange(ctx context.Context, method, to string, body []byte) (*http.Response, []byte, error) {
	path, ok := strings.CutPrefix(to, c.base.Scheme+"://"+c.base.Host)
	if !ok {
		return nil, nil, fmt.Errorf("%s is not on the host of the directory, %s", to, c.base.Host)
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if c.conn == nil {
		conn, err := c.dial(ctx)
		if err != nil {
			return nil, nil, err
		}
		c.conn, c.read = conn, bufio.NewReaderSize(conn, 8<<10)
	}
	if err := c.conn.SetDeadline(time.Now().Add(requestTime)); err != nil {
		return nil, nil, err
	}
	request := make([]byte, 0, len(body)+512)
	request = append(request, method+" "+path+" HTTP/1.1\r\nHost: "+c.base.Host+"\r\nUser-Agent: certctl-bench\r\n"...)
	if method == http.MethodPost {
		request = append(request, "Content-Type: application/jose+json\r\nContent-Length: "...)
		request = strconv.AppendInt(request, int64(len(body)), 10)
		request = append(request, "\r\n"...)
	}
	request = append(append(request, "\r\n"...), body...)
	if _, err := c.conn.Write(request); err != nil {
		return nil, nil, err
	}
	response, err := http.ReadResponse(c.read, &http.Request{Method: method})
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	if len(content) > maxBody {
		err = fmt.Errorf("the answer has more than %d bytes", maxBody)
	}
	return response, content, err
}

// refusal reads a problem document (RFC 8555, Section 6.7).
func refusal(status int, content []byte) error {
	type problem struct{ Type, Detail string }
	var p struct {
		problem
		Subproblems []problem
	}
	if err := json.Unmarshal(content, &p); err != nil || p.Type == "" {
		return &Error{Type: "http", Detail: fmt.Sprintf("status %d: %.100q", status, content)}
	}
	for _, sub := range p.Subproblems {
		p.Detail += "; " + sub.Detail
	}
	return &Error{Type: p.Type[strings.LastIndexByte(p.Type, ':')+1:], Detail: fmt.Sprintf("%s (status %d)", p.Detail, status)}
}
