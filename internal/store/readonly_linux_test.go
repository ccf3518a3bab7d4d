package store_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/certctl/certctl/internal/store"
)

// asNobody runs fn with the file rights of a stranger, whoever runs the test. It
// holds for this thread alone, which is thrown away.
func asNobody(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if os.Geteuid() == 0 {
			syscall.Syscall(syscall.SYS_SETFSUID, 65534, 0, 0)
		}
		fn()
	}()
	<-done
}

func TestAReadOnlyFolderIsToldInOneLine(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		chmod := func(path string, mode os.FileMode) {
			t.Helper()
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		for parent := filepath.Dir(s.Dir()); parent != os.TempDir() && parent != "/"; parent = filepath.Dir(parent) {
			chmod(parent, 0o755)
		}
		refused := func(what string) {
			t.Helper()
			var err error
			asNobody(func() {
				var again *store.Store
				if again, err = store.Open(ctx, s.Settings()); err == nil {
					again.Close()
				}
			})
			if err == nil || !strings.Contains(err.Error(), s.Dir()) || strings.Contains(err.Error(), "\n") ||
				!strings.Contains(err.Error(), "permission denied") && !strings.Contains(err.Error(), "readonly") {
				t.Errorf("%s: got %v, want one line with the folder and the reason", what, err)
			}
		}
		t.Cleanup(func() { os.Chmod(s.Dir(), 0o755) })
		chmod(filepath.Join(s.Dir(), "certctl.db"), 0o444)
		chmod(s.Dir(), 0o555)
		refused("a folder that is not writable")
		chmod(filepath.Join(s.Dir(), "lock"), 0o666)
		refused("a database that is not writable")
	})
}

// A key whose name may be lost with the power seals nothing: the folder is synced,
// which one that cannot be opened is not.
func TestANewSecretKeyIsInItsFolderForGood(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for parent := filepath.Dir(dir); parent != os.TempDir() && parent != "/"; parent = filepath.Dir(parent) {
		if err := os.Chmod(parent, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o333); err != nil { // files can be made in it, but it cannot be opened
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o755) })
	var err error
	asNobody(func() { _, err = store.LoadSecretKey(filepath.Join(dir, "secret.key"), true) })
	if err == nil || !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want one line about the folder", err)
	}
}
