package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
)

// A table is columns of text under headings.
type table struct{ rows []string }

func newTable(headings ...string) *table {
	t := new(table)
	t.row(headings...)
	return t
}

func (t *table) row(cells ...string) {
	for i, cell := range cells {
		if cell = clean(cell); cell == "" {
			cell = "-"
		}
		cells[i] = cell
	}
	t.rows = append(t.rows, strings.Join(cells, "\t"))
}

// field is a row of a table without headings; one without a value is left out.
func (t *table) field(name, value string) {
	if value != "" {
		t.row(name, value)
	}
}

func (t *table) write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if _, err := fmt.Fprintln(tw, strings.Join(t.rows, "\n")); err != nil {
		return err
	}
	return tw.Flush()
}

// clean makes what others wrote harmless to a terminal and to a table.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.TrimSpace(s))
}

// escape makes JSON harmless to a terminal without changing what it says: what is
// not printable, which outside of strings is but the line feed, is written as
// \u escapes. Package json leaves C1 and bidirectional controls as they are.
func escape(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch high, low := utf16.EncodeRune(r); {
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// clip shortens s to n characters.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-3]) + "..."
	}
	return s
}

// few lists some names and counts the others.
func few(names []string) string {
	const shown = 3
	if len(names) <= shown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), len(names)-shown)
}

// relative says how far a time is from now: "3 minutes ago", "in 2 days".
func relative(t, now time.Time) string {
	d := t.Sub(now)
	if d < 0 {
		if text := span(-d); text != "" {
			return text + " ago"
		}
	} else if text := span(d); text != "" {
		return "in " + text
	}
	return "now"
}

// span rounds a duration to its largest unit; below a second it is "".
func span(d time.Duration) string {
	const day = 24 * time.Hour
	for _, unit := range []struct {
		name string
		size time.Duration
		from time.Duration
	}{
		{"day", day, 2 * day},
		{"hour", time.Hour, 2 * time.Hour},
		{"minute", time.Minute, 2 * time.Minute},
		{"second", time.Second, time.Second},
	} {
		if d < unit.from {
			continue
		}
		n := int((d + unit.size/2) / unit.size)
		if n == 1 {
			return "1 " + unit.name
		}
		return fmt.Sprintf("%d %ss", n, unit.name)
	}
	return ""
}

// moment is a time in full; "" for none.
func moment(t *time.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	return fmt.Sprintf("%s (%s)", t.UTC().Format(time.RFC3339), relative(*t, now))
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
