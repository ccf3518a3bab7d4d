package admin

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

const (
	clientTimeout = 30 * time.Second
	maxAnswer     = 64 << 20
)

// ClientConfig says where the API is and who asks it.
type ClientConfig struct {
	URL       string // of the server, without a path
	Key       string // an API key
	RootsFile string // PEM file of the roots to trust; "": those of the system
}

// Client speaks to the API of a server. Its errors are one line for the operator
// and say what to do where that is known; those that the API answered are
// *APIError.
type Client struct {
	base string
	key  string
	http *http.Client
}

// APIError is a refusal by the API.
type APIError struct {
	Status int
	Detail string // one line
}

func (e *APIError) Error() string { return e.Detail }

// NewClient returns a client; it does not speak to the server yet.
func NewClient(cfg ClientConfig) (*Client, error) {
	base, err := checkServerURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	switch {
	case cfg.Key == "":
		return nil, errors.New("no API key: set CERTCTL_API_KEY or --api-key to the one that the server's first start has shown")
	case strings.ContainsFunc(cfg.Key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, errors.New("the API key holds characters other than printable ASCII")
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.RootsFile != "" {
		if tlsConfig.RootCAs, err = loadRoots(cfg.RootsFile); err != nil {
			return nil, err
		}
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true}
	return &Client{
		base: base,
		key:  cfg.Key,
		http: &http.Client{
			Transport: transport,
			Timeout:   clientTimeout,
			// The key is for this server and no other.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// checkServerURL returns the URL without a slash at its end. Plain HTTP would
// show the key to the network, so it stays on this machine.
func checkServerURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%q is not the URL of a server, such as https://localhost:8443", s)
	}
	switch u.Scheme {
	case "https":
	case "http":
		if !isLoopback(u.Hostname()) {
			return "", fmt.Errorf("%q would send the API key unencrypted; write https://", s)
		}
	default:
		return "", fmt.Errorf("%q does not begin with https://", s)
	}
	return u.Scheme + "://" + u.Host, nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func loadRoots(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("roots file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("roots file %s: no certificate in PEM form", path)
	}
	return pool, nil
}

// call sends in (nil: no body) and reads the answer into out (nil: none is
// expected). The path is below Prefix and may have a query.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+Prefix+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.explain(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return c.explain(err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return c.refusal(resp, answer)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s answered what is not certctl's API; check --server", c.base)
	}
	return nil
}

// refusal turns a problem document into an error.
func (c *Client) refusal(resp *http.Response, answer []byte) error {
	var p huma.ErrorModel
	mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/problem+json" || json.Unmarshal(answer, &p) != nil {
		return fmt.Errorf("%s answered %q, which certctl's API does not; check --server", c.base, resp.Status)
	}
	detail := p.Detail
	if len(p.Errors) > 0 { // then the detail only says that there are some
		parts := make([]string, len(p.Errors))
		for i, e := range p.Errors {
			parts[i] = strings.TrimPrefix(strings.TrimPrefix(e.Location, "body"), ".")
			if parts[i] != "" {
				parts[i] += ": "
			}
			parts[i] += e.Message
		}
		detail = strings.Join(parts, "; ")
	}
	if detail == "" {
		detail = resp.Status
	}
	if resp.StatusCode == http.StatusUnauthorized {
		detail += "; check CERTCTL_API_KEY or --api-key"
	}
	return &APIError{resp.StatusCode, oneLine(detail)}
}

// explain says what to do about a server that could not be asked.
func (c *Client) explain(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var (
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
		dns     *net.DNSError
		timeout net.Error
	)
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing answers at %s; start the server with \"certctl server\", or name it with --server", c.base)
	case errors.As(err, &unknown):
		return fmt.Errorf("%s shows a certificate of an unknown authority; give the CA's root with --roots-file "+
			"(the server keeps it in its data folder as roots.pem)", c.base)
	case errors.As(err, &host):
		return fmt.Errorf("%s shows a certificate for another name (%s); use that name in --server, or add this one to the server's CERTCTL_TLS_SANS",
			c.base, oneLine(host.Error()))
	case errors.As(err, &invalid):
		return fmt.Errorf("%s shows a certificate that does not hold: %s", c.base, oneLine(invalid.Error()))
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%s does not speak TLS; check the port in --server", c.base)
	case errors.As(err, &dns):
		return fmt.Errorf("%s is not found: %s; check --server", c.base, oneLine(dns.Error()))
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%s did not answer in %v", c.base, clientTimeout)
	}
	return fmt.Errorf("%s: %s", c.base, oneLine(err.Error()))
}

// oneLine keeps what others wrote on the line and harmless to a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}
