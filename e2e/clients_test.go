package e2e

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// clientsBinary is the ACME clients that come as Go libraries, made from
// clients, which is a module of its own so that certctl does not depend on them.
var clientsBinary string

// buildClients makes them.
func buildClients() error {
	var err error
	if clientsBinary, err = filepath.Abs("../bin/acmeclients"); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", clientsBinary, ".")
	cmd.Dir = "clients"
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build in e2e/clients: %w\n%s", err, output)
	}
	return nil
}

// libraryClient is a client with an account that uses one of the libraries.
type libraryClient struct {
	s         *server
	library   string
	directory string
	dir       string
	network   *network
}

func newClient(t *testing.T, s *server, n *network, library, profile string) *libraryClient {
	t.Helper()
	return &libraryClient{s: s, library: library, directory: s.directory(profile), dir: t.TempDir(), network: n}
}

// run runs one step of the client; flags come before what it does.
func (c *libraryClient) run(t *testing.T, flags []string, command string, args ...string) result {
	t.Helper()
	all := append([]string{"-dir", c.dir, "-server", c.directory, "-roots", c.s.rootsFile()}, flags...)
	return run(t, c.dir, nil, clientsBinary, append(append(all, c.library, command), args...)...)
}

// get runs one step, which must succeed, and reads what it returned.
func (c *libraryClient) get(t *testing.T, into any, flags []string, command string, args ...string) result {
	t.Helper()
	r := c.run(t, flags, command, args...).must(t)
	if err := json.Unmarshal([]byte(r.stdout), into); err != nil {
		t.Fatalf("%s: %v\n%s", r.command, err, r.output())
	}
	return r
}

// solving returns the flag that makes the client solve a type of challenge.
func (c *libraryClient) solving(challenge string) []string {
	switch challenge {
	case "http-01":
		return []string{"-http", fmt.Sprintf("127.0.0.1:%d", c.network.httpPort)}
	case "tls-alpn-01":
		return []string{"-tls", fmt.Sprintf("127.0.0.1:%d", c.network.tlsPort)}
	case "dns-01":
		return []string{"-dns", c.network.names.address}
	}
	return nil
}

func (c *libraryClient) chain(name string) string {
	return filepath.Join(c.dir, strings.Replace(name, "*", "_", 1)+".crt")
}

// leaf returns the certificate that the client has for a name.
func (c *libraryClient) leaf(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	return certificates(t, readFile(t, c.chain(name)))[0]
}

// with makes a profile with any setting of the API.
func (s *server) with(t *testing.T, id string, settings map[string]any) {
	t.Helper()
	settings["id"] = id
	status, answer := s.api(t, http.MethodPost, "/profiles", settings)
	if status != http.StatusCreated {
		t.Fatalf("profile %s: status %d\n%s", id, status, answer)
	}
}

// authorizedBy returns how the names of the newest order for a name were
// authorized, sorted.
func (s *server) authorizedBy(t *testing.T, name string) []string {
	t.Helper()
	var orders struct{ Items []struct{ ID string } }
	s.decode(t, &orders, "order", "list", "--name", name)
	if len(orders.Items) == 0 {
		t.Fatalf("no order for %s", name)
	}
	var order struct{ Authorizations []struct{ Attempted string } }
	s.decode(t, &order, "order", "show", orders.Items[0].ID)
	var by []string
	for _, authz := range order.Authorizations {
		by = append(by, authz.Attempted)
	}
	slices.Sort(by)
	return by
}

// decode reads what a command of certctl prints in JSON.
func (s *server) decode(t *testing.T, into any, args ...string) {
	t.Helper()
	r := s.certctl(t, append(args, "--json")...).must(t)
	if err := json.Unmarshal([]byte(r.stdout), into); err != nil {
		t.Fatalf("%s: %v\n%s", r.command, err, r.output())
	}
}

// verifyFor has openssl verify a chain for names and addresses, which must be all
// that the certificate is for.
func (s *server) verifyFor(t *testing.T, chainFile string, names ...string) {
	t.Helper()
	leaf := certificates(t, readFile(t, chainFile))[0]
	has := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		has = append(has, ip.String())
		s.openssl(t, chainFile, "-verify_ip", ip.String()).must(t)
	}
	for _, name := range leaf.DNSNames {
		s.openssl(t, chainFile, "-verify_hostname", strings.Replace(name, "*", "any", 1)).must(t)
	}
	slices.Sort(has)
	if want := slices.Sorted(slices.Values(names)); !slices.Equal(has, want) {
		t.Errorf("the certificate is for %q, want %q", has, want)
	}
}

// TestChallenges has every client solve every challenge that it knows.
func TestChallenges(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	s := startServer(t, n.flags()...)
	s.with(t, "prof-test", map[string]any{
		"acme_auth_mode": "challenge", "allowed_domains": []string{".example.com"},
		"allow_wildcards": true, "allowed_ip_ranges": []string{"127.0.0.1/32"},
	})
	n.names.add(t, "_acme-challenge.alias.example.com. 1 IN CNAME alias.validation.example.com.")
	for _, tt := range []struct {
		library, challenge string
		names              []string
	}{
		{"lego", "http-01", []string{"http.example.com", "www.http.example.com"}},
		{"lego", "dns-01", []string{"dns.example.com", "www.dns.example.com"}},
		{"lego", "dns-01", []string{"*.wild.example.com"}},
		{"lego", "dns-01", []string{"both.example.com", "*.both.example.com"}}, // two records at one name
		{"lego", "dns-01", []string{"alias.example.com"}},
		{"lego", "tls-alpn-01", []string{"tls.example.com", "www.tls.example.com"}},
		{"lego", "http-01", []string{"127.0.0.1"}},
		{"lego", "tls-alpn-01", []string{"127.0.0.1"}},
		{"lego", "http-01", []string{"mixed.example.com", "127.0.0.1"}},
		{"acmez", "http-01", []string{"acmez.example.com"}},
		{"acmez", "tls-alpn-01", []string{"tls.acmez.example.com", "www.acmez.example.com"}},
		{"acmez", "tls-alpn-01", []string{"127.0.0.1"}},
		{"xcrypto", "http-01", []string{"xcrypto.example.com", "www.xcrypto.example.com"}},
	} {
		t.Run(tt.library+" "+tt.challenge+" "+strings.Join(tt.names, " "), func(t *testing.T) {
			c := newClient(t, s, n, tt.library, "prof-test")
			c.run(t, c.solving(tt.challenge), "obtain", tt.names...).must(t)
			s.verifyFor(t, c.chain(tt.names[0]), tt.names...)
			if by := s.authorizedBy(t, tt.names[0]); !slices.Equal(by, slices.Repeat([]string{tt.challenge}, len(tt.names))) {
				t.Errorf("authorized by %q", by)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		c := newClient(t, s, n, "lego", "prof-test")
		c.run(t, c.solving("http-01"), "obtain", "*.http.example.com").mustFail(t, "could not determine solvers") // dns-01 alone is offered
		c.run(t, c.solving("http-01"), "obtain", "127.0.0.2").mustFail(t, "rejectedIdentifier", "127.0.0.2")
		c.run(t, c.solving("tls-alpn-01"), "obtain", "127.0.0.1", "*.com").mustFail(t, "rejectedIdentifier")
	})
}

// TestProfilesAreSelected has clients choose among the profiles that a directory
// offers (draft-ietf-acme-profiles).
func TestProfilesAreSelected(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	s := startServer(t, n.flags()...)
	challenge := func(more map[string]any) map[string]any {
		more["acme_auth_mode"], more["allowed_domains"] = "challenge", []string{".example.com"}
		return more
	}
	s.with(t, "short", challenge(map[string]any{"max_ttl_seconds": 3600, "name": "One hour"}))
	s.with(t, "hidden", challenge(map[string]any{}))
	s.with(t, "front", challenge(map[string]any{"max_ttl_seconds": 86400, "offered_profiles": []string{"short"}}))

	var meta struct{ Profiles map[string]string }
	newClient(t, s, n, "lego", "front").get(t, &meta, nil, "meta")
	if len(meta.Profiles) != 2 || meta.Profiles["front"] == "" || !strings.Contains(meta.Profiles["short"], "One%20hour") {
		t.Errorf("the directory offers %q", meta.Profiles)
	}
	for _, library := range []string{"lego", "acmez", "xcrypto"} {
		t.Run(library, func(t *testing.T) {
			c := newClient(t, s, n, library, "front")
			name := library + ".example.com"
			for profile, hours := range map[string]float64{"short": 1, "front": 24, "": 24} {
				flags := c.solving("http-01")
				if profile != "" {
					flags = append(flags, "-profile", profile)
				}
				c.run(t, flags, "obtain", name).must(t)
				s.verifyFor(t, c.chain(name), name)
				leaf := c.leaf(t, name)
				if life := leaf.NotAfter.Sub(leaf.NotBefore).Hours(); life < 0.9*hours || life > 1.1*hours {
					t.Errorf("profile %q: the certificate lives %.1f hours, want %v", profile, life, hours)
				}
				if profile == "short" {
					s.mustTell(t, []string{"cert", "show", serialOf(leaf)}, "short")
				}
			}
		})
	}
	// The others look the name up in the directory and do not even ask.
	c := newClient(t, s, n, "lego", "front")
	c.run(t, append(c.solving("http-01"), "-profile", "hidden"), "obtain", "lego.example.com").
		mustFail(t, "invalidProfile", "hidden")
}

// TestSelectedProfileKeepsItsDirectory holds that whoever selected a profile in
// one directory is served there to the end: renewal information, renewal and
// revocation.
func TestSelectedProfileKeepsItsDirectory(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	s := startServer(t, n.flags()...)
	domains := []string{".example.com"}
	s.with(t, "short", map[string]any{"acme_auth_mode": "challenge", "allowed_domains": domains})
	s.with(t, "front", map[string]any{"acme_auth_mode": "challenge", "allowed_domains": domains, "offered_profiles": []string{"short"}})
	c := newClient(t, s, n, "lego", "front")
	flags := append(c.solving("http-01"), "-profile", "short")
	c.run(t, flags, "obtain", "kept.example.com").must(t)
	c.run(t, nil, "renewal-info", "kept.example.com").must(t)
	c.run(t, flags, "renew", "kept.example.com").must(t)
	c.run(t, nil, "revoke", "kept.example.com").must(t)
	s.mustBeRevoked(t, c.chain("kept.example.com"), "Superseded")
}

// eab makes an external account key and returns the flags that use it.
func (s *server) eab(t *testing.T, profile string) []string {
	t.Helper()
	var key struct {
		KeyID   string `json:"kid"`
		HMACKey string `json:"hmac_key"`
	}
	s.decode(t, &key, "eab", "create", "--profile", profile)
	return []string{"-kid", key.KeyID, "-hmac", key.HMACKey}
}

// TestExternalAccounts binds accounts to keys of the operator.
func TestExternalAccounts(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	s := startServer(t, n.flags()...)
	s.with(t, "bound", map[string]any{"acme_auth_mode": "challenge", "allowed_domains": []string{".example.com"}, "eab_required": true})
	for _, library := range []string{"lego", "acmez"} {
		t.Run(library, func(t *testing.T) {
			name := library + ".example.com"
			c := newClient(t, s, n, library, "bound")
			flags := s.eab(t, "bound")
			c.run(t, append(c.solving("http-01"), flags...), "obtain", name).must(t)
			s.verifyFor(t, c.chain(name), name)

			again := newClient(t, s, n, library, "bound") // the key was for one account
			again.run(t, flags, "register").mustFail(t, "acme:error:unauthorized")
			unknown := newClient(t, s, n, library, "bound")
			unknown.run(t, []string{"-kid", "nobody", "-hmac", flags[3]}, "register").mustFail(t, "acme:error:unauthorized")
			without := newClient(t, s, n, library, "bound")
			without.run(t, nil, "register").mustFail(t, "externalAccountRequired")
		})
	}
	t.Run("account of another profile", func(t *testing.T) {
		s.with(t, "free", map[string]any{"acme_auth_mode": "challenge", "allowed_domains": []string{".example.com"}})
		c := newClient(t, s, n, "lego", "free")
		c.run(t, nil, "register").must(t)
		c.directory = s.directory("bound")
		c.run(t, c.solving("http-01"), "obtain", "later.example.com").mustFail(t, "acme:error:unauthorized", "bound")
		var account string
		c.get(t, &account, nil, "register")
		flags := s.eab(t, "bound")
		s.certctl(t, "eab", "bind", flags[1], account[strings.LastIndexByte(account, '/')+1:]).must(t)
		c.run(t, c.solving("http-01"), "obtain", "later.example.com").must(t)
	})
}

// TestKeyRollover changes the key of an account (RFC 8555, Section 7.3.5).
func TestKeyRollover(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	s := startServer(t, n.flags()...)
	s.profile(t, "prof-test", "challenge", ".example.com")
	for _, library := range []string{"lego", "xcrypto", "acmez"} {
		t.Run(library, func(t *testing.T) {
			name := library + ".example.com"
			c := newClient(t, s, n, library, "prof-test")
			c.run(t, c.solving("http-01"), "obtain", name).must(t)
			first := c.leaf(t, name)
			old := newClient(t, s, n, library, "prof-test")
			writeFile(t, readFile(t, c.dir, "account.json"), old.dir, "account.json")

			var before, after string
			c.get(t, &before, nil, "register")
			c.get(t, &after, nil, "rollover")
			if before != after {
				t.Errorf("the account was %s and is %s", before, after)
			}
			if readFile(t, c.dir, "account.json") == readFile(t, old.dir, "account.json") {
				t.Error("the client has the old key")
			}
			// The old key is worth nothing, the new one all.
			old.run(t, old.solving("http-01"), "obtain", name).mustFail(t, "acme:error:")
			c.run(t, c.solving("http-01"), "obtain", name).must(t)
			if second := c.leaf(t, name); first.SerialNumber.Cmp(second.SerialNumber) == 0 {
				t.Error("no new certificate")
			}
			if library == "lego" {
				c.run(t, nil, "account").must(t)
				c.run(t, nil, "revoke", name).must(t)
				c.run(t, nil, "deactivate").must(t)
				c.run(t, nil, "account").mustFail(t, "acme:error:")
			}
		})
	}
	if events := s.events(t, "action=acme_account_key_rolled"); len(events) != 3 {
		t.Errorf("%d events tell a key change", len(events))
	}
}

// TestAuthorizations makes authorizations before orders, uses them again and
// gives them up (RFC 8555, Sections 7.4.1 and 7.5.2).
func TestAuthorizations(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	s := startServer(t, n.flags()...)
	s.with(t, "reuse", map[string]any{
		"acme_auth_mode": "challenge", "allowed_domains": []string{".example.com"}, "authz_reuse_seconds": 3600,
	})
	s.profile(t, "once", "challenge", ".example.com")

	type authorization struct{ URL, Status string }
	type order struct {
		Status         string
		Authorizations []authorization
	}
	const name = "early.example.com"
	c := newClient(t, s, n, "xcrypto", "reuse")
	var proven, given authorization
	c.get(t, &proven, c.solving("http-01"), "authorize", name)
	if proven.Status != "valid" {
		t.Fatalf("%+v", proven)
	}
	t.Run("used by an order", func(t *testing.T) {
		var o order
		c.get(t, &o, nil, "order", name)
		if o.Status != "ready" || len(o.Authorizations) != 1 || o.Authorizations[0].Status != "valid" {
			t.Errorf("%+v", o)
		}
		c.run(t, nil, "obtain", name).must(t) // nothing answers challenges
		s.verifyFor(t, c.chain(name), name)
	})
	t.Run("of another account", func(t *testing.T) {
		var o order
		newClient(t, s, n, "xcrypto", "reuse").get(t, &o, nil, "order", name)
		if o.Status != "pending" {
			t.Errorf("%+v", o)
		}
	})
	t.Run("given up", func(t *testing.T) {
		var o order
		c.get(t, &o, nil, "order", name)
		for _, authz := range o.Authorizations {
			c.get(t, &given, nil, "deactivate-authorization", authz.URL)
			if given.Status != "deactivated" {
				t.Errorf("%+v", given)
			}
		}
		c.get(t, &o, nil, "order", name)
		if o.Status != "pending" {
			t.Errorf("after deactivation: %+v", o)
		}
	})
	t.Run("asked for again", func(t *testing.T) {
		var first, second authorization
		c.get(t, &first, c.solving("http-01"), "authorize", "again.example.com")
		c.get(t, &second, nil, "authorize", "again.example.com")
		if first.Status != "valid" || second.Status != "valid" {
			t.Errorf("%+v, then %+v", first, second)
		}
	})
	t.Run("given up by lego after use", func(t *testing.T) {
		l := newClient(t, s, n, "lego", "reuse")
		l.run(t, append(l.solving("http-01"), "-give-up-authorizations"), "obtain", "lego.example.com").must(t)
		l.run(t, nil, "obtain", "lego.example.com").mustFail(t, "could not determine solvers")
		l.run(t, l.solving("http-01"), "obtain", "lego.example.com").must(t)
		l.run(t, nil, "obtain", "lego.example.com").must(t) // it was kept this time
	})
	t.Run("not offered", func(t *testing.T) {
		newClient(t, s, n, "xcrypto", "once").run(t, nil, "authorize", name).mustFail(t, "pre-authorization")
	})
}

// TestCAA holds that CAA records are obeyed where a profile says so (RFC 8659,
// RFC 8657), and not asked for elsewhere.
func TestCAA(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	s := startServer(t, append(n.flags(), "--acme-server-caa-identities", "ca.example.net")...)
	for _, mode := range []string{"enforce", "report", "off"} {
		s.with(t, mode, map[string]any{
			"acme_auth_mode": "challenge", "allowed_domains": []string{".example.com"}, "allow_wildcards": true, "caa": mode,
		})
	}
	n.names.add(t,
		`nobody.example.com. 1 IN CAA 0 issue ";"`,
		`other.example.com. 1 IN CAA 0 issue "other.example.net"`,
		`ours.example.com. 1 IN CAA 0 issue "ca.example.net"`,
		`ours.example.com. 1 IN CAA 0 issuewild "other.example.net"`,
		`wild.example.com. 1 IN CAA 0 issue ";"`,
		`wild.example.com. 1 IN CAA 0 issuewild "ca.example.net"`,
		`dnsonly.example.com. 1 IN CAA 0 issue "ca.example.net; validationmethods=dns-01"`,
		`critical.example.com. 1 IN CAA 128 unheardof "x"`,
	)
	n.names.fail("broken.example.com.")
	off := newClient(t, s, n, "lego", "off")
	off.run(t, off.solving("http-01"), "obtain", "nobody.example.com").must(t)
	if asked := n.names.count(dns.TypeCAA); asked != 0 {
		t.Errorf("%d questions for CAA records that nobody obeys", asked)
	}
	for _, tt := range []struct {
		challenge, name string
		problem         string // "": issued
	}{
		{"http-01", "free.example.com", ""},
		{"http-01", "nobody.example.com", "caa"},
		{"http-01", "below.nobody.example.com", "caa"},
		{"http-01", "other.example.com", "caa"},
		{"http-01", "ours.example.com", ""},
		{"http-01", "below.ours.example.com", ""},
		{"dns-01", "*.ours.example.com", "caa"},
		{"dns-01", "wild.example.com", "caa"},
		{"dns-01", "*.wild.example.com", ""},
		{"http-01", "dnsonly.example.com", "caa"},
		{"dns-01", "dnsonly.example.com", ""},
		{"http-01", "critical.example.com", "caa"},
		{"http-01", "below.broken.example.com", "dns"},
	} {
		t.Run(tt.challenge+" "+tt.name, func(t *testing.T) {
			c := newClient(t, s, n, "lego", "enforce")
			ran := c.run(t, c.solving(tt.challenge), "obtain", tt.name)
			if tt.problem != "" {
				ran.mustFail(t, "acme:error:"+tt.problem, "CAA", strings.TrimPrefix(strings.TrimPrefix(tt.name, "*."), "below."))
				if _, err := os.Stat(c.chain(tt.name)); err == nil {
					t.Error("there is a certificate")
				}
				return
			}
			ran.must(t)
			s.verifyFor(t, c.chain(tt.name), tt.name)
		})
	}
	t.Run("reported", func(t *testing.T) {
		c := newClient(t, s, n, "lego", "report")
		c.run(t, c.solving("http-01"), "obtain", "nobody.example.com").must(t)
		if !strings.Contains(s.log.String(), "CAA would forbid this") {
			t.Error("the log does not tell that CAA would forbid it")
		}
	})
}
