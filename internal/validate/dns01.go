package validate

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/certctl/certctl/internal/acme"
)

// DNS01 runs the dns-01 challenge (RFC 8555, Section 8.4).
func (p *Prober) DNS01(ctx context.Context, t Target) Outcome {
	return p.run(ctx, t, (*probe).dns01)
}

func (pr *probe) dns01(ctx context.Context) *failure {
	if pr.name == "" {
		// RFC 8738, Section 7.
		return failf(acme.ErrMalformed, "dns-01 cannot validate an IP address")
	}
	name := "_acme-challenge." + pr.name
	texts, aliased, err := pr.resolver.texts(ctx, pr.trace, name)
	if err != nil {
		return err.failure()
	}
	digest := sha256.Sum256([]byte(pr.KeyAuthorization))
	want := base64.RawURLEncoding.EncodeToString(digest[:])
	switch {
	case slices.Contains(texts, want):
		return nil
	case len(texts) == 0:
		return failf(acme.ErrUnauthorized, "no TXT record found at %s", name)
	}
	// A CNAME may lead into a zone whose contents are not the client's to read.
	found := ""
	if !aliased {
		found = fmt.Sprintf("; the first is %s", quote([]byte(texts[0])))
	}
	return failf(acme.ErrIncorrectResponse, "none of the %d TXT records at %s is %q%s", len(texts), name, want, found)
}
