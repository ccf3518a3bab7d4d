// Package bench is a load driver for ACME servers (RFC 8555): many clients at
// once, each on its own kept connection, order certificates as fast as they are
// answered, and every certificate is downloaded and verified.
//
// What a run measures is the server, so the driver is kept cheap and honest at
// once. Keys, CSRs and accounts are made before the clock runs, certificates are
// verified after it stopped; in between a client only signs requests and waits.
// No two orders share a name, a key or a CSR. The client is not a general one: it
// speaks HTTP/1.1 without redirects or proxies, and ES256.
package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Mode is how an order is authorized.
type Mode string

const (
	// Trust expects orders that are ready when they are made.
	Trust Mode = "trust"
	// HTTP01 answers http-01 challenges (RFC 8555, Section 8.3).
	HTTP01 Mode = "http-01"
)

// Config says what is ordered, by whom and from where.
type Config struct {
	Directory string         // URL of the directory; it names the profile
	Roots     *x509.CertPool // that the server and every certificate must lead to
	Mode      Mode           // "": Trust
	Clients   int            // at once, each with one connection
	Accounts  int            // shared by the clients; 0: one for each
	Orders    int
	Names     int    // per order; 0: 1
	Domain    string // that the names lie below; "": bench.test
	// Listen is where http-01 challenges are answered. The server must find the
	// names there.
	Listen string
	// NewConnections makes a connection for each order instead of keeping one.
	NewConnections bool
	// PID is the server's process, whose CPU time and memory are then told; 0: not.
	PID int
	// Done, when set, is called as each order ends, by its client, before its
	// certificate is verified. The order is the callee's to read from then on; Run
	// itself may set only its Err, until it returns.
	Done func(*Order)
}

func (c *Config) check() error {
	if c.Mode == "" {
		c.Mode = Trust
	}
	if c.Accounts == 0 {
		c.Accounts = c.Clients
	}
	if c.Names == 0 {
		c.Names = 1
	}
	if c.Domain == "" {
		c.Domain = "bench.test"
	}
	switch {
	case c.Mode != Trust && c.Mode != HTTP01:
		return fmt.Errorf("mode %q is none of %s, %s", c.Mode, Trust, HTTP01)
	case c.Mode == HTTP01 && c.Listen == "":
		return errors.New("mode http-01 needs an address to answer challenges on")
	case c.Clients < 1 || c.Accounts < 1 || c.Orders < 1 || c.Names < 1:
		return errors.New("at least one client, account, order and name is needed")
	}
	return nil
}

// round bounds the orders that are prepared, made and verified in one go, and so
// the memory of a long run. The clock stands still between rounds.
const round = 10_000

// load is one run.
type load struct {
	cfg       Config
	run       string // part of every name, so that runs share none
	clients   []*Client
	accounts  []*Account
	responder *responder
	serials   map[string]bool // of every certificate so far
	tally     tally
}

// Run makes the orders of cfg and reports. Orders that fail are part of the
// report; the error is about the run: that it could not begin, or was interrupted,
// which leaves a report about the orders that were made.
func Run(ctx context.Context, cfg Config) (Report, error) {
	if err := cfg.check(); err != nil {
		return Report{}, err
	}
	id := make([]byte, 4)
	rand.Read(id)
	l := &load{cfg: cfg, run: hex.EncodeToString(id), serials: make(map[string]bool)}
	defer l.close()
	if cfg.Mode == HTTP01 {
		var err error
		if l.responder, err = newResponder(cfg.Listen); err != nil {
			return Report{}, err
		}
	}
	if err := l.connect(ctx); err != nil {
		return Report{}, err
	}
	before, err := usageOf(cfg.PID)
	if err != nil {
		return Report{}, err
	}
	for first := 0; first < cfg.Orders && ctx.Err() == nil; first += round {
		if err := l.round(ctx, first, min(round, cfg.Orders-first)); err != nil {
			return Report{}, err
		}
	}
	report := l.tally.report(&cfg)
	// An interrupted run is often one whose server has ended.
	if after, err := usageOf(cfg.PID); err == nil && cfg.PID != 0 && report.Issued > 0 {
		report.ServerCPUPer1000 = (after.cpu - before.cpu).Seconds() * 1000 / float64(report.Issued)
		report.ServerRSS = after.rss
	}
	return report, ctx.Err()
}

// connect opens the connections, and the accounts over them.
func (l *load) connect(ctx context.Context) error {
	l.clients = make([]*Client, l.cfg.Clients)
	err := parallel(len(l.clients), l.cfg.Clients, func(i int) (err error) {
		l.clients[i], err = NewClient(ctx, l.cfg.Directory, l.cfg.Roots)
		return err
	})
	if err != nil {
		return err
	}
	l.accounts = make([]*Account, l.cfg.Accounts)
	return parallel(len(l.clients), len(l.clients), func(i int) error {
		for a := i; a < len(l.accounts); a += len(l.clients) {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				return err
			}
			if l.accounts[a], err = l.clients[i].Register(ctx, key); err != nil {
				return fmt.Errorf("newAccount: %w", err)
			}
		}
		return nil
	})
}

// round makes one round of orders.
func (l *load) round(ctx context.Context, first, count int) error {
	orders := make([]*Order, count)
	err := parallel(count, runtime.GOMAXPROCS(0), func(i int) (err error) {
		orders[i], err = l.prepare(first + i)
		return err
	})
	if err != nil {
		return err
	}
	driver, err := usageOf(selfPID)
	if err != nil {
		return err
	}
	began := time.Now()
	var next atomic.Int64
	var working sync.WaitGroup
	for _, c := range l.clients {
		working.Go(func() {
			for i := int(next.Add(1)) - 1; i < count && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				l.order(ctx, c, orders[i])
			}
		})
	}
	working.Wait()
	took := time.Since(began)
	after, err := usageOf(selfPID)
	if err != nil {
		return err
	}
	_ = parallel(count, runtime.GOMAXPROCS(0), func(i int) error {
		if o := orders[i]; o.began() && o.Err == nil {
			o.Err = o.verify(l.cfg.Roots)
		}
		return nil
	})
	l.checkSerials(orders)
	l.tally.add(orders, took, after.cpu-driver.cpu)
	return nil
}

// checkSerials refuses a serial that came twice.
func (l *load) checkSerials(orders []*Order) {
	for _, o := range orders {
		if !o.began() || o.Err != nil {
			continue
		}
		if l.serials[o.Serial] {
			o.Err = &Error{Step: "verify", Type: "certificate", Detail: "the serial " + o.Serial + " came twice"}
		}
		l.serials[o.Serial] = true
	}
}

func (l *load) close() {
	for _, c := range l.clients {
		if c != nil {
			c.Close()
		}
	}
	if l.responder != nil {
		l.responder.close()
	}
}

// parallel calls f with 0..n-1 on up to workers goroutines and returns the first
// error, after which the calls that have not begun are left out.
func parallel(n, workers int, f func(int) error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var working sync.WaitGroup
	for range min(n, workers) {
		working.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && failed.Load() == nil; i = int(next.Add(1)) - 1 {
				if err := f(i); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	working.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}
