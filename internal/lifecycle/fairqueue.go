package lifecycle

import (
	"sync"

	"github.com/certctl/certctl/internal/store"
)

// fairQueue hands out validations so that one account with many of them, or with
// many dead hosts, does not hold up the others: accounts take turns, and no
// account has more than half of the slots.
//
// A validation may wait or run for longer than its lease. Then this process takes
// it from the store again, and what is here already goes on under the new lease:
// else it would be probed twice, and each result would come too late.
type fairQueue struct {
	mu      sync.Mutex
	changed *sync.Cond
	here    map[string]*store.Validation   // that wait or run, by authorization
	waiting map[string][]*store.Validation // by account
	turns   []string                       // accounts in waiting, the next first
	running map[string]int                 // slots in use by account
	most    int                            // slots that one account may use
	count   int                            // of all that wait
	closed  bool
}

func newFairQueue(slots int) *fairQueue {
	q := &fairQueue{
		here: map[string]*store.Validation{}, waiting: map[string][]*store.Validation{}, running: map[string]int{}, most: max(1, slots/2),
	}
	q.changed = sync.NewCond(&q.mu)
	return q
}

// full reports the accounts that have as many validations here as one may.
func (q *fairQueue) full() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	accounts := []string{}
	for account, list := range q.waiting {
		if len(list) >= maxQueuedByOne {
			accounts = append(accounts, account)
		}
	}
	return accounts
}

// put adds a validation; false when the queue is closed, or full of others' or of
// this account's.
func (q *fairQueue) put(v *store.Validation) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	if mine, ok := q.here[v.Authorization.ID]; ok {
		mine.Fence = v.Fence
		return true
	}
	account := v.Authorization.AccountID
	if q.count >= maxQueued || len(q.waiting[account]) >= maxQueuedByOne {
		return false
	}
	q.here[v.Authorization.ID] = v
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

// settle ends what take began: the validation has come to a result, which is to
// be recorded under the newest lease.
func (q *fairQueue) settle(v *store.Validation) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.here[v.Authorization.ID] == v {
		delete(q.here, v.Authorization.ID)
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
