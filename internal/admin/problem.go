package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl/certctl/internal/store"
)

// problem is an error that the client is told as it is.
func problem(status int, format string, args ...any) error {
	return huma.NewError(status, fmt.Sprintf(format, args...))
}

// missing turns the store's ErrNotFound into a problem that names what is not
// there.
func missing(err error, kind, id string) error {
	if errors.Is(err, store.ErrNotFound) {
		return problem(http.StatusNotFound, "there is no %s %q", kind, id)
	}
	return err
}

// refused is the problem of a value that its rules do not allow. The rules tell
// one finding a line, and a detail is one line.
func refused(err error) error {
	return problem(http.StatusUnprocessableEntity, "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
}

// answerable turns the error of an operation into one that may be sent. What the
// client is not to blame for goes to the log.
func (a *API) answerable(ctx context.Context, operation string, err error) error {
	var told huma.StatusError
	switch {
	case errors.As(err, &told):
		return err
	case errors.Is(err, store.ErrNotFound):
		return problem(http.StatusNotFound, "%v", err)
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrExists):
		return problem(http.StatusConflict, "%v", err)
	case errors.Is(err, store.ErrClosed), ctx.Err() != nil:
		return problem(http.StatusServiceUnavailable, "the server is shutting down, or the request was given up")
	case errors.Is(err, store.ErrSearchTime):
		return problem(http.StatusServiceUnavailable, "%v; a name, an account or the id of a resource is found at once", err)
	}
	a.cfg.Log.Error("API operation failed", "operation", operation, "error", err)
	return problem(http.StatusInternalServerError, "internal error; the server's log tells more")
}

// writeProblem answers a request that reached no operation.
func (a *API) writeProblem(w http.ResponseWriter, r *http.Request, err error) {
	err = a.answerable(r.Context(), "admission", err)
	status := http.StatusInternalServerError
	var told huma.StatusError
	if errors.As(err, &told) {
		status = told.GetStatus()
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer") // RFC 6750, Section 3
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(told); err != nil {
		a.cfg.Log.Debug("a problem was not sent", "error", err)
	}
}
