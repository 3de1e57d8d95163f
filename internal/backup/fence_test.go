package backup

import (
	"os"
	"testing"
	"time"
)

func TestWhateverStandsInTheFencesPlaceFences(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"a fence":           func(path string) error { return os.WriteFile(path, []byte(`{"reason":"recovered"}`), 0o600) },
		"an empty file":     func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"nonsense":          func(path string) error { return os.WriteFile(path, []byte("{{"), 0o600) },
		"a directory":       func(path string) error { return os.Mkdir(path, 0o700) },
		"a link to nowhere": func(path string) error { return os.Symlink("/nowhere", path) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := put(FenceFile(dir)); err != nil {
				t.Fatal(err)
			}
			f, err := ReadFence(dir)
			if err != nil || f == nil || f.Reason == "" || f.Mend == "" {
				t.Errorf("%+v, %v", f, err)
			}
		})
	}
	if f, err := ReadFence(t.TempDir()); f != nil || err != nil {
		t.Errorf("a node without a fence: %+v, %v", f, err)
	}
}

func TestAFenceIsSetAndLifted(t *testing.T) {
	dir := t.TempDir()
	if err := setFence(dir, Fence{Since: time.Now(), Reason: "r", Mend: "m"}); err != nil {
		t.Fatal(err)
	}
	if f, err := ReadFence(dir); err != nil || f == nil || f.Problem().Code != "node-fenced" || f.Problem().Mend != "m" {
		t.Fatalf("%+v, %v", f, err)
	}
	for range 2 { // lifting twice is the same as once
		if err := liftFence(dir); err != nil {
			t.Fatal(err)
		}
	}
	if f, err := ReadFence(dir); f != nil || err != nil {
		t.Errorf("%+v, %v", f, err)
	}
}
