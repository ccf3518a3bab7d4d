package store

import "errors"

var (
	// ErrNotFound means that there is no such row, or none that the caller may see.
	ErrNotFound = errors.New("not found")
	// ErrConflict means that the row is no longer, or not yet, in the state that the
	// change starts from. Nothing was changed.
	ErrConflict = errors.New("conflict: the state has changed meanwhile")
	// ErrExists means that a row with this id is already there.
	ErrExists = errors.New("exists already")
	// ErrClosed means that the store is shutting down. Nothing was changed.
	ErrClosed = errors.New("store is closed")
	// ErrSearchTime means that an operator's search was ended because it took too long.
	ErrSearchTime = errors.New("the search took too long")
	// ErrSecretKey means that the secret key does not open what the database holds.
	ErrSecretKey = errors.New("the secret key does not open this database's secrets")
	// ErrClock means that the database was changed at a time that has not come.
	ErrClock = errors.New("the database is ahead of the clock")
	// ErrLocked means that another process uses the data folder.
	ErrLocked = errors.New("another certctl server uses this data folder")
	// ErrEABKey means that the external account key is unknown, disabled, expired or,
	// being single use, bound to another account already.
	ErrEABKey = errors.New("no such external account key that can be bound")
	// ErrNonce means that a nonce was not made by this server, is too old or was used.
	ErrNonce = errors.New("nonce is unknown, expired or used")
)
