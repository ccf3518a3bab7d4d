package admin

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

// Profile is a profile as the API shows it.
type Profile struct {
	policy.Profile
	Warnings []string `json:"warnings" nullable:"false" doc:"What is allowed but worth a second look."`
}

// NewProfile is a profile to be created. What it leaves out has the server's
// defaults.
type NewProfile struct {
	ID string `json:"id" doc:"Part of the profile's URLs: lower-case letters, digits and hyphens."`
	policy.ProfilePatch
}

// profilePatch is a partial update of a profile.
type profilePatch struct{ policy.ProfilePatch }

// TransformSchema tells what the fields mean.
func (Profile) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return describeProfile(s)
}

// TransformSchema tells what the fields mean.
func (NewProfile) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return describeProfile(s)
}

// TransformSchema tells what the fields mean.
func (profilePatch) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return describeProfile(s)
}

// describeProfile adds to a schema what package policy, which knows nothing of
// OpenAPI, cannot say in its types.
func describeProfile(s *huma.Schema) *huma.Schema {
	for field, text := range map[string]string{
		"name":                        "For people; the id when empty.",
		"issuer_id":                   "Who signs.",
		"revision":                    "Counts the changes.",
		"acme_auth_mode":              "Whether an authenticated account may have any name that the profile allows, or has to prove control of it.",
		"max_ttl_seconds":             "The longest life of a certificate.",
		"default_ttl_seconds":         "The life of a certificate when the client asks for none; 0: max_ttl_seconds.",
		"allowed_domains":             "example.com: that name. *.example.com: one label below. .example.com: the name and everything below. *: any.",
		"denied_domains":              "As allowed_domains, and stronger.",
		"allowed_ip_ranges":           "CIDR ranges. None: no certificates for addresses.",
		"allow_wildcards":             "Wildcard names may be ordered, where allowed_domains covers all they stand for.",
		"allow_open":                  "It is meant that every account may have every name.",
		"challenge_types":             "What proves control of a name, in the mode challenge.",
		"key_types":                   "The keys that certificates may have.",
		"ext_key_usages":              "What certificates may be used for.",
		"lint_sources":                "What certificates are held against before they are signed; the sources that are there without being named cannot be left out.",
		"authz_reuse_seconds":         "How long after its validation an authorization may serve further orders of its account; 0: never.",
		"caa":                         "Whether the names' CAA records are asked and obeyed: off, report or enforce.",
		"no_revocation_below_seconds": "Certificates that live shorter are published on no CRL and by no OCSP (RFC 9608); 0: none are.",
		"subdomain_auth":              "Clients may ask for an authorization by dns-01 to cover the names below its own (RFC 9444).",
		"offered_profiles":            "Other profiles that an order under this profile's directory may select.",
		"eab_required":                "Only accounts bound to an external account key for this profile may order.",
	} {
		if p := s.Properties[field]; p != nil {
			p.Description = text
		}
	}
	if p := s.Properties["acme_auth_mode"]; p != nil {
		p.Enum = []any{string(policy.TrustAuthenticated), string(policy.Challenge)}
	}
	items(s, "challenge_types", policy.OfferedChallenges())
	items(s, "key_types", pki.AllKeyTypes)
	items(s, "lint_sources", pki.AllLintSources)
	for _, p := range s.Properties {
		if p.Type == huma.TypeArray {
			p.Nullable = false
		}
	}
	return s
}

// items says which values a list may have.
func items[T ~string](s *huma.Schema, field string, values []T) {
	p := s.Properties[field]
	if p == nil {
		return
	}
	p.Items = &huma.Schema{Type: huma.TypeString}
	for _, v := range values {
		p.Items.Enum = append(p.Items.Enum, string(v))
	}
	p.Items.PrecomputeMessages()
}

type (
	profileOutput struct {
		ETag string `header:"ETag" doc:"The profile's revision, for If-Match."`
		Body Profile
	}
	profilePath struct {
		ID string `path:"id"`
	}
	listProfilesInput struct {
		Archived bool `query:"archived" doc:"List the archived profiles too."`
	}
	createProfileInput struct{ Body NewProfile }
	updateProfileInput struct {
		ID      string `path:"id"`
		IfMatch string `header:"If-Match" doc:"The ETag of the profile that the change was made for; another one is not changed."`
		Body    profilePatch
	}
)

func (a *API) registerProfiles() {
	tags := []string{"Profiles"}
	register(a, huma.Operation{OperationID: "create-profile", Method: http.MethodPost, Path: "/profiles", Tags: tags,
		Summary: "Create a profile", DefaultStatus: http.StatusCreated, Errors: []int{http.StatusConflict}}, a.createProfile)
	register(a, huma.Operation{OperationID: "list-profiles", Method: http.MethodGet, Path: "/profiles", Tags: tags,
		Summary: "List profiles, by id"}, a.listProfiles)
	register(a, huma.Operation{OperationID: "get-profile", Method: http.MethodGet, Path: "/profiles/{id}", Tags: tags,
		Summary: "Show a profile, archived or not", Errors: []int{http.StatusNotFound}}, a.getProfile)
	register(a, huma.Operation{OperationID: "update-profile", Method: http.MethodPatch, Path: "/profiles/{id}", Tags: tags,
		Summary: "Change a profile", Description: "Fields that are left out or null stay as they are.",
		Errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed}}, a.updateProfile)
	register(a, huma.Operation{OperationID: "delete-profile", Method: http.MethodDelete, Path: "/profiles/{id}", Tags: tags,
		Summary: "Archive a profile", Description: "Nothing more is ordered under it. What it issued stays known, and its id taken.",
		DefaultStatus: http.StatusNoContent, Errors: []int{http.StatusNotFound, http.StatusConflict}}, a.archiveProfile)
}

func showProfile(p policy.Profile) Profile {
	view := Profile{Profile: p, Warnings: p.Warnings()}
	if view.Warnings == nil {
		view.Warnings = []string{}
	}
	return view
}

func etag(revision int64) string { return strconv.Quote(strconv.FormatInt(revision, 10)) }

// profile answers with the profile as it is stored now.
func (a *API) profile(ctx context.Context, id string) (*profileOutput, error) {
	p, err := a.cfg.Store.StoredProfile(ctx, id)
	if err != nil {
		return nil, missing(err, "profile", id)
	}
	return &profileOutput{ETag: etag(p.Revision), Body: showProfile(p)}, nil
}

func (a *API) getProfile(ctx context.Context, in *profilePath) (*profileOutput, error) {
	return a.profile(ctx, in.ID)
}

func (a *API) listProfiles(ctx context.Context, in *listProfilesInput) (*listOutput[Profile], error) {
	all, err := a.cfg.Store.Profiles(ctx, in.Archived)
	if err != nil {
		return nil, err
	}
	views := make([]Profile, len(all))
	for i, p := range all {
		views[i] = showProfile(p)
	}
	return wholeList(views), nil
}

// checkProfile brings a profile into its canonical form and judges it.
func (a *API) checkProfile(p *policy.Profile) error {
	if err := p.Normalize(); err != nil {
		return refused(err)
	}
	constraints, known := a.cfg.Constraints(p.IssuerID)
	if !known {
		return problem(http.StatusUnprocessableEntity, "issuer_id: there is no issuer %q", p.IssuerID)
	}
	if err := p.Validate(constraints); err != nil {
		return refused(err)
	}
	return nil
}

func (a *API) createProfile(ctx context.Context, in *createProfileInput) (*profileOutput, error) {
	p := a.cfg.Defaults().Apply(in.Body.ProfilePatch)
	p.ID = in.Body.ID
	if in.Body.DefaultTTLSeconds == nil && p.DefaultTTLSeconds > p.MaxTTLSeconds {
		p.DefaultTTLSeconds = 0 // the server's default is not what the request is wrong about
	}
	if err := a.checkProfile(&p); err != nil {
		return nil, err
	}
	_, err := a.cfg.Store.CreateProfile(ctx, actor(ctx), p)
	if errors.Is(err, store.ErrExists) {
		return nil, problem(http.StatusConflict, "the id %q is taken, perhaps by an archived profile", p.ID)
	}
	if err != nil {
		return nil, err
	}
	return a.profile(ctx, p.ID)
}

func (a *API) updateProfile(ctx context.Context, in *updateProfileInput) (*profileOutput, error) {
	err := a.tryUpdate(ctx, in)
	if errors.Is(err, store.ErrConflict) {
		err = a.tryUpdate(ctx, in) // on top of the change that came between
	}
	if errors.Is(err, store.ErrConflict) {
		return nil, problem(http.StatusConflict, "the profile %q is being changed by others; try again", in.ID)
	}
	if err != nil {
		return nil, err
	}
	return a.profile(ctx, in.ID)
}

// tryUpdate applies the patch to the newest revision. ErrConflict when that was
// no longer the newest.
func (a *API) tryUpdate(ctx context.Context, in *updateProfileInput) error {
	old, err := a.profileInUse(ctx, in.ID)
	if err != nil {
		return err
	}
	if !matches(in.IfMatch, old.Revision) {
		return problem(http.StatusPreconditionFailed, "the profile %q has changed: its ETag is now %s", in.ID, etag(old.Revision))
	}
	p := old.Apply(in.Body.ProfilePatch)
	if err := a.checkProfile(&p); err != nil {
		return err
	}
	if reflect.DeepEqual(p, old) {
		return nil // a revision of its own would void the orders under way
	}
	_, err = a.cfg.Store.UpdateProfile(ctx, actor(ctx), p)
	return err
}

// matches evaluates If-Match (RFC 9110, Section 13.1.1).
func matches(ifMatch string, revision int64) bool {
	if ifMatch == "" {
		return true
	}
	for tag := range strings.SplitSeq(ifMatch, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || tag == etag(revision) {
			return true
		}
	}
	return false
}

// profileInUse returns a profile that can be changed.
func (a *API) profileInUse(ctx context.Context, id string) (policy.Profile, error) {
	p, err := a.cfg.Store.StoredProfile(ctx, id)
	if err != nil {
		return p, missing(err, "profile", id)
	}
	if p.ArchivedAt != nil {
		return p, problem(http.StatusConflict, "the profile %q is archived", id)
	}
	return p, nil
}

func (a *API) archiveProfile(ctx context.Context, in *profilePath) (*struct{}, error) {
	if _, err := a.profileInUse(ctx, in.ID); err != nil {
		return nil, err
	}
	err := a.cfg.Store.ArchiveProfile(ctx, actor(ctx), in.ID)
	return nil, missing(err, "profile in use", in.ID)
}
