package host

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/missionopsai/foundry/internal/config"
)

func captured(t *testing.T, list []Captured, name string) Captured {
	t.Helper()
	for _, c := range list {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("nothing is called %s: %+v", name, list)
	return Captured{}
}

func TestEvidenceIsKeptWithItsHashAndReadAgain(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	write(t, disk, "what lies on it")
	fails := filepath.Join(dir, "fails")
	write(t, fails, "#!/bin/sh\necho half\nexit 3\n")
	many := filepath.Join(dir, "many")
	write(t, many, "#!/bin/sh\nhead -c 100000 /dev/zero\n")
	for _, p := range []string{fails, many} {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h := made(t, Config{Capture: &Capture{Disks: []string{disk, filepath.Join(dir, "absent")}, MaxBytes: 50_000, Commands: []CaptureCommand{
		{Name: "log", Argv: []string{"/usr/bin/printf", "one\ntwo\n"}, Kind: "logs"},
		{Name: "half", Argv: []string{fails}},
		{Name: "large", Argv: []string{many}, Kind: "memory"},
		{Name: "silent", Argv: []string{"/bin/true"}},
		{Name: "late", Argv: []string{"/bin/sleep", "1000"}, Timeout: config.Duration(1)},
	}}})
	list, err := h.Capture(t.Context(), "rec-1", quiet)
	if err != nil {
		t.Fatal(err)
	}
	if list[0].Name != "large" {
		t.Errorf("the memory goes first: %s", list[0].Name)
	}
	log := captured(t, list, "log")
	sum := sha256.Sum256([]byte("one\ntwo\n"))
	if log.Hash != hex.EncodeToString(sum[:]) || log.Size != 8 || !log.Checked || log.Kind != "logs" || read(t, log.Place) != "one\ntwo\n" {
		t.Errorf("%+v", log)
	}
	if info, err := os.Stat(log.Place); err != nil || info.Mode().Perm() != 0o400 {
		t.Errorf("who may read and change it: %v", info.Mode())
	}
	if c := captured(t, list, "half"); c.Hash == "" || c.Failed != "it ended with 3" {
		t.Errorf("%+v", c)
	}
	if c := captured(t, list, "large"); !c.Cut || c.Size != 50_000 || !c.Checked {
		t.Errorf("%+v", c)
	}
	for _, name := range []string{"silent", "late"} {
		if c := captured(t, list, name); c.Hash != "" || c.Place != "" || c.Failed == "" {
			t.Errorf("%+v", c)
		}
	}
	sum = sha256.Sum256([]byte("what lies on it"))
	if c := captured(t, list, "hash-of"+strings.ReplaceAll(disk, "/", "-")); c.Hash != hex.EncodeToString(sum[:]) || c.Kind != "other" || c.Checked {
		t.Errorf("a hash is no copy, and no wipe may go by it: %+v", c)
	}
	if !strings.Contains(read(t, captured(t, list, "processes").Place), "uid=") || !strings.Contains(read(t, captured(t, list, "sockets").Place), "/proc/net/tcp") {
		t.Error("processes and sockets are not there")
	}
	if len(list) != 9 {
		t.Errorf("%d captured", len(list))
	}
	again, err := h.Capture(t.Context(), "rec-1", quiet)
	if err != nil || captured(t, again, "log").Place == log.Place && captured(t, again, "log").Hash != "" {
		t.Errorf("a second capture is written over the first: %v", err)
	}
}

func TestWhatIsNeitherAFileNorADiskIsNotHashed(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, dir, "/dev/zero", "/dev/tty", filepath.Join(dir, "absent")} {
		if sum, _, err := hashFile(t.Context(), path); err == nil {
			t.Errorf("%s: %s %v", path, sum, err)
		}
	}
}

func TestAnIdOfACaptureComesIntoNoOtherFolder(t *testing.T) {
	h := made(t, Config{Capture: &Capture{}})
	for _, id := range []string{"", "../x", "a/b", ".", "..", "a b", strings.Repeat("x", 200)} {
		if _, err := h.Capture(t.Context(), id, quiet); err == nil {
			t.Errorf("%q was taken", id)
		}
	}
}
