package acmeserver_test

import (
	"testing"

	"github.com/certctl/certctl/internal/acmeserver"
)

// One holder's addresses are one source, in whatever form the connection has them.
func TestSourceOfNewAccounts(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:443":                "192.0.2.7/32",
		"[::ffff:192.0.2.7]:443":       "192.0.2.7/32",
		"[2001:db8:1:2::7]:443":        "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff::1]:50000": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:443":           "fe80::/64",
		"":                             "invalid Prefix",
		"@":                            "invalid Prefix",
	} {
		if got := acmeserver.Source(remote).String(); got != want {
			t.Errorf("%q: %s, want %s", remote, got, want)
		}
	}
}
