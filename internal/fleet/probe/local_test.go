package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestAUnitIsJudgedByWhatSystemdSaysOfIt(t *testing.T) {
	for _, c := range []struct {
		name, says string // as systemctl show prints it (systemd 252)
		code       Code
		unknown    bool
		words      string
	}{
		{"one that runs", "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nNRestarts=2\nMainPID=1\n", "", false, "is active (running)"},
		{"one that ran and is done", "LoadState=loaded\nActiveState=active\nSubState=exited\nResult=success\n", "", false, "is active (exited)"},
		{"one that failed", "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\n", NotActive, false, "is failed (exit-code)"},
		{"one that was stopped", "LoadState=loaded\nActiveState=inactive\nSubState=dead\nResult=success\n", NotActive, false, "is inactive"},
		{"one that waits to be started again", "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nResult=exit-code\n", Starting, false, "auto-restart"},
		{"one that reads its configuration", "LoadState=loaded\nActiveState=reloading\nSubState=reload\nResult=success\n", "", false, "is active"},
		{"one that is not there", "LoadState=not-found\nActiveState=inactive\nSubState=dead\n", NotActive, false, "no unit"},
		{"one that is masked", "LoadState=masked\nActiveState=inactive\nSubState=dead\n", NotActive, false, "is masked"},
		{"one whose file is bad", "LoadState=bad-setting\nActiveState=inactive\n", NotActive, false, "bad-setting"},
		{"silence", "", NotAvailable, true, "says nothing"},
		{"noise", "=\n\x00\n===", NotAvailable, true, "says nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			target, err := Parse(Systemd, "caddy")
			if err != nil {
				t.Fatal(err)
			}
			l := &look{t: target, facts: map[string]string{}}
			f := l.unitState(readProperties([]byte(c.says)))
			if f.code != c.code || f.unknown != c.unknown || f.ok != (c.code == "") || !strings.Contains(f.words, c.words) {
				t.Fatalf("%+v", f)
			}
		})
	}
}

func TestAUnitOfThisMachineIsAskedForOrSaidNotToBeKnown(t *testing.T) {
	r := Run(t.Context(), Spec{Name: "p", Kind: Systemd, Target: "surely-not-there.service", Timeout: generous}, Env{})
	_, err := os.Stat("/run/systemd/system") // sd_booted(3)
	if runs := err == nil; runs && r.Code != NotActive || !runs && (!r.Inconclusive || r.Code != NotAvailable) {
		t.Fatalf("systemd runs: %v; %+v", runs, r)
	}
	if _, err := exec.LookPath("systemctl"); err == nil {
		t.Setenv("PATH", t.TempDir())
	}
	if r := Run(t.Context(), Spec{Name: "p", Kind: Systemd, Target: "caddy", Timeout: generous}, Env{}); !r.Inconclusive || r.Code != NotAvailable || !strings.Contains(r.Words, "no systemd") {
		t.Fatalf("%+v", r)
	}
}

func FuzzProperties(f *testing.F) {
	f.Add([]byte("LoadState=loaded\nActiveState=active\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := &look{t: Target{Kind: Systemd, Rest: "x.service"}, facts: map[string]string{}}
		if got := l.unitState(readProperties(b)); got.words == "" {
			t.Fatal("no words")
		}
	})
}

func TestADiskIsJudgedByWhatIsFree(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/something", make([]byte, 64<<10), 0o600); err != nil { // no file system is quite empty
		t.Fatal(err)
	}
	if r := expect(t, Disk, dir+" free=0% inodes=0%", Env{}, ""); r.Facts["free_bytes"] == "" || r.Facts["total_bytes"] == "" {
		t.Fatal(r.Facts)
	}
	expect(t, Disk, dir+" free=100%", Env{}, NoSpace)
	expect(t, Disk, dir+" free=4000PB", Env{}, NoSpace)
	expect(t, Disk, dir+"/gone", Env{}, NoName)
	for _, c := range []struct {
		name, words string
		s           space
		code        Code
	}{
		{"enough of both", "", space{free: 10, total: 100, freeInodes: 5, totalInodes: 100}, ""},
		{"too few bytes", "", space{free: 9, total: 100, freeInodes: 50, totalInodes: 100}, NoSpace},
		{"too few inodes", "", space{free: 50, total: 100, freeInodes: 4, totalInodes: 100}, NoInodes},
		{"a file system without inodes", "", space{free: 50, total: 100}, ""},
		{"a size", "free=60B", space{free: 50, total: 100}, NoSpace},
		{"nothing at all", "", space{}, NotAvailable},
	} {
		target, err := Parse(Disk, "/ "+c.words)
		if err != nil {
			t.Fatal(err)
		}
		l := &look{t: target, facts: map[string]string{}}
		if f := l.judgeSpace(c.s); f.code != c.code {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
}

func TestABackupCountsOnlyWhenItIsProven(t *testing.T) {
	now := time.Date(2026, 11, 23, 7, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, target string
		b            Backup
		err          error
		code         Code
		unknown      bool
		says         string
	}{
		{"young and proven", "nightly", Backup{At: now.Add(-3 * time.Hour), Proven: true}, nil, "", false, "proven to work is 3h old"},
		{"too old", "nightly max=26h", Backup{At: now.Add(-27 * time.Hour), Proven: true}, nil, TooOld, false, "is allowed"},
		{"unproven", "nightly", Backup{At: now.Add(-3 * time.Hour), Words: "no drill yet"}, nil, Unproven, true, "nothing shows"},
		{"unproven, and that is enough", "nightly proven=no", Backup{At: now.Add(-3 * time.Hour)}, nil, "", false, "nothing shows"},
		{"none", "nightly", Backup{}, nil, TooOld, false, "no backup"},
		{"from the future", "nightly", Backup{At: now.Add(time.Hour), Proven: true}, nil, NotAvailable, true, "clock"},
		{"not known", "nightly", Backup{}, errors.New("password=hunter2"), NotAvailable, true, "not known"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := Env{Now: func() time.Time { return now }, Backup: func(_ context.Context, name string) (Backup, error) {
				if name != "nightly" {
					t.Errorf("asked for %q", name)
				}
				return c.b, c.err
			}}
			r := Run(t.Context(), Spec{Name: "p", Kind: BackupAge, Target: c.target}, e)
			if r.Code != c.code || r.Inconclusive != c.unknown || !strings.Contains(r.Words, c.says) || strings.Contains(fmt.Sprint(r), "hunter2") {
				t.Fatalf("%+v", r)
			}
		})
	}
	if r := Run(t.Context(), Spec{Name: "p", Kind: BackupAge, Target: "nightly"}, Env{}); !r.Inconclusive || r.Code != NotAvailable {
		t.Fatalf("%+v", r)
	}
}
