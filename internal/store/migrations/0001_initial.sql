-- Times are Unix milliseconds, except in audit_events. A time that is NULL has
-- not come. Statuses are not stored; they follow from these facts.

CREATE TABLE secrets (
    name       TEXT PRIMARY KEY,
    sealed     BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE issuers (
    id            TEXT PRIMARY KEY,
    kind          TEXT NOT NULL,
    name          TEXT NOT NULL,
    chain         TEXT NOT NULL,   -- PEM: issuing certificate first, root last
    crl_shards    BIGINT NOT NULL, -- certificates point to theirs: never changed; 0: not divided
    default_chain TEXT,            -- of issuer_chains; NULL: its own
    created_at    BIGINT NOT NULL
);

-- Chains to the roots of others, beside each issuer's own.
CREATE TABLE issuer_chains (
    issuer_id  TEXT NOT NULL,
    id         TEXT NOT NULL, -- hash of the chain without its root
    chain      TEXT NOT NULL, -- PEM: certificate of the issuing CA first; root last, where it is known
    created_at BIGINT NOT NULL,
    PRIMARY KEY (issuer_id, id)
);

CREATE TABLE profiles (
    id          TEXT PRIMARY KEY,
    revision    BIGINT NOT NULL,
    archived_at BIGINT
);

CREATE TABLE profile_revisions (
    profile_id TEXT NOT NULL,
    revision   BIGINT NOT NULL,
    spec       TEXT NOT NULL, -- JSON
    created_at BIGINT NOT NULL,
    actor      TEXT NOT NULL,
    PRIMARY KEY (profile_id, revision)
);

CREATE TABLE accounts (
    id              TEXT PRIMARY KEY,
    thumbprint      TEXT NOT NULL UNIQUE,
    jwk             TEXT NOT NULL,
    contacts        TEXT NOT NULL, -- JSON
    terms_agreed_at BIGINT,
    created_at      BIGINT NOT NULL,
    deactivated_at  BIGINT
);

CREATE TABLE eab_keys (
    kid             TEXT PRIMARY KEY,
    sealed          BYTEA NOT NULL,
    profile_ids     TEXT NOT NULL, -- JSON
    allowed_domains TEXT NOT NULL, -- JSON
    binding_limit   BIGINT,        -- how many accounts it can bind; NULL: any number
    created_at      BIGINT NOT NULL,
    expires_at      BIGINT,
    disabled_at     BIGINT
);

CREATE TABLE eab_bindings (
    account_id TEXT NOT NULL,
    kid        TEXT NOT NULL,
    bound_at   BIGINT NOT NULL,
    PRIMARY KEY (account_id, kid)
);
CREATE INDEX eab_bindings_kid ON eab_bindings (kid);

CREATE TABLE orders (
    id                 TEXT PRIMARY KEY,
    account_id         TEXT NOT NULL,
    profile_id         TEXT NOT NULL,
    identifiers        TEXT NOT NULL, -- JSON, with the authorization of each
    not_before         BIGINT,        -- as the client asked
    not_after          BIGINT,
    created_at         BIGINT NOT NULL,
    expires_at         BIGINT NOT NULL,
    replaces           TEXT,          -- certificate identifier of RFC 9773, Section 4.1
    trusted_at         BIGINT,
    deactivated_authzs TEXT,          -- JSON; of a trusted order only
    failed_at          BIGINT,
    problem            TEXT,          -- JSON
    -- What the claim fixes, in its own transaction: all that determines the certificate.
    claimed_at         BIGINT,
    csr                BYTEA,         -- until the certificate is stored
    csr_hash           BYTEA,
    issuer_id          TEXT,
    profile_revision   BIGINT,
    serial             TEXT,
    cert_not_before    BIGINT,
    cert_not_after     BIGINT,
    pointers           TEXT,          -- JSON: the issuer's URLs in it; until the certificate is stored
    -- Who works on the claim: the fencing number rises with each taker.
    fence              BIGINT NOT NULL DEFAULT 0,
    lease_until        BIGINT,
    issued_at          BIGINT
);
CREATE INDEX orders_account ON orders (account_id, id);
-- Operators look for names: each of an order's, newest last.
CREATE TABLE order_names (
    name     TEXT NOT NULL,
    order_id TEXT NOT NULL,
    PRIMARY KEY (name, order_id)
) WITHOUT ROWID;
CREATE INDEX orders_unclaimed ON orders (expires_at) WHERE claimed_at IS NULL;
CREATE INDEX orders_open ON orders (account_id, expires_at) WHERE issued_at IS NULL AND failed_at IS NULL;
CREATE INDEX orders_claimed ON orders (lease_until) WHERE claimed_at IS NOT NULL AND issued_at IS NULL AND failed_at IS NULL;

CREATE TABLE authorizations (
    id              TEXT PRIMARY KEY,
    account_id      TEXT NOT NULL,
    profile_id      TEXT NOT NULL,
    order_id        TEXT NOT NULL, -- that it was made for; empty: none, or one that was swept
    type            TEXT NOT NULL,
    value           TEXT NOT NULL, -- without "*."
    wildcard        BIGINT NOT NULL,
    subdomains      BIGINT NOT NULL, -- covers the names below it too (RFC 9444)
    token           TEXT NOT NULL,
    offered         TEXT NOT NULL, -- challenge types, space separated
    created_at      BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,
    attempted       TEXT,          -- the challenge that was responded to
    attempted_at    BIGINT,
    attempts        BIGINT NOT NULL DEFAULT 0,
    next_attempt_at BIGINT,
    fence           BIGINT NOT NULL DEFAULT 0,
    validated_at    BIGINT,
    caa_checked_at  BIGINT,
    failed_at       BIGINT,
    problem         TEXT,          -- JSON, as the client sees it
    trace           TEXT,          -- JSON, for operators
    deactivated_at  BIGINT
);
CREATE INDEX authorizations_due ON authorizations (next_attempt_at)
    WHERE attempted_at IS NOT NULL AND validated_at IS NULL AND failed_at IS NULL AND deactivated_at IS NULL;
CREATE INDEX authorizations_account ON authorizations (account_id, expires_at);
CREATE INDEX authorizations_order ON authorizations (order_id, expires_at);
CREATE INDEX authorizations_valid ON authorizations (account_id, value) WHERE validated_at IS NOT NULL AND deactivated_at IS NULL;

CREATE TABLE certificates (
    number            INTEGER PRIMARY KEY, -- counts up as they are stored
    serial            TEXT NOT NULL UNIQUE,
    order_id          TEXT,          -- NULL: the server's own
    account_id        TEXT,
    profile_id        TEXT,
    issuer_id         TEXT NOT NULL,
    names             TEXT NOT NULL, -- space separated
    der               BYTEA NOT NULL,
    not_before        BIGINT NOT NULL,
    not_after         BIGINT NOT NULL,
    issued_at         BIGINT NOT NULL,
    no_rev_avail      BIGINT NOT NULL, -- it says that its revocation is published nowhere (RFC 9608)
    revoked_at        BIGINT,
    revocation_reason BIGINT,
    replaced_by       TEXT,          -- order
    -- A renewal window that an operator set in place of the derived one.
    renew_from        BIGINT,
    renew_until       BIGINT,
    renew_url         TEXT           -- that explains it
);
-- Lists for operators: SQLite ends each entry with the number.
CREATE INDEX certificates_account ON certificates (account_id);
CREATE INDEX certificates_profile ON certificates (profile_id);
CREATE TABLE certificate_names (
    name   TEXT NOT NULL,
    number BIGINT NOT NULL,
    PRIMARY KEY (name, number)
) WITHOUT ROWID;
-- All that a CRL is made of.
CREATE INDEX certificates_revoked ON certificates (issuer_id, not_after, serial, revoked_at, revocation_reason, no_rev_avail)
    WHERE revoked_at IS NOT NULL;

CREATE TABLE crls (
    issuer_id   TEXT NOT NULL,
    shard       BIGINT NOT NULL, -- from 1; 0: the complete CRL
    number      BIGINT NOT NULL,
    content     TEXT NOT NULL,   -- hash of what it says, to tell what has changed
    der         BYTEA NOT NULL,
    this_update BIGINT NOT NULL,
    next_update BIGINT NOT NULL,
    PRIMARY KEY (issuer_id, shard)
);

-- Keys whose private half is known to others: reported by revocations.
CREATE TABLE blocked_keys (
    hash       TEXT PRIMARY KEY, -- SHA-256 of the subject public key info, hexadecimal
    serial     TEXT NOT NULL,    -- of the certificate that was revoked
    blocked_at BIGINT NOT NULL
);

CREATE TABLE rate_limits (
    key TEXT PRIMARY KEY,
    tat BIGINT NOT NULL -- theoretical arrival time of the generic cell rate algorithm, microseconds
);

CREATE TABLE api_keys (
    name        TEXT PRIMARY KEY,
    hash        TEXT NOT NULL UNIQUE, -- HMAC-SHA256 of the key under a key derived from the secret key, hexadecimal
    role        TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    disabled_at BIGINT
);

CREATE TABLE server_state (
    key   TEXT PRIMARY KEY,
    value BYTEA NOT NULL
);

CREATE TABLE audit_events (
    id            TEXT PRIMARY KEY,
    actor         TEXT NOT NULL,
    action        TEXT NOT NULL,
    resource_type TEXT NOT NULL,
    resource_id   TEXT NOT NULL,
    details       TEXT NOT NULL,
    created_at    TEXT NOT NULL -- RFC 3339, UTC
);
CREATE INDEX audit_events_resource ON audit_events (resource_id);

CREATE TRIGGER audit_events_no_update BEFORE UPDATE ON audit_events
BEGIN
    SELECT RAISE(ABORT, 'audit_events is append-only');
END;
CREATE TRIGGER audit_events_no_delete BEFORE DELETE ON audit_events
BEGIN
    SELECT RAISE(ABORT, 'audit_events is append-only');
END;
-- INSERT OR REPLACE removes the row in its way without firing the trigger above.
CREATE TRIGGER audit_events_no_replace BEFORE INSERT ON audit_events
WHEN EXISTS (SELECT 1 FROM audit_events WHERE id = NEW.id OR rowid = NEW.rowid)
BEGIN
    SELECT RAISE(ABORT, 'audit_events is append-only');
END;
