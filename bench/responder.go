package bench

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// responder answers http-01 challenges (RFC 8555, Section 8.3).
type responder struct {
	server *http.Server
	ended  chan struct{}

	mu      sync.Mutex
	answers map[string]*challengeAnswer // by token
}

type challengeAnswer struct {
	keyAuthorization string
	once             sync.Once
	hit              chan struct{} // closed when it was fetched
}

func newResponder(address string) (*responder, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("http-01: %w", err)
	}
	r := &responder{ended: make(chan struct{}), answers: make(map[string]*challengeAnswer)}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(r.ended)
		_ = r.server.Serve(listener) // ends with close
	}()
	return r, nil
}

func (r *responder) close() {
	_ = r.server.Close() // nobody waits for an answer any more
	<-r.ended
}

// answer begins to answer a token. The channel is closed when it was fetched.
func (r *responder) answer(token, keyAuthorization string) <-chan struct{} {
	a := &challengeAnswer{keyAuthorization: keyAuthorization, hit: make(chan struct{})}
	r.mu.Lock()
	r.answers[token] = a
	r.mu.Unlock()
	return a.hit
}

func (r *responder) forget(token string) {
	r.mu.Lock()
	delete(r.answers, token)
	r.mu.Unlock()
}

// ServeHTTP answers the server's validations.
func (r *responder) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	token, ok := strings.CutPrefix(request.URL.Path, "/.well-known/acme-challenge/")
	r.mu.Lock()
	a := r.answers[token]
	r.mu.Unlock()
	if !ok || a == nil {
		http.NotFound(w, request)
		return
	}
	_, _ = io.WriteString(w, a.keyAuthorization) // a server that is gone asks again
	a.once.Do(func() { close(a.hit) })
}
