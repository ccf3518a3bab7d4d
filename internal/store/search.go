package store

import (
	"fmt"
	"strings"
)

// Searches. Names, accounts, resources of audit events and a certificate's profile
// are found by indexes, page by page. What else can be asked for, an order's
// profile, actor and action of an event, is looked for from the newest row on: an
// index on them would cost more of the disk than all that finds names, and who
// gives up or asks for too much is interrupted (Store.search).

// filter is what a search asks for. A condition that is not asked for does not
// stand in the statement, so that SQLite can take the index of one that is.
type filter struct {
	conditions []string
	args       []any
}

// where adds a condition on a value, which stands for "?" in it, unless the value
// is empty.
func (f *filter) where(condition, value string) {
	if value == "" {
		return
	}
	f.args = append(f.args, value)
	f.conditions = append(f.conditions, strings.Replace(condition, "?", fmt.Sprintf("$%d", len(f.args)), 1))
}

// statement returns the selection of the rows that meet the conditions, those
// with the highest key first.
func (f *filter) statement(selection, key string, limit int) (sql string, args []any) {
	if len(f.conditions) > 0 {
		selection += " WHERE " + strings.Join(f.conditions, " AND ")
	}
	args = append(f.args, limit)
	return fmt.Sprintf("%s ORDER BY %s DESC LIMIT $%d", selection, key, len(args)), args
}
