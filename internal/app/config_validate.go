package app

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/policy"
)

const (
	// maxCAName leaves room for " Issuing CA" in a common name of 64 characters (RFC 5280, Appendix A).
	maxCAName = 64 - len(" Issuing CA")

	minAPIKey = 16 // characters

	maxLife = 365 * 24 * time.Hour
)

// SettingsError tells what is wrong with a Config, one error per bad setting. Each begins with the setting's
// environment variable.
type SettingsError []error

// Error returns one line per bad setting.
func (e SettingsError) Error() string { return errors.Join(e...).Error() }

func (e *SettingsError) check(env string, err error) {
	if err != nil {
		*e = append(*e, fmt.Errorf("%s: %w", env, err))
	}
}

// Validate returns nil or a SettingsError. Kong calls it when it has filled a Config.
func (c *Config) Validate() error {
	var bad SettingsError
	bad.check("CERTCTL_DATA_DIR", checkSet(c.DataDir))
	bad.check("CERTCTL_CA_NAME", checkCAName(c.CAName))
	bad.check("CERTCTL_CA_PERMITTED_DOMAINS", checkAll(c.CAPermittedDomains, checkDomain))

	bad.check("CERTCTL_LISTEN", checkListen(c.Listen))
	bad.check("CERTCTL_PUBLIC_LISTEN", checkListen(c.PublicListen))
	if c.Listen == c.PublicListen {
		bad.check("CERTCTL_PUBLIC_LISTEN", errors.New("is the same address as CERTCTL_LISTEN"))
	}
	bad.check("CERTCTL_EXTERNAL_URL", checkExternalURLs(c.ExternalURLs))
	bad.check("CERTCTL_PUBLIC_URL", checkOptional(c.PublicURL, func(s string) error { return checkBaseURL(s, "http", "https") }))
	bad.check("CERTCTL_TLS_SANS", checkAll(c.TLSSANs, checkSAN))

	bad.check("CERTCTL_API_KEY", checkOptional(c.APIKey, checkAPIKey))
	bad.check("CERTCTL_LOG_FORMAT", checkOneOf(c.LogFormat, "text", "json"))
	bad.check("CERTCTL_LOG_LEVEL", checkOneOf(c.LogLevel, "debug", "info", "warn", "error"))

	c.ACMEServer.validate(&bad)
	if len(bad) > 0 {
		return bad
	}
	return nil
}

func (c *ACMEServerConfig) validate(bad *SettingsError) {
	bad.check("CERTCTL_ACME_SERVER_DEFAULT_AUTH_MODE", checkOneOf(c.DefaultAuthMode, policy.TrustAuthenticated, policy.Challenge))
	bad.check("CERTCTL_ACME_SERVER_DEFAULT_PROFILE_ID", checkOptional(c.DefaultProfileID, checkProfileID))

	bad.check("CERTCTL_ACME_SERVER_TOS_URL", checkOptional(c.TOSURL, checkPageURL))
	bad.check("CERTCTL_ACME_SERVER_WEBSITE", checkOptional(c.Website, checkPageURL))
	bad.check("CERTCTL_ACME_SERVER_CAA_IDENTITIES", checkAll(c.CAAIdentities, checkName))

	bad.check("CERTCTL_ACME_SERVER_NONCE_TTL", checkBetween(c.NonceTTL, time.Second, 24*time.Hour))
	bad.check("CERTCTL_ACME_SERVER_ORDER_TTL", checkBetween(c.OrderTTL, time.Second, maxLife))
	bad.check("CERTCTL_ACME_SERVER_AUTHZ_TTL", checkBetween(c.AuthzTTL, time.Second, maxLife))
	bad.check("CERTCTL_ACME_SERVER_GC_INTERVAL", checkBetween(c.GCInterval, time.Second, 24*time.Hour))

	bad.check("CERTCTL_ACME_SERVER_ARI_POLL_INTERVAL", checkBetween(c.ARI.PollInterval, time.Minute, 30*24*time.Hour))
	bad.check("CERTCTL_ACME_SERVER_HTTP01_CONCURRENCY", checkBetween(c.Challenge.HTTP01Concurrency, 1, 10_000))
	bad.check("CERTCTL_ACME_SERVER_DNS01_CONCURRENCY", checkBetween(c.Challenge.DNS01Concurrency, 1, 10_000))
	bad.check("CERTCTL_ACME_SERVER_TLSALPN01_CONCURRENCY", checkBetween(c.Challenge.TLSALPN01Concurrency, 1, 10_000))
	bad.check("CERTCTL_ACME_SERVER_TLSALPN01_PORT", checkBetween(c.Challenge.TLSALPN01Port, 1, 65535))
	bad.check("CERTCTL_ACME_SERVER_HTTP01_PORT", checkBetween(c.Challenge.HTTP01Port, 1, 65535))
	bad.check("CERTCTL_ACME_SERVER_DNS01_RESOLVER", checkAll(c.Challenge.DNS01Resolvers, checkHostPort))

	bad.check("CERTCTL_ACME_SERVER_RATE_LIMIT_ORDERS_PER_HOUR", checkBetween(c.RateLimit.OrdersPerHour, 0, 1e9))
	bad.check("CERTCTL_ACME_SERVER_RATE_LIMIT_CONCURRENT_ORDERS", checkBetween(c.RateLimit.ConcurrentOrders, 0, 1e9))
	bad.check("CERTCTL_ACME_SERVER_RATE_LIMIT_NEW_ACCOUNTS_PER_HOUR", checkBetween(c.RateLimit.NewAccountsPerHour, 0, 1e9))
	bad.check("CERTCTL_ACME_SERVER_RATE_LIMIT_ACCOUNT_CHANGES_PER_HOUR", checkBetween(c.RateLimit.AccountChangesPerHour, 0, 1e9))
	bad.check("CERTCTL_ACME_SERVER_RATE_LIMIT_KEY_CHANGE_PER_HOUR", checkBetween(c.RateLimit.KeyChangePerHour, 0, 1e9))
	bad.check("CERTCTL_ACME_SERVER_RATE_LIMIT_CHALLENGE_RESPONDS_PER_HOUR", checkBetween(c.RateLimit.ChallengeRespondsPerHour, 0, 1e9))

	bad.check("CERTCTL_ACME_SERVER_VALIDATION_ALLOW_CIDRS", checkAll(c.Validation.AllowCIDRs, checkPrefix))
	bad.check("CERTCTL_ACME_SERVER_VALIDATION_DENY_CIDRS", checkAll(c.Validation.DenyCIDRs, checkPrefix))
}

func checkSet(s string) error {
	if s == "" {
		return errors.New("must not be empty")
	}
	return nil
}

func checkOptional(s string, check func(string) error) error {
	if s == "" {
		return nil
	}
	return check(s)
}

// checkAll returns the error of the first bad item, so that a bad list is one line too.
func checkAll[T any](items []T, check func(T) error) error {
	for _, item := range items {
		if err := check(item); err != nil {
			return err
		}
	}
	return nil
}

func checkOneOf[T ~string](value T, allowed ...T) error {
	names := make([]string, len(allowed))
	for i, a := range allowed {
		if value == a {
			return nil
		}
		names[i] = string(a)
	}
	return fmt.Errorf("%q is none of %s", value, strings.Join(names, ", "))
}

func checkBetween[T int | time.Duration](value, lowest, highest T) error {
	if value < lowest || value > highest {
		return fmt.Errorf("%v is not between %v and %v", value, lowest, highest)
	}
	return nil
}

func checkCAName(s string) error {
	switch n := utf8.RuneCountInString(s); {
	case n == 0:
		return errors.New("must not be empty")
	case n > maxCAName:
		return fmt.Errorf("is longer than %d characters", maxCAName)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("%q holds what is not text", s)
	case strings.TrimSpace(s) != s:
		return fmt.Errorf("%q begins or ends with space", s)
	}
	return nil
}

// checkName accepts a DNS name that is no wildcard.
func checkName(s string) error {
	id, err := acme.ParseIdentifier("dns", s)
	if err != nil || id.Wildcard() {
		return fmt.Errorf("%q is not a domain name", s)
	}
	return nil
}

// checkDomain accepts a DNS name, with or without a dot in front.
func checkDomain(s string) error {
	if checkName(strings.TrimPrefix(s, ".")) != nil {
		return fmt.Errorf("%q is not a domain such as example.com", s)
	}
	return nil
}

func checkSAN(s string) error {
	if _, err := netip.ParseAddr(s); err == nil {
		return nil
	}
	if _, err := acme.ParseIdentifier("dns", s); err != nil {
		return fmt.Errorf("%q is neither a domain name nor an IP address", s)
	}
	return nil
}

func checkProfileID(s string) error {
	if !policy.ValidID(s) {
		return fmt.Errorf("%q cannot be the id of a profile", s)
	}
	return nil
}

// checkAPIKey never repeats the key: what it returns is logged.
func checkAPIKey(s string) error {
	if len(s) < minAPIKey {
		return fmt.Errorf("is shorter than %d characters; openssl rand -base64 32 makes a good one", minAPIKey)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("holds characters other than printable ASCII")
	}
	return nil
}

func checkListen(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not an address such as :8443 or 192.0.2.1:8443", s)
	}
	if host != "" && checkSAN(host) != nil {
		return fmt.Errorf("%q is neither a host name nor an IP address", host)
	}
	return checkPort(port)
}

func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || checkSAN(host) != nil {
		return fmt.Errorf("%q is not host:port", s)
	}
	return checkPort(port)
}

func checkPort(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != s {
		return fmt.Errorf("port %q is not between 1 and 65535", s)
	}
	return nil
}

func checkExternalURLs(urls []string) error {
	if len(urls) == 0 {
		return errors.New("must not be empty")
	}
	seen := make(map[string]bool)
	for _, s := range urls {
		if err := checkBaseURL(s, "https"); err != nil {
			return err
		}
		if seen[strings.ToLower(s)] {
			return fmt.Errorf("%q is listed twice", s)
		}
		seen[strings.ToLower(s)] = true
	}
	return nil
}

// checkBaseURL accepts scheme://host and scheme://host:port, and nothing behind.
func checkBaseURL(s string, schemes ...string) error {
	u, err := url.Parse(s)
	if err != nil {
		return fmt.Errorf("%q is not a URL", s)
	}
	if err := checkOneOf(u.Scheme, schemes...); err != nil {
		return fmt.Errorf("%q does not begin with %s://", s, strings.Join(schemes, ":// or "))
	}
	if err := checkURLHost(u); err != nil {
		return err
	}
	if want := u.Scheme + "://" + u.Host; s != want {
		return fmt.Errorf("%q has more than scheme, host and port; write %s", s, want)
	}
	return nil
}

// checkPageURL accepts any http or https URL that a person may open.
func checkPageURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil {
		return fmt.Errorf("%q is not an http or https URL", s)
	}
	return checkURLHost(u)
}

func checkURLHost(u *url.URL) error {
	if u.Hostname() == "" || checkSAN(u.Hostname()) != nil {
		return fmt.Errorf("%q is neither a host name nor an IP address", u.Hostname())
	}
	if strings.HasSuffix(u.Host, ":") || u.Port() != "" {
		return checkPort(u.Port())
	}
	return nil
}

func checkPrefix(p netip.Prefix) error {
	if p.Addr().Is4In6() {
		return fmt.Errorf("%s: write an IPv4 range as IPv4", p)
	}
	if p != p.Masked() {
		return fmt.Errorf("%s has bits behind its length; write %s", p, p.Masked())
	}
	return nil
}
