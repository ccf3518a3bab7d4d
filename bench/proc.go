package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"
)

// usage is what a process has used.
type usage struct {
	cpu time.Duration // with that of its children that have ended
	rss int64         // bytes
}

// selfPID stands for this process.
const selfPID = -1

// clockTick is the unit of CPU times in /proc on every architecture that Go runs
// on.
const clockTick = 10 * time.Millisecond

// usageOf reads /proc (proc(5)). It knows nothing about the process 0, nor, where
// there is no /proc, about this one.
func usageOf(pid int) (usage, error) {
	if pid == 0 {
		return usage{}, nil
	}
	name := "/proc/self/stat"
	if pid != selfPID {
		name = fmt.Sprintf("/proc/%d/stat", pid)
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		if pid == selfPID {
			return usage{}, nil
		}
		return usage{}, fmt.Errorf("there is no process %d to measure", pid)
	}
	if err != nil {
		return usage{}, err
	}
	u, err := parseStat(text)
	if err != nil {
		return u, fmt.Errorf("%s: %w", name, err)
	}
	return u, nil
}

// parseStat reads the fields behind the command, which may hold anything, by
// their numbers in proc(5).
func parseStat(text []byte) (usage, error) {
	const state = 3
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	var u usage
	for _, f := range []struct {
		number int
		add    func(int64)
	}{
		{14, func(n int64) { u.cpu += time.Duration(n) * clockTick }}, // utime
		{15, func(n int64) { u.cpu += time.Duration(n) * clockTick }}, // stime
		{16, func(n int64) { u.cpu += time.Duration(n) * clockTick }}, // cutime
		{17, func(n int64) { u.cpu += time.Duration(n) * clockTick }}, // cstime
		{24, func(n int64) { u.rss = n * int64(os.Getpagesize()) }},
	} {
		if len(fields) <= f.number-state {
			return u, errors.New("too few fields")
		}
		n, err := strconv.ParseInt(string(fields[f.number-state]), 10, 64)
		if err != nil {
			return u, err
		}
		f.add(n)
	}
	return u, nil
}
