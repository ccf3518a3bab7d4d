package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/policy"
)

// CreateProfile stores a new profile as its first revision. The profile must be
// normalized and valid. ErrExists when the id is taken, by an archived profile
// too: what that one issued must stay told apart.
func (s *Store) CreateProfile(ctx context.Context, actor string, p policy.Profile) (*policy.Rules, error) {
	p.Revision = 1
	p.CreatedAt = s.Now()
	p.UpdatedAt = p.CreatedAt
	spec, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	e := event{actor, audit.ProfileCreated, "profile", p.ID, json.RawMessage(spec)}
	err = s.write(ctx, e, func(t *tx) error {
		err := t.must(ErrExists, `INSERT INTO profiles (id, revision) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING`, p.ID, p.Revision)
		if err != nil {
			return err
		}
		return t.putProfileRevision(actor, p.ID, p.Revision, spec)
	})
	if err != nil {
		return nil, err
	}
	s.profiles.forget(p.ID)
	return s.Profile(ctx, p.ID)
}

// UpdateProfile stores p as the next revision after p.Revision, the one that the
// change was made from. ErrConflict when that is no longer the newest.
func (s *Store) UpdateProfile(ctx context.Context, actor string, p policy.Profile) (*policy.Rules, error) {
	from := p.Revision
	p.Revision++
	p.UpdatedAt = s.Now()
	spec, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	e := event{actor, audit.ProfileUpdated, "profile", p.ID, json.RawMessage(spec)}
	err = s.write(ctx, e, func(t *tx) error {
		err := t.must(ErrConflict, `UPDATE profiles SET revision = $1 WHERE id = $2 AND revision = $3 AND archived_at IS NULL`,
			p.Revision, p.ID, from)
		if err != nil {
			return err
		}
		return t.putProfileRevision(actor, p.ID, p.Revision, spec)
	})
	s.profiles.forget(p.ID)
	if err != nil {
		return nil, err
	}
	return s.Profile(ctx, p.ID)
}

func (t *tx) putProfileRevision(actor, id string, revision int64, spec []byte) error {
	_, err := t.exec(`INSERT INTO profile_revisions (profile_id, revision, spec, created_at, actor) VALUES ($1, $2, $3, $4, $5)`,
		id, revision, string(spec), t.now, actor)
	return err
}

// ArchiveProfile ends a profile: nothing more is ordered under it, and what it
// issued stays known.
func (s *Store) ArchiveProfile(ctx context.Context, actor, id string) error {
	err := s.write(ctx, event{actor, audit.ProfileArchived, "profile", id, nil}, func(t *tx) error {
		return t.must(ErrNotFound, `UPDATE profiles SET archived_at = $1 WHERE id = $2 AND archived_at IS NULL`, t.now, id)
	})
	s.profiles.forget(id)
	return err
}

const selectProfile = `SELECT r.spec, p.revision, p.archived_at, r.created_at,
	(SELECT created_at FROM profile_revisions WHERE profile_id = p.id AND revision = 1)
	FROM profiles p JOIN profile_revisions r ON r.profile_id = p.id AND r.revision = p.revision`

// Profile returns the rules of a profile that is in use; ErrNotFound for an
// archived one. They are shared between requests.
func (s *Store) Profile(ctx context.Context, id string) (*policy.Rules, error) {
	return s.profiles.get(id, func() (*policy.Rules, error) {
		var p policy.Profile
		err := s.read(ctx, func(c *conn) error {
			return c.one(selectProfile+` WHERE p.id = $1 AND p.archived_at IS NULL`, []any{id}, func(r row) (err error) {
				p, err = scanProfile(r)
				return err
			})
		})
		if err != nil {
			return nil, fmt.Errorf("profile %s: %w", id, err)
		}
		p.EABRequired = p.EABRequired || s.cfg.EABRequired
		return policy.Compile(p)
	})
}

// Profiles returns all profiles by id, the archived ones only when asked for.
func (s *Store) Profiles(ctx context.Context, archived bool) ([]policy.Profile, error) {
	all := []policy.Profile{}
	err := s.read(ctx, func(c *conn) error {
		return c.query(selectProfile+` WHERE p.archived_at IS NULL OR $1 ORDER BY p.id`, []any{archived}, func(r row) error {
			p, err := scanProfile(r)
			all = append(all, p)
			return err
		})
	})
	return all, err
}

func scanProfile(r row) (policy.Profile, error) {
	var p policy.Profile
	if err := json.Unmarshal([]byte(r.text(0)), &p); err != nil {
		return p, fmt.Errorf("stored profile: %w", err)
	}
	p.Revision, p.UpdatedAt, p.CreatedAt = r.int(1), r.time(3), r.time(4)
	if at := r.time(2); !at.IsZero() {
		p.ArchivedAt = &at
	}
	return p, nil
}

// APIKey is a key to the admin API; the key itself is stored only as a keyed hash.
type APIKey struct {
	Name       string     `json:"name"`
	Role       Role       `json:"role"`
	CreatedAt  time.Time  `json:"created_at"`
	DisabledAt *time.Time `json:"disabled_at,omitempty"`
}

// Role says what an API key may do.
type Role string

// The roles.
const (
	RoleAdmin   Role = "admin"   // everything
	RoleAuditor Role = "auditor" // read everything, change nothing
)

// CreateAPIKey stores a key as a hash that only the holder of the secret key can
// compute. ErrExists when the name or the key is taken.
func (s *Store) CreateAPIKey(ctx context.Context, actor, name, key string, role Role) error {
	hash := s.secrets.hash(key)
	e := event{actor, audit.APIKeyCreated, "api_key", name, map[string]string{"role": string(role)}}
	return s.write(ctx, e, func(t *tx) error {
		return t.must(ErrExists, `INSERT INTO api_keys (name, hash, role, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
			name, hash, string(role), t.now)
	})
}

// DisableAPIKey ends a key's rights.
func (s *Store) DisableAPIKey(ctx context.Context, actor, name string) error {
	err := s.write(ctx, event{actor, audit.APIKeyDisabled, "api_key", name, nil}, func(t *tx) error {
		return t.must(ErrNotFound, `UPDATE api_keys SET disabled_at = $1 WHERE name = $2 AND disabled_at IS NULL`, t.now, name)
	})
	s.apiKeys.clear()
	return err
}

const selectAPIKey = `SELECT name, role, created_at, disabled_at FROM api_keys`

// APIKeyByKey returns what is known of an enabled key. The cache holds its hash,
// never the key.
func (s *Store) APIKeyByKey(ctx context.Context, key string) (APIKey, error) {
	hash := s.secrets.hash(key)
	return s.apiKeys.get(hash, func() (k APIKey, err error) {
		err = s.read(ctx, func(c *conn) error {
			return c.one(selectAPIKey+` WHERE hash = $1 AND disabled_at IS NULL`, []any{hash}, func(r row) error {
				k = scanAPIKey(r)
				return nil
			})
		})
		return k, err
	})
}

// APIKeys returns all keys by name.
func (s *Store) APIKeys(ctx context.Context) ([]APIKey, error) {
	all := []APIKey{}
	err := s.read(ctx, func(c *conn) error {
		return c.query(selectAPIKey+` ORDER BY name`, nil, func(r row) error {
			all = append(all, scanAPIKey(r))
			return nil
		})
	})
	return all, err
}

func scanAPIKey(r row) APIKey {
	k := APIKey{Name: r.text(0), Role: Role(r.text(1)), CreatedAt: r.time(2)}
	if at := r.time(3); !at.IsZero() {
		k.DisabledAt = &at
	}
	return k
}

// ProfileRevision returns a profile as it was in one revision, archived or not.
func (s *Store) ProfileRevision(ctx context.Context, id string, revision int64) (p policy.Profile, err error) {
	err = s.read(ctx, func(c *conn) error {
		return c.one(`SELECT spec FROM profile_revisions WHERE profile_id = $1 AND revision = $2`, []any{id, revision}, func(r row) error {
			return json.Unmarshal([]byte(r.text(0)), &p)
		})
	})
	if err != nil {
		return p, fmt.Errorf("profile %s, revision %d: %w", id, revision, err)
	}
	return p, nil
}
