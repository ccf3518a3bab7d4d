package store_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
)

// benchmark runs fn b.N times on that many goroutines and reports, beside time
// and allocations, the processor time that an operation costs.
func benchmark(b *testing.B, goroutines int, fn func(i int) error) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	before := processorTime()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				if err := fn(int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(processorTime()-before)/float64(b.N), "cpu-ns/op")
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// onGoroutines runs a benchmark on a store of its own with one goroutine and
// with 64, of which each has an account.
func onGoroutines(b *testing.B, run func(b *testing.B, w *world, goroutines int, accounts []string)) {
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			w := worldOf(b, open(b, b.TempDir()))
			accounts := make([]string, goroutines)
			for i := range accounts {
				accounts[i] = w.account().ID
			}
			run(b, w, goroutines, accounts)
		})
	}
}

func BenchmarkCreateOrder(b *testing.B) {
	onGoroutines(b, func(b *testing.B, w *world, goroutines int, accounts []string) {
		benchmark(b, goroutines, func(i int) error {
			_, _, err := w.CreateOrder(ctx, newTrusted(accounts[i%len(accounts)]))
			return err
		})
	})
}

func BenchmarkCreateChallengedOrder(b *testing.B) {
	onGoroutines(b, func(b *testing.B, w *world, goroutines int, accounts []string) {
		benchmark(b, goroutines, func(i int) error {
			_, _, err := w.CreateOrder(ctx, newChallenged(accounts[i%len(accounts)], "a.test"))
			return err
		})
	})
}

// BenchmarkClaimFinish is what an issuance writes behind its order.
func BenchmarkClaimFinish(b *testing.B) {
	der := make([]byte, 800)
	onGoroutines(b, func(b *testing.B, w *world, goroutines int, accounts []string) {
		orders := make([]*acme.Order, b.N)
		for _, err := range together(64, func(worker int) (err error) {
			for i := worker; i < len(orders) && err == nil; i += 64 {
				orders[i], _, err = w.CreateOrder(ctx, newTrusted(accounts[i%len(accounts)]))
			}
			return err
		}) {
			w.ok(err)
		}
		benchmark(b, goroutines, func(i int) error {
			c := newClaim(orders[i])
			if err := w.ClaimOrder(ctx, c, time.Minute); err != nil {
				return err
			}
			return w.FinishOrder(ctx, c, der)
		})
	})
}

func BenchmarkOrder(b *testing.B) {
	onGoroutines(b, func(b *testing.B, w *world, goroutines int, accounts []string) {
		o, _ := w.place(newChallenged(accounts[0], "a.test"))
		benchmark(b, goroutines, func(int) error {
			_, _, err := w.Order(ctx, o.ID)
			return err
		})
	})
}

func BenchmarkNonce(b *testing.B) {
	onGoroutines(b, func(b *testing.B, w *world, goroutines int, _ []string) {
		benchmark(b, goroutines, func(int) error { return w.SpendNonce(w.NewNonce()) })
	})
}
