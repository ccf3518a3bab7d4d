package admin

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-jose/go-jose/v4/json"
)

const (
	maxBody     = 64 << 10
	bodyTimeout = 10 * time.Second
)

func init() {
	// A field in another case is a typo like any other unknown field.
	huma.ValidateStrictCasing = true
}

// humaConfig describes the API and how its bodies are read and written. Huma's
// own pages are left out: they load scripts from elsewhere.
func humaConfig() huma.Config {
	format := huma.Format{Marshal: writeJSON, Unmarshal: readJSON}
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       "certctl",
				Version:     "1",
				Description: "Administration of a certificate authority that speaks ACME.",
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"apiKey": {Type: "http", Scheme: "bearer", Description: "An API key."},
				},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": format, "json": format},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
	}
}

// readJSON refuses duplicate members and matches the names of members exactly.
func readJSON(data []byte, v any) error { return json.Unmarshal(data, v) }

// writeJSON renders a response before it sends any of it. A client that does not
// take it is gone, which is nobody's error.
func writeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	e := stdjson.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, _ = w.Write(b.Bytes())
	return nil
}

// readBody reads the body of a request within its limits and puts what was read
// in its place.
func readBody(w http.ResponseWriter, r *http.Request) error {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	// Where a connection has no deadlines, the limits of its server remain.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return problem(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", maxBody)
	case err != nil:
		return problem(http.StatusBadRequest, "the body could not be read to its end")
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

// checkTime refuses a time that cannot be meant, before it is compared, stored or
// written: JSON has no years beyond 9999, and a zone may lead there.
func checkTime(field string, t *time.Time) error {
	if t == nil {
		return nil
	}
	if year := t.UTC().Year(); year < 1970 || year > 9998 {
		return problem(http.StatusUnprocessableEntity, "%s: the year is not between 1970 and 9998 in UTC", field)
	}
	return nil
}

// when is a time that may not have come.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
