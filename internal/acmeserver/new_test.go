package acmeserver_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acmeserver"
	"github.com/certctl/certctl/internal/lifecycle"
	"github.com/certctl/certctl/internal/store"
)

// TestOnlyHTTPS: "Use of HTTPS is REQUIRED" (RFC 8555, Section 6.1).
func TestOnlyHTTPS(t *testing.T) {
	t.Parallel()
	for url, good := range map[string]bool{
		"https://ca.test":       true,
		"https://ca.test:8443/": true,
		"http://ca.test":        false,
		"ca.test":               false,
		"https://":              false,
		"https://ca.test/acme":  false,
	} {
		_, err := acmeserver.New(acmeserver.Config{
			Store: new(store.Store), Lifecycle: new(lifecycle.Lifecycle), Log: slog.New(slog.DiscardHandler),
			ExternalURLs: []string{url}, OrderTTL: time.Hour, AuthzTTL: time.Hour,
		})
		if (err == nil) != good {
			t.Errorf("%s: %v", url, err)
		}
	}
}
