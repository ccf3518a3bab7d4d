package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// httpClient trusts the roots given and nothing else, and tells every request.
func (c *client) httpClient() (*http.Client, error) {
	text, err := os.ReadFile(c.roots)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate", c.roots)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	return &http.Client{Transport: tracer{transport}, Timeout: 20 * time.Second}, nil
}

// tracer tells requests, with the payload in clear, and the answers to them.
type tracer struct{ next http.RoundTripper }

// RoundTrip makes a request and tells it.
func (t tracer) RoundTrip(r *http.Request) (*http.Response, error) {
	var payload string
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		payload = clear(body)
	}
	response, err := t.next.RoundTrip(r)
	if err != nil {
		fmt.Fprintf(os.Stderr, "> %s %s %s\n< %v\n", r.Method, r.URL, payload, err)
		return nil, err
	}
	answer := response.Header.Get("Content-Type")
	if strings.HasSuffix(answer, "json") {
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return nil, err
		}
		response.Body = io.NopCloser(bytes.NewReader(body))
		var compact bytes.Buffer
		if json.Compact(&compact, body) == nil {
			answer = compact.String()
		}
	}
	fmt.Fprintf(os.Stderr, "> %s %s %s\n< %d %s\n", r.Method, r.URL, payload, response.StatusCode, answer)
	return response, nil
}

// clear returns the payload of a JWS in JSON, "" of what is none.
func clear(body []byte) string {
	var jws struct{ Payload string }
	if json.Unmarshal(body, &jws) != nil {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(jws.Payload)
	if err != nil {
		return ""
	}
	return string(payload)
}
