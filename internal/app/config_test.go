package app

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

// parse fills a Config as the server command does.
func parse(t *testing.T, args ...string) (*Config, error) {
	t.Helper()
	c := new(Config)
	parser, err := kong.New(c, append(KongOptions(), kong.Name("certctl"))...)
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return c, err
}

func settingsFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "certctl.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestDefaults(t *testing.T) {
	got, err := parse(t)
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		DataDir:      "./data",
		CAName:       "certctl",
		Listen:       ":8443",
		PublicListen: ":8080",
		ExternalURLs: []string{"https://localhost:8443"},
		LogFormat:    "text",
		LogLevel:     "info",
		ACMEServer: ACMEServerConfig{
			Enabled:          true,
			DefaultAuthMode:  "trust_authenticated",
			DefaultProfileID: "default",
			NonceTTL:         5 * time.Minute,
			OrderTTL:         24 * time.Hour,
			AuthzTTL:         24 * time.Hour,
			GCInterval:       time.Minute,
			ARI:              ARIConfig{Enabled: true, PollInterval: 6 * time.Hour},
			Challenge:        ChallengeConfig{HTTP01Concurrency: 64, HTTP01Port: 80, DNS01Concurrency: 64, TLSALPN01Concurrency: 64, TLSALPN01Port: 443},
			RateLimit: RateLimitConfig{OrdersPerHour: 1000, ConcurrentOrders: 300, NewAccountsPerHour: 1000,
				AccountChangesPerHour: 60, KeyChangePerHour: 5, ChallengeRespondsPerHour: 60},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestNames holds that a setting has one name: the flag is the variable in lower case, with dashes.
func TestNames(t *testing.T) {
	parser, err := kong.New(new(Config), KongOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	settings := 0
	for _, flag := range parser.Model.Flags {
		if flag.Name == "help" || flag.Name == "config" {
			continue
		}
		settings++
		want := "CERTCTL_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		if len(flag.Envs) != 1 || flag.Envs[0] != want {
			t.Errorf("--%s has the variables %q, want %s", flag.Name, flag.Envs, want)
		}
		if flag.Help == "" {
			t.Errorf("--%s has no help", flag.Name)
		}
	}
	if settings == 0 {
		t.Error("no settings")
	}
}

func TestPrecedence(t *testing.T) {
	const (
		listenFile = `listen: ":1003"`
		listenEnv  = ":1002"
		listenFlag = "--listen=:1001"
	)
	tests := []struct {
		name string
		file string
		env  string // CERTCTL_LISTEN, unset when ""
		flag string
		want string
	}{
		{"default", "", "", "", ":8443"},
		{"file", listenFile, "", "", ":1003"},
		{"environment", "", listenEnv, "", ":1002"},
		{"flag", "", "", listenFlag, ":1001"},
		{"environment over file", listenFile, listenEnv, "", ":1002"},
		{"flag over file", listenFile, "", listenFlag, ":1001"},
		{"flag over environment", "", listenEnv, listenFlag, ":1001"},
		{"flag over both", listenFile, listenEnv, listenFlag, ":1001"},
		{"flag over a bad file value", "listen: nowhere", "", listenFlag, ":1001"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"--config", settingsFile(t, tt.file)}
			if tt.flag != "" {
				args = append(args, tt.flag)
			}
			if tt.env != "" {
				t.Setenv("CERTCTL_LISTEN", tt.env)
			}
			c, err := parse(t, args...)
			if err != nil {
				t.Fatal(err)
			}
			if c.Listen != tt.want {
				t.Errorf("got %s, want %s", c.Listen, tt.want)
			}
		})
	}
}

// TestEmptyEnvironment holds that a variable set to nothing is set.
func TestEmptyEnvironment(t *testing.T) {
	t.Setenv("CERTCTL_ACME_SERVER_DEFAULT_PROFILE_ID", "")
	t.Setenv("CERTCTL_ACME_SERVER_VALIDATION_DENY_CIDRS", "")
	c, err := parse(t, "--config", settingsFile(t, "acme-server-default-profile-id: other"))
	if err != nil {
		t.Fatal(err)
	}
	if id := c.ACMEServer.DefaultProfileID; id != "" {
		t.Errorf("profile %q, want none", id)
	}
	if deny := c.ACMEServer.Validation.DenyCIDRs; len(deny) != 0 {
		t.Errorf("denied %v, want none", deny)
	}
}

func TestFile(t *testing.T) {
	c, err := parse(t, "--config", settingsFile(t, `
external-url: [https://a.test, https://b.test:8443]
tls-sans: c.test, 192.0.2.1
ca-name: no                     # text, not a boolean
api-key: 0123456789012345       # text, not a number
acme-server-order-ttl: 1h
acme-server:
  enabled: false
  http01-port: 5002
  rate-limit:
    orders-per-hour: 0
  validation-allow-cidrs:
  - 127.0.0.0/8
  - ::1/128
`))
	if err != nil {
		t.Fatal(err)
	}
	got := []any{
		c.ExternalURLs, c.TLSSANs, c.CAName, c.APIKey, c.ACMEServer.OrderTTL, c.ACMEServer.Enabled,
		c.ACMEServer.Challenge.HTTP01Port, c.ACMEServer.RateLimit.OrdersPerHour, c.ACMEServer.Validation.AllowCIDRs,
	}
	want := []any{
		[]string{"https://a.test", "https://b.test:8443"}, []string{"c.test", "192.0.2.1"}, "no", "0123456789012345",
		time.Hour, false, 5002, 0, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestBadFile(t *testing.T) {
	tests := []struct{ name, file, want string }{
		{"not YAML", "{{", "certctl.yaml: yaml: "},
		{"not settings", "- a\n- b", "certctl.yaml:1: want settings, each as NAME: VALUE"},
		{"unknown", "listen: :1\nlistn: :2", `certctl.yaml:2: unknown setting "listn"`},
		{"unknown below", "acme-server:\n  order-tll: 1h", `certctl.yaml:2: unknown setting "acme-server-order-tll"`},
		{"no setting of the file", "config: other.yaml", `certctl.yaml:1: unknown setting "config"`},
		{"twice", "listen: :1\nlisten: :2", `certctl.yaml:2: "listen" is set twice`},
		{"twice, once below", "acme-server-order-ttl: 1h\nacme-server: {order-ttl: 2h}", `"acme-server-order-ttl" is set twice`},
		{"nothing", "listen:", `certctl.yaml:1: "listen" has no plain value`},
		{"list of lists", "tls-sans: [[a.test]]", `certctl.yaml:1: an item of "tls-sans" is not a plain value`},
		{"bad value", "acme-server-order-ttl: 24", `--acme-server-order-ttl: expected duration but got "24"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(t, "--config", settingsFile(t, tt.file))
			checkError(t, err, tt.want)
		})
	}
	t.Run("missing", func(t *testing.T) {
		_, err := parse(t, "--config", filepath.Join(t.TempDir(), "none.yaml"))
		checkError(t, err, "none.yaml: no such file or directory")
	})
}

// TestBadSetting gives each variable what it must refuse. The error names the variable, and is one line.
func TestBadSetting(t *testing.T) {
	const acmeServer = "CERTCTL_ACME_SERVER_"
	tests := []struct{ env, value, want string }{
		{"CERTCTL_DATA_DIR", "", "must not be empty"},
		{"CERTCTL_CA_NAME", "", "must not be empty"},
		{"CERTCTL_CA_NAME", strings.Repeat("x", 54), "is longer than 53 characters"},
		{"CERTCTL_CA_NAME", "a\nb", "holds what is not text"},
		{"CERTCTL_CA_NAME", " a", "begins or ends with space"},
		{"CERTCTL_CA_PERMITTED_DOMAINS", "a.test,*.b.test", `"*.b.test" is not a domain`},
		{"CERTCTL_CA_PERMITTED_DOMAINS", "a_b.test/", "is not a domain"},
		{"CERTCTL_LISTEN", "8443", "is not an address such as :8443"},
		{"CERTCTL_LISTEN", ":https", `port "https" is not between 1 and 65535`},
		{"CERTCTL_LISTEN", ":0", `port "0" is not between 1 and 65535`},
		{"CERTCTL_LISTEN", ":65536", `port "65536" is not between 1 and 65535`},
		{"CERTCTL_LISTEN", "a b:8443", "is neither a host name nor an IP address"},
		{"CERTCTL_PUBLIC_LISTEN", "", "is not an address"},
		{"CERTCTL_PUBLIC_LISTEN", ":8443", "is the same address as CERTCTL_LISTEN"},
		{"CERTCTL_EXTERNAL_URL", "", "must not be empty"},
		{"CERTCTL_EXTERNAL_URL", "https://a.test,http://b.test", `"http://b.test" does not begin with https://`},
		{"CERTCTL_EXTERNAL_URL", "a.test:8443", "does not begin with https://"},
		{"CERTCTL_EXTERNAL_URL", "https://a.test/", "has more than scheme, host and port; write https://a.test"},
		{"CERTCTL_EXTERNAL_URL", "https://a.test/acme", "has more than scheme, host and port"},
		{"CERTCTL_EXTERNAL_URL", "https://user@a.test", "has more than scheme, host and port"},
		{"CERTCTL_EXTERNAL_URL", "https://a.test?", "has more than scheme, host and port"},
		{"CERTCTL_EXTERNAL_URL", "https://", `"" is neither a host name nor an IP address`},
		{"CERTCTL_EXTERNAL_URL", "https://a.test:", `port "" is not between 1 and 65535`},
		{"CERTCTL_EXTERNAL_URL", "https://a.test:99999", `port "99999" is not between 1 and 65535`},
		{"CERTCTL_EXTERNAL_URL", "https://a.test,https://A.test", "is listed twice"},
		{"CERTCTL_PUBLIC_URL", "ftp://a.test", "does not begin with http:// or https://"},
		{"CERTCTL_PUBLIC_URL", "http://a.test/crl", "has more than scheme, host and port"},
		{"CERTCTL_TLS_SANS", "a.test,-b.test", `"-b.test" is neither a domain name nor an IP address`},
		{"CERTCTL_API_KEY", "fifteen-letters", "is shorter than 16 characters"},
		{"CERTCTL_API_KEY", "open sesame, please", "holds characters other than printable ASCII"},
		{"CERTCTL_LOG_FORMAT", "xml", `"xml" is none of text, json`},
		{"CERTCTL_LOG_LEVEL", "", `"" is none of debug, info, warn, error`},

		{acmeServer + "ENABLED", "maybe", "bool value must be true"},
		{acmeServer + "DEFAULT_AUTH_MODE", "trust", `"trust" is none of trust_authenticated, challenge`},
		{acmeServer + "DEFAULT_PROFILE_ID", "a/b", "cannot be the id of a profile"},
		{acmeServer + "TOS_URL", "terms", "is not an http or https URL"},
		{acmeServer + "WEBSITE", "mailto:ca@a.test", "is not an http or https URL"},
		{acmeServer + "WEBSITE", "https:///about", "is neither a host name nor an IP address"},
		{acmeServer + "CAA_IDENTITIES", "*.a.test", "is not a domain name"},
		{acmeServer + "EAB_REQUIRED", "2", "bool value must be true"},
		{acmeServer + "NONCE_TTL", "300", "missing unit in duration"},
		{acmeServer + "NONCE_TTL", "25h", "25h0m0s is not between 1s and 24h0m0s"},
		{acmeServer + "ORDER_TTL", "0s", "0s is not between 1s and"},
		{acmeServer + "ORDER_TTL", "-1h", "is not between"},
		{acmeServer + "AUTHZ_TTL", "1 day", `expected duration but got "1 day"`},
		{acmeServer + "AUTHZ_TTL", "8761h", "is not between"},
		{acmeServer + "GC_INTERVAL", "1ms", "1ms is not between 1s and 24h0m0s"},
		{acmeServer + "HTTP01_CONCURRENCY", "0", "0 is not between 1 and 10000"},
		{acmeServer + "HTTP01_CONCURRENCY", "many", "expected a valid 64 bit int"},
		{acmeServer + "HTTP01_PORT", "65536", "65536 is not between 1 and 65535"},
		{acmeServer + "DNS01_RESOLVER", "192.0.2.53", "is not host:port"},
		{acmeServer + "DNS01_RESOLVER", "192.0.2.53:53,:53", `":53" is not host:port`},
		{acmeServer + "DNS01_RESOLVER", "dns.test:domain", `port "domain"`},
		{acmeServer + "RATE_LIMIT_ORDERS_PER_HOUR", "-1", "-1 is not between 0 and"},
		{acmeServer + "RATE_LIMIT_CONCURRENT_ORDERS", "-1", "-1 is not between 0 and"},
		{acmeServer + "RATE_LIMIT_NEW_ACCOUNTS_PER_HOUR", "-1", "-1 is not between 0 and"},
		{acmeServer + "RATE_LIMIT_ACCOUNT_CHANGES_PER_HOUR", "-1", "-1 is not between 0 and"},
		{acmeServer + "RATE_LIMIT_KEY_CHANGE_PER_HOUR", "-1", "-1 is not between 0 and"},
		{acmeServer + "RATE_LIMIT_CHALLENGE_RESPONDS_PER_HOUR", "-1", "-1 is not between 0 and"},
		{acmeServer + "VALIDATION_ALLOW_CIDRS", "127.0.0.1", `"127.0.0.1" is not a CIDR`},
		{acmeServer + "VALIDATION_ALLOW_CIDRS", "10.1.2.3/8", "has bits behind its length; write 10.0.0.0/8"},
		{acmeServer + "VALIDATION_DENY_CIDRS", "::ffff:10.0.0.0/104", "write an IPv4 range as IPv4"},
	}
	for _, tt := range tests {
		t.Run(tt.env+"="+tt.value, func(t *testing.T) {
			t.Setenv(tt.env, tt.value)
			_, err := parse(t)
			checkError(t, err, tt.want)
			checkError(t, err, tt.env)
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %s", err)
			}
			if strings.HasSuffix(tt.env, "_KEY") && strings.Contains(err.Error(), tt.value) {
				t.Errorf("a secret is told: %s", err)
			}
		})
	}
}

func TestGoodSetting(t *testing.T) {
	tests := []struct{ env, value string }{
		{"CERTCTL_CA_NAME", "Müller & Söhne"},
		{"CERTCTL_CA_PERMITTED_DOMAINS", "a.test, .b.test, localhost"},
		{"CERTCTL_LISTEN", "127.0.0.1:443"},
		{"CERTCTL_LISTEN", "[::1]:8443"},
		{"CERTCTL_PUBLIC_LISTEN", "localhost:80"},
		{"CERTCTL_EXTERNAL_URL", "https://a.test, https://[2001:db8::1]:8443 ,https://192.0.2.1,"},
		{"CERTCTL_PUBLIC_URL", ""},
		{"CERTCTL_PUBLIC_URL", "http://pki.a.test"},
		{"CERTCTL_TLS_SANS", "*.a.test,192.0.2.1,2001:db8::1"},
		{"CERTCTL_API_KEY", "correct-horse-battery-staple"},
		{"CERTCTL_ACME_SERVER_TOS_URL", "https://a.test/terms?v=2#start"},
		{"CERTCTL_ACME_SERVER_RATE_LIMIT_ORDERS_PER_HOUR", "0"},
		{"CERTCTL_ACME_SERVER_DNS01_RESOLVER", "[2001:db8::53]:53,dns.test:5353"},
	}
	for _, tt := range tests {
		t.Run(tt.env+"="+tt.value, func(t *testing.T) {
			t.Setenv(tt.env, tt.value)
			if _, err := parse(t); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBadSettings holds that every bad setting is told, each in its own line.
func TestBadSettings(t *testing.T) {
	c, err := parse(t)
	if err != nil {
		t.Fatal(err)
	}
	c.LogLevel, c.ACMEServer.Challenge.HTTP01Port = "loud", 0
	err = c.Validate()
	checkError(t, err, "CERTCTL_LOG_LEVEL: \"loud\" is none of debug, info, warn, error\n"+
		"CERTCTL_ACME_SERVER_HTTP01_PORT: 0 is not between 1 and 65535")
}

func checkError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", want)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}
