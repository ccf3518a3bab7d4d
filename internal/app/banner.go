package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/certctl/certctl/internal/policy"
)

// banner tells what an operator needs next, and what to worry about. The same
// warnings go to the audit log.
func (s *server) banner(ctx context.Context, out io.Writer) error {
	profiles, err := s.store.Profiles(ctx, false)
	if err != nil {
		return err
	}
	warnings := s.warnings(profiles)
	if err := s.store.RecordStart(ctx, map[string]any{"external_urls": s.cfg.ExternalURLs, "warnings": warnings}); err != nil {
		return err
	}
	roots, err := filepath.Abs(s.rootsFile)
	if err != nil {
		return err
	}
	origin := s.cfg.ExternalURLs[0]
	local := s.issuers[localIssuer]

	line := func(label, value string) { fmt.Fprintf(out, "  %-12s %s\n", label, value) }
	fmt.Fprint(out, "\ncertctl is ready.\n\n")
	for _, p := range profiles {
		line("Directory", origin+"/acme/profile/"+p.ID+"/directory")
		line("", reach(p))
	}
	line("Root", roots)
	line("", "also at "+origin+"/roots.pem")
	line("Fingerprint", "SHA-256 "+local.RootFingerprint())
	line("API", origin+"/api/v1")
	if s.newKey != "" {
		line("API key", s.newKey+"  (shown this once)")
	}
	for _, w := range warnings {
		fmt.Fprintf(out, "\n  Note: %s\n", w)
	}
	if command := s.tryIt(origin, roots, profiles); command != "" {
		fmt.Fprintf(out, "\n  Get a first certificate from another terminal:\n\n    %s\n", command)
	}
	if s.newKey != "" {
		fmt.Fprintf(out, "\n  Look at what happened:\n\n    export CERTCTL_API_KEY=%s CERTCTL_ROOTS_FILE=%s\n    %s order list\n", s.newKey, shellQuote(roots), shellQuote(os.Args[0]))
	}
	_, err = fmt.Fprintln(out)
	return err
}

// reach says in a few words what a profile gives.
func reach(p policy.Profile) string {
	what := strings.Join(append(append([]string{}, p.AllowedDomains...), p.AllowedIPRanges...), " ")
	if what == "" {
		what = "what EAB keys name"
	}
	const most = 60
	if len(what) > most {
		what = what[:most] + "…"
	}
	return string(p.AuthMode) + ": " + what
}

// warnings tells what can surprise.
func (s *server) warnings(profiles []policy.Profile) []string {
	warnings := []string{}
	if domains, _ := s.issuers[localIssuer].Permitted(); len(domains) == 0 {
		warnings = append(warnings, "this root has no name constraints: whoever trusts it trusts this server for every name on the Internet. "+
			"To confine it, start in a new data folder with CERTCTL_CA_PERMITTED_DOMAINS.")
	}
	if s.cfg.PublicURL == "" {
		warnings = append(warnings, "CERTCTL_PUBLIC_URL is not set: certificates carry no pointers to a CRL or to their issuer.")
	}
	warnings = append(warnings, openToOthers(s.cfg.DataDir, s.cfg.secretKeyFile())...)
	for _, p := range profiles {
		for _, w := range p.Warnings() {
			warnings = append(warnings, fmt.Sprintf("profile %s: %s", p.ID, w))
		}
	}
	return warnings
}

// openToOthers warns of what only this server's user should read, and others can.
// It may be meant so, as where a group owns a volume, and is not refused.
func openToOthers(paths ...string) []string {
	var warnings []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			continue // it was just opened
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			warnings = append(warnings, fmt.Sprintf("%s is open to other users (mode %04o); if that is not meant: chmod go-rwx %s",
				path, mode, shellQuote(path)))
		}
	}
	return warnings
}

// tryIt returns a command that works when it is pasted, or "" when the first
// profile does not give a name to everybody.
func (s *server) tryIt(origin, roots string, profiles []policy.Profile) string {
	for _, p := range profiles {
		if p.ID != firstProfileID || p.AuthMode != policy.TrustAuthenticated || p.EABRequired || s.cfg.ACMEServer.EABRequired {
			continue
		}
		for _, try := range []struct{ rule, name string }{{".test", "hello.test"}, {".localhost", "hello.localhost"}, {"localhost", "localhost"}} {
			if slices.Contains(p.AllowedDomains, try.rule) {
				return fmt.Sprintf("LEGO_CA_CERTIFICATES=%s lego --server %s/acme/profile/%s/directory \\\n"+
					"      --email you@example.com --accept-tos --http --domains %s --path ./lego run",
					shellQuote(roots), origin, p.ID, try.name)
			}
		}
	}
	return ""
}

// shellQuote quotes a path for a shell when it has to be.
func shellQuote(path string) string {
	if strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
