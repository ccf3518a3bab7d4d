package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

// certbot is one certbot with an account.
type certbot struct {
	s         *server
	directory string
	dir       string
	port      int // that it answers challenges on
}

func newCertbot(t *testing.T, s *server, profile string, port int) *certbot {
	t.Helper()
	return &certbot{s: s, directory: s.directory(profile), dir: t.TempDir(), port: port}
}

func (c *certbot) run(t *testing.T, command string, args ...string) result {
	t.Helper()
	args = append([]string{command, "--non-interactive", "--server", c.directory,
		"--config-dir", filepath.Join(c.dir, "config"), "--work-dir", filepath.Join(c.dir, "work"), "--logs-dir", filepath.Join(c.dir, "logs")}, args...)
	return run(t, c.dir, []string{"REQUESTS_CA_BUNDLE=" + c.s.rootsFile()}, "certbot", args...)
}

func (c *certbot) obtain(t *testing.T, names ...string) result {
	t.Helper()
	args := []string{"--standalone", "--http-01-port", fmt.Sprint(c.port), "--agree-tos", "--register-unsafely-without-email"}
	for _, name := range names {
		args = append(args, "-d", name)
	}
	return c.run(t, "certonly", args...)
}

func (c *certbot) live(name, file string) string {
	return filepath.Join(c.dir, "config", "live", name, file)
}

func TestCertbot(t *testing.T) {
	t.Parallel()
	flags, port := validating(t)
	s := startServer(t, flags...)
	s.profile(t, "prof-test", "challenge", ".example.com")
	for _, tt := range []struct {
		mode, profile string
		names         []string
	}{
		{"trust", "default", []string{"bot.test", "www.bot.test"}},
		{"challenge", "prof-test", []string{"bot.example.com", "www.bot.example.com"}},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			c := newCertbot(t, s, tt.profile, port)
			c.obtain(t, tt.names...).must(t)
			chain := c.live(tt.names[0], "fullchain.pem")
			first := s.verify(t, chain, tt.names...)

			c.run(t, "renew", "--force-renewal", "--no-random-sleep-on-renew").must(t)
			second := s.verify(t, chain, tt.names...)
			if first.SerialNumber.Cmp(second.SerialNumber) == 0 {
				t.Error("renew has left the old certificate")
			}
			s.mustNotBeRevoked(t, chain)
			if tt.mode == "trust" {
				c.run(t, "revoke", "--cert-name", tt.names[0], "--no-delete-after-revoke", "--reason", "superseded").must(t)
				s.mustBeRevoked(t, chain, "Superseded")
				return
			}
			// The key of the certificate is enough, without the account's.
			stranger := newCertbot(t, s, tt.profile, port)
			stranger.run(t, "revoke", "--cert-path", c.live(tt.names[0], "cert.pem"), "--key-path", c.live(tt.names[0], "privkey.pem"),
				"--no-delete-after-revoke", "--reason", "keycompromise").must(t)
			s.mustBeRevoked(t, chain, "Key Compromise")
		})
	}
}

func TestCertbotAccount(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := newCertbot(t, s, "default", freePort(t))
	c.obtain(t, "account.test").must(t)
	c.run(t, "update_account", "--email", "new@example.com").must(t)
	c.run(t, "unregister").must(t)
	want := []string{"acme_account_created", "acme_account_contact_updated", "acme_account_deactivated"}
	for _, action := range want {
		if events := s.events(t, "action="+action); len(events) != 1 {
			t.Errorf("%d events %s", len(events), action)
		}
	}
}

// TestCertbotWildcard has certbot's hooks publish what dns-01 asks for.
func TestCertbotWildcard(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	s := startServer(t, n.flags()...)
	s.with(t, "prof-test", map[string]any{
		"acme_auth_mode": "challenge", "allowed_domains": []string{".example.com"}, "allow_wildcards": true,
	})
	c := newCertbot(t, s, "prof-test", n.httpPort)
	hook := func(change string) string {
		script := fmt.Sprintf(`exec '%s' -dns %s txt %s "_acme-challenge.$CERTBOT_DOMAIN" "$CERTBOT_VALIDATION"`, clientsBinary, n.names.address, change)
		return "sh " + writeFile(t, script, c.dir, change+".sh")
	}
	names := []string{"bot.example.com", "*.bot.example.com"}
	c.run(t, "certonly", "--manual", "--preferred-challenges", "dns", "--manual-auth-hook", hook("add"), "--manual-cleanup-hook", hook("remove"),
		"--agree-tos", "--register-unsafely-without-email", "-d", names[0], "-d", names[1]).must(t)
	chain := c.live(names[0], "fullchain.pem")
	s.verifyFor(t, chain, names...)
	first := certificates(t, readFile(t, chain))[0]
	if by := s.authorizedBy(t, names[1]); !slices.Equal(by, []string{"dns-01", "dns-01"}) {
		t.Errorf("authorized by %q", by)
	}
	if left := n.names.published(dns.TypeTXT); left != 0 {
		t.Errorf("%d records are left", left)
	}

	c.run(t, "renew", "--force-renewal", "--no-random-sleep-on-renew").must(t)
	s.verifyFor(t, chain, names...)
	if second := certificates(t, readFile(t, chain))[0]; first.SerialNumber.Cmp(second.SerialNumber) == 0 {
		t.Error("renew has left the old certificate")
	}
	c.run(t, "revoke", "--cert-name", names[0], "--no-delete-after-revoke", "--reason", "superseded").must(t)
	s.mustBeRevoked(t, chain, "Superseded")
}
