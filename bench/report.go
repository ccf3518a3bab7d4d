package bench

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is what came of a run.
type Report struct {
	Mode     Mode    `json:"mode"`
	Clients  int     `json:"clients"`
	Accounts int     `json:"accounts"`
	Names    int     `json:"names_per_order"`
	Orders   int     `json:"orders"` // that were begun
	Issued   int     `json:"issued"` // and ended with a certificate that holds
	Seconds  float64 `json:"seconds"`
	Rate     float64 `json:"certificates_per_second"`
	// Latency is that of whole orders that ended with a certificate.
	Latency          Latency        `json:"latency"`
	RequestsPerOrder float64        `json:"requests_per_order"`
	BadNonces        int            `json:"bad_nonces"`            // requests sent again for one
	Errors           map[string]int `json:"errors"`                // by step and type
	FirstError       string         `json:"first_error,omitempty"` // in full
	DriverCPUPer1000 float64        `json:"driver_cpu_seconds_per_1000"`
	ServerCPUPer1000 float64        `json:"server_cpu_seconds_per_1000,omitempty"`
	ServerRSS        int64          `json:"server_rss_bytes,omitempty"` // at the end
	NewConnections   bool           `json:"new_connections"`            // one for each order
}

// Latency tells how long orders took, in milliseconds.
type Latency struct {
	P50 float64 `json:"p50_ms"`
	P95 float64 `json:"p95_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// Failed is how many orders ended without a certificate that holds.
func (r *Report) Failed() int { return r.Orders - r.Issued }

// String is the report for people.
func (r *Report) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "orders\t%d issued, %d failed in %.2f s (%s, %d clients, %d accounts, %d names an order)\n",
		r.Issued, r.Failed(), r.Seconds, r.Mode, r.Clients, r.Accounts, r.Names)
	fmt.Fprintf(w, "rate\t%.0f certificates/s\n", r.Rate)
	fmt.Fprintf(w, "latency\tp50 %.1f ms, p95 %.1f ms, p99 %.1f ms, max %.1f ms\n", r.Latency.P50, r.Latency.P95, r.Latency.P99, r.Latency.Max)
	fmt.Fprintf(w, "requests\t%.2f an order, %d sent again for badNonce\n", r.RequestsPerOrder, r.BadNonces)
	if r.ServerRSS > 0 {
		fmt.Fprintf(w, "server\t%.2f CPU-s per 1,000 certificates, %.0f MiB\n", r.ServerCPUPer1000, float64(r.ServerRSS)/(1<<20))
	}
	fmt.Fprintf(w, "driver\t%.2f CPU-s per 1,000 certificates\n", r.DriverCPUPer1000)
	for _, kind := range slices.Sorted(maps.Keys(r.Errors)) {
		fmt.Fprintf(w, "error\t%s: %d\n", kind, r.Errors[kind])
	}
	if r.FirstError != "" {
		fmt.Fprintf(w, "\tfirst: %s\n", r.FirstError)
	}
	_ = w.Flush() // into memory
	return b.String()
}

// tally gathers what a report tells, round after round.
type tally struct {
	took      time.Duration
	driver    time.Duration
	orders    int
	requests  int
	badNonces int
	latencies []time.Duration
	errors    map[string]int
	first     *Order // that failed
}

func (t *tally) add(orders []*Order, took, driver time.Duration) {
	t.took += took
	t.driver += driver
	if t.errors == nil {
		t.errors = make(map[string]int)
	}
	for _, o := range orders {
		if !o.began() {
			continue
		}
		t.orders++
		t.requests += o.Requests
		t.badNonces += o.badNonces
		if o.Err == nil {
			t.latencies = append(t.latencies, o.Latency)
			continue
		}
		kind := "other"
		var known *Error
		if errors.As(o.Err, &known) {
			kind = known.Step + " " + known.Type
		}
		t.errors[kind]++
		if t.first == nil || o.started.Before(t.first.started) {
			t.first = o
		}
	}
}

func (t *tally) report(cfg *Config) Report {
	slices.Sort(t.latencies)
	r := Report{
		Mode: cfg.Mode, Clients: cfg.Clients, Accounts: cfg.Accounts, Names: cfg.Names, NewConnections: cfg.NewConnections,
		Orders: t.orders, Issued: len(t.latencies), Seconds: t.took.Seconds(), BadNonces: t.badNonces, Errors: t.errors,
		Latency: Latency{
			P50: percentile(t.latencies, 50), P95: percentile(t.latencies, 95),
			P99: percentile(t.latencies, 99), Max: percentile(t.latencies, 100),
		},
	}
	if t.took > 0 {
		r.Rate = float64(r.Issued) / r.Seconds
	}
	if t.orders > 0 {
		r.RequestsPerOrder = float64(t.requests) / float64(t.orders)
	}
	if r.Issued > 0 {
		r.DriverCPUPer1000 = t.driver.Seconds() * 1000 / float64(r.Issued)
	}
	if t.first != nil {
		r.FirstError = t.first.Err.Error()
	}
	return r
}

// percentile returns, in milliseconds, the least of the sorted values that p
// percent of them do not exceed.
func percentile(sorted []time.Duration, p int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := (len(sorted)*p + 99) / 100
	return sorted[max(rank, 1)-1].Seconds() * 1000
}
