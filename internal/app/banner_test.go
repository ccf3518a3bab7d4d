package app

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// startServer starts what cfg says on ports of its own, without serving.
func startServer(t *testing.T, cfg *Config) *server {
	t.Helper()
	s := &server{cfg: *cfg, log: slog.New(slog.DiscardHandler)}
	s.cfg.Listen, s.cfg.PublicListen = "127.0.0.1:0", "127.0.0.1:0"
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// A data folder or a secret key that others can read is worth a line, no more.
func TestWarningOfFilesThatAreOpenToOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "the data")
	cfg, err := parse(t, "--data-dir", dir)
	if err != nil {
		t.Fatal(err)
	}
	key := cfg.secretKeyFile()
	warnings := func(dirMode, keyMode os.FileMode) string {
		t.Helper()
		for path, mode := range map[string]os.FileMode{dir: dirMode, key: keyMode} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		s := startServer(t, cfg)
		all := strings.Join(s.warnings(nil), "\n")
		if err := s.close(); err != nil {
			t.Error(err)
		}
		return all
	}
	if s := startServer(t, cfg); strings.Contains(strings.Join(s.warnings(nil), "\n"), dir) {
		t.Errorf("of what the server made itself: %q", s.warnings(nil))
	} else if err := s.close(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		dir, key os.FileMode
		want     []string
	}{
		{0o700, 0o600, nil},
		{0o700, 0o400, nil},
		{0o750, 0o600, []string{dir + " is open to other users (mode 0750)"}},
		{0o755, 0o644, []string{dir + " is open to other users (mode 0755)", key + " is open to other users (mode 0644)", "chmod go-rwx '" + key + "'"}},
		{0o700, 0o640, []string{key + " is open to other users (mode 0640)"}},
	} {
		got := warnings(test.dir, test.key)
		for _, want := range test.want {
			if !strings.Contains(got, want) {
				t.Errorf("%04o, %04o: %q lacks %q", test.dir, test.key, got, want)
			}
		}
		if len(test.want) == 0 && strings.Contains(got, dir) {
			t.Errorf("%04o, %04o: %q", test.dir, test.key, got)
		}
	}
}
