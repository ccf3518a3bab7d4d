package lifecycle

import (
	"sync"

	"github.com/certctl/certctl/internal/store"
)

// fairQueue hands out validations so that one account with many of them, or with
// many dead hosts, does not hold up the others: accounts take turns, and no
// account has more than half of the slots.
type fairQueue struct {
	mu      sync.Mutex
	changed *sync.Cond
	waiting map[string][]*store.Validation // by account
	turns   []string                       // accounts in waiting, the next first
	running map[string]int                 // slots in use by account
	most    int                            // slots that one account may use
	count   int                            // of all that wait
	closed  bool
}

func newFairQueue(slots int) *fairQueue {
	q := &fairQueue{waiting: map[string][]*store.Validation{}, running: map[string]int{}, most: max(1, slots/2)}
	q.changed = sync.NewCond(&q.mu)
	return q
}

// put adds a validation; false when the queue is full or closed.
func (q *fairQueue) put(v *store.Validation) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.count >= maxQueued {
		return false
	}
	account := v.Authorization.AccountID
	if len(q.waiting[account]) == 0 {
		q.turns = append(q.turns, account)
	}
	q.waiting[account] = append(q.waiting[account], v)
	q.count++
	q.changed.Signal()
	return true
}

// take waits for a validation whose account has its turn; false once closed.
func (q *fairQueue) take() (*store.Validation, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if q.closed {
			return nil, false
		}
		for i, account := range q.turns {
			if q.running[account] >= q.most {
				continue
			}
			list := q.waiting[account]
			v := list[0]
			q.turns = append(q.turns[:i], q.turns[i+1:]...)
			if len(list) == 1 {
				delete(q.waiting, account)
			} else {
				q.waiting[account] = list[1:]
				q.turns = append(q.turns, account)
			}
			q.running[account]++
			q.count--
			return v, true
		}
		q.changed.Wait()
	}
}

// done gives back the slot of a validation that was taken.
func (q *fairQueue) done(v *store.Validation) {
	q.mu.Lock()
	defer q.mu.Unlock()
	account := v.Authorization.AccountID
	if q.running[account]--; q.running[account] == 0 {
		delete(q.running, account)
	}
	q.changed.Signal()
}

func (q *fairQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count
}

// close ends the queue; what waits stays recorded in the store.
func (q *fairQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.changed.Broadcast()
}
