package restic_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/restic"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/backup/targettest"
)

// packs lists a repository's data on the disk, the largest first.
func packs(t testing.TB, at target.Target) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(at.Path, "restic/data/*/*"))
	must(t, err)
	slices.SortFunc(found, func(a, b string) int {
		ai, _ := os.Stat(a)
		bi, _ := os.Stat(b)
		return int(bi.Size() - ai.Size())
	})
	return found
}

// restic 0.14 exits 0 when what is damaged is still whole in its cache: a
// machine that never made the backup would not get it back.
func TestDamageIsNotHiddenByTheCache(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(string){
		"a byte flipped in each pack": func(path string) {
			text, _ := os.ReadFile(path)
			text[len(text)/3] ^= 1
			_ = os.Chmod(path, 0o600)
			_ = os.WriteFile(path, text, 0o600)
		},
		"packs that are gone":  func(path string) { _ = os.Remove(path) },
		"packs that are short": func(path string) { _ = os.Truncate(path, 100) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, at := options(t), disk(t)
			e, err := restic.New(o)
			must(t, err)
			must(t, e.Prepare(t.Context(), at))
			kept(t, e, at, tree(t, "x"))
			damaged := 0
			for _, pack := range packs(t, at) { // only what the cache has whole
				if held, _ := filepath.Glob(filepath.Join(o.State, "cache/*/data/*", filepath.Base(pack))); len(held) > 0 {
					damage(pack)
					damaged++
				}
			}
			if damaged == 0 {
				t.Fatal("the cache holds nothing")
			}
			_, err = e.Restore(t.Context(), at, engine.RestoreRequest{To: t.TempDir()}, nil)
			refuses(t, err, "repository-damaged")
		})
	}
}

func TestTheCheckReadsAndFindsAFlippedByte(t *testing.T) {
	t.Parallel()
	e, at := newEngine(t, func(o *restic.Options) { o.Sample = "100%" }), disk(t)
	must(t, e.Prepare(t.Context(), at))
	kept(t, e, at, noise(t, t.TempDir(), "big", 1<<20))
	pack := packs(t, at)[0]
	text, err := os.ReadFile(pack)
	must(t, err)
	text[1000] ^= 0x40
	must(t, os.Chmod(pack, 0o600))
	must(t, os.WriteFile(pack, text, 0o600))
	refuses(t, e.Check(t.Context(), at, nil), "repository-damaged")
}

// fake makes a program that stands in for restic.
func fake(t testing.TB, script string) func(*restic.Options) {
	path := filepath.Join(t.TempDir(), "restic")
	must(t, os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	return func(o *restic.Options) { o.Binary = path }
}

func TestAnEngineThatExitsZeroAndDidNothingIsCaught(t *testing.T) {
	t.Parallel()
	honest, at := newEngine(t), disk(t)
	must(t, honest.Prepare(t.Context(), at))
	source := tree(t, "x")
	kept(t, honest, at, source)
	backup := func(e *restic.Engine) error {
		_, err := e.Backup(t.Context(), at, engine.BackupRequest{Sources: []string{source}}, nil)
		return err
	}
	refuses(t, backup(newEngine(t, fake(t, "exit 0"))), "engine-nothing")
	// It claims a snapshot that the repository does not have.
	claims := `case " $* " in *" backup "*) echo '{"message_type":"summary","snapshot_id":"deadbeef","total_bytes_processed":9}' ;; *) exec restic "$@" ;; esac`
	refuses(t, backup(newEngine(t, fake(t, claims))), "point-missing")
	// It takes nothing along.
	empty := `case " $* " in *" backup "*) shift; exec restic backup --exclude '*' "$@" ;; *) exec restic "$@" ;; esac`
	refuses(t, backup(newEngine(t, fake(t, empty))), "engine-nothing")
	// It restores nothing, or leaves one file out.
	for _, lies := range []string{"exit 0", `exec restic "$@" --exclude secret.key`} {
		e := newEngine(t, fake(t, `case " $* " in *" restore "*) `+lies+` ;; *) exec restic "$@" ;; esac`))
		first, err := honest.Points(t.Context(), at)
		must(t, err)
		_, err = e.Restore(t.Context(), at, engine.RestoreRequest{Label: first[0].Label, To: t.TempDir()}, nil)
		refuses(t, err, "restore-incomplete")
	}
	// It removes nothing.
	kept(t, honest, at, source)
	e := newEngine(t, fake(t, `case " $* " in *" forget "*) exit 0 ;; *) exec restic "$@" ;; esac`))
	_, err := e.Expire(t.Context(), at, engine.ExpireRequest{Before: time.Now().Add(time.Hour)})
	refuses(t, err, "engine-nothing")
	// It says what nobody understands.
	_, err = newEngine(t, fake(t, "echo '[{}]'")).Points(t.Context(), at)
	refuses(t, err, "engine-answer")
}

func TestFilesThatCannotBeReadMakeABrokenPoint(t *testing.T) {
	t.Parallel()
	at := disk(t)
	unreadable := `case " $* " in *" backup "*) restic "$@"; echo '{"message_type":"error","error":{"Op":"open","Path":"/p","Err":13},"during":"archival","item":"/p"}'; exit 3 ;; *) exec restic "$@" ;; esac`
	vanished := strings.ReplaceAll(unreadable, `"Err":13`, `"Err":2`)
	e := newEngine(t, fake(t, unreadable))
	must(t, e.Prepare(t.Context(), at))
	source := tree(t, "x")
	point, err := e.Backup(t.Context(), at, engine.BackupRequest{Sources: []string{source}}, nil)
	refuses(t, err, "engine-incomplete")
	if point.Label == "" || point.Broken == "" {
		t.Errorf("the point is %+v, want it marked broken", point)
	}
	point, err = newEngine(t, fake(t, vanished)).Backup(t.Context(), at, engine.BackupRequest{Sources: []string{source}}, nil)
	if err != nil || point.Broken != "" {
		t.Errorf("a file that was removed meanwhile: %v %+v", err, point)
	}
}

// mount mounts something for a test, which takes root.
func mount(t *testing.T, args ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting takes root")
	}
	if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
		t.Skipf("this machine does not let a test mount: %s", out)
	}
	dir := args[len(args)-1]
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
}

func TestAFullTargetLosesNothingThatItHolds(t *testing.T) {
	t.Parallel()
	e, at := newEngine(t), disk(t)
	mount(t, "-t", "tmpfs", "-o", "size=6m", "tmpfs", at.Path)
	must(t, e.Prepare(t.Context(), at))
	source := tree(t, "x")
	point := kept(t, e, at, source)
	big := noise(t, t.TempDir(), "big", 12<<20)
	_, err := e.Backup(t.Context(), at, engine.BackupRequest{Sources: []string{big}}, nil)
	refuses(t, err, "target-full")
	to := t.TempDir()
	_, err = e.Restore(t.Context(), at, engine.RestoreRequest{Label: point.Label, To: to}, nil)
	must(t, err)
	if describe(t, filepath.Join(to, source)) != describe(t, source) {
		t.Error("what was backed up before does not come back whole")
	}
}

func TestAFullSFTPServerIsNamed(t *testing.T) {
	faultsOnly(t)
	t.Parallel()
	server := targettest.StartSSH(t)
	e, at := newEngine(t), server.Open(t, "box")
	must(t, os.Mkdir(at.Path, 0o700))
	mount(t, "-t", "tmpfs", "-o", "size=3m", "tmpfs", at.Path)
	must(t, e.Prepare(t.Context(), at))
	_, err := e.Backup(t.Context(), at, engine.BackupRequest{Sources: []string{noise(t, t.TempDir(), "big", 12<<20)}}, nil)
	refuses(t, err, "target-full")
}

func TestAReadOnlyTargetIsNamedAtOnceAndStillRestores(t *testing.T) {
	t.Parallel()
	e, at := newEngine(t, func(o *restic.Options) { o.Patience = time.Hour }), disk(t)
	must(t, e.Prepare(t.Context(), at))
	source := tree(t, "x")
	kept(t, e, at, source)
	mount(t, "--bind", at.Path, at.Path)
	mount(t, "-o", "remount,ro,bind", at.Path)
	_, err := e.Backup(t.Context(), at, engine.BackupRequest{Sources: []string{source}}, nil)
	refuses(t, err, "target-read-only")
	must(t, e.Check(t.Context(), at, nil))
	to := t.TempDir()
	_, err = e.Restore(t.Context(), at, engine.RestoreRequest{To: to}, nil)
	must(t, err)
	if describe(t, filepath.Join(to, source)) != describe(t, source) {
		t.Error("it does not come back whole")
	}
}

func TestAnAccountThatMayOnlyReadStillRestores(t *testing.T) {
	faultsOnly(t)
	t.Parallel()
	t.Run("sftp", func(t *testing.T) {
		t.Parallel()
		server := targettest.StartSSH(t)
		at := server.Open(t, "box")
		onlyRead(t, at, func(at *target.Target) {
			key, err := os.ReadFile(server.ReadKey)
			must(t, err)
			at.SFTPKey = string(key)
		})
	})
	t.Run("s3", func(t *testing.T) {
		t.Parallel()
		server := targettest.StartS3(t)
		server.Bucket(t, "backups")
		onlyRead(t, server.Open(t, "bucket", "backups"), func(*target.Target) { server.Restart(t, "--readonly") })
	})
}

func onlyRead(t *testing.T, at target.Target, restrict func(*target.Target)) {
	e := newEngine(t, func(o *restic.Options) { o.Patience = time.Hour })
	must(t, e.Prepare(t.Context(), at))
	source := tree(t, "x")
	kept(t, e, at, source)
	restrict(&at)
	_, err := e.Backup(t.Context(), at, engine.BackupRequest{Sources: []string{source}}, nil)
	refuses(t, err, "target-denied")
	_, err = e.Restore(t.Context(), at, engine.RestoreRequest{To: t.TempDir()}, nil)
	must(t, err)
}

func TestATargetThatGoesInTheMiddleIsNamedAndTheNextRunGoesOn(t *testing.T) {
	faultsOnly(t)
	t.Parallel()
	t.Run("s3", func(t *testing.T) {
		t.Parallel()
		server := targettest.StartS3(t)
		server.Bucket(t, "backups")
		proxy := targettest.StartProxy(t, server.Endpoint)
		at := server.Open(t, "bucket", "backups")
		at.S3.Endpoint = proxy.Addr
		cut(t, proxy, at)
	})
	t.Run("sftp", func(t *testing.T) {
		t.Parallel()
		server := targettest.StartSSH(t)
		proxy := targettest.StartProxy(t, "127.0.0.1:"+strconv.Itoa(server.Port))
		at := server.Open(t, "box")
		at.SFTP.Port, at.SFTP.KnownHosts = proxy.Port, server.KnownAt(t, proxy.Port)
		cut(t, proxy, at)
	})
}

func cut(t *testing.T, proxy *targettest.Proxy, at target.Target) {
	e := newEngine(t)
	must(t, e.Prepare(t.Context(), at))
	// restic sends packs of 16 MiB, several at a time: enough of them that some
	// are whole at the cut.
	source := noise(t, t.TempDir(), "big", 96<<20)
	before := kept(t, e, at, tree(t, "x"))
	proxy.CutAfter(90 << 20)
	_, err := e.Backup(t.Context(), at, engine.BackupRequest{Sources: []string{source}}, nil)
	refuses(t, err, "target-gone")
	_, err = e.Points(t.Context(), at)
	refuses(t, err, "target-gone")
	proxy.Heal()
	point := kept(t, e, at, source)
	if point.Stored > 90<<20 {
		t.Errorf("the next run stored %d bytes again, of 96 MiB", point.Stored)
	}
	for _, label := range []string{before.Label, point.Label} {
		_, err := e.Restore(t.Context(), at, engine.RestoreRequest{Label: label, To: t.TempDir()}, nil)
		must(t, err)
	}
}

func TestAServerWithAnotherHostKeyIsSentNothing(t *testing.T) {
	t.Parallel()
	server, other := targettest.StartSSH(t), targettest.StartSSH(t)
	e, at := newEngine(t), server.Open(t, "box")
	must(t, e.Prepare(t.Context(), at))
	source := tree(t, "x")
	kept(t, e, at, source)
	forged := filepath.Join(t.TempDir(), "known")
	must(t, os.WriteFile(forged, []byte("[127.0.0.1]:"+strconv.Itoa(server.Port)+" "+other.HostKey+"\n"), 0o600))
	at.SFTP.KnownHosts = forged
	_, err := e.Backup(t.Context(), at, engine.BackupRequest{Sources: []string{source}}, nil)
	refuses(t, err, "target-host-key")
	at.SFTP.KnownHosts = filepath.Join(t.TempDir(), "none")
	_, err = e.Points(t.Context(), at)
	refuses(t, err, "target-known-hosts")
}

func TestACancelledRunEndsWithItsProgramAndLeavesNoLock(t *testing.T) {
	t.Parallel()
	e, at := newEngine(t), disk(t)
	must(t, e.Prepare(t.Context(), at))
	ctx, cancel := context.WithCancel(t.Context())
	source := noise(t, t.TempDir(), "big", 32<<20)
	var once sync.Once
	_, err := e.Backup(ctx, at, engine.BackupRequest{Sources: []string{source}}, func(int64, int64, string) { once.Do(cancel) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(at.Path, "restic/locks/*")); len(left) > 0 {
		t.Errorf("locks are left: %q", left)
	}
	kept(t, e, at, source)
}

// killed runs a backup, kills restic in the middle, and returns its process id.
func killed(t *testing.T, e *restic.Engine, at target.Target) (pid int) {
	t.Helper()
	source := noise(t, t.TempDir(), "big", 32<<20)
	var once sync.Once
	_, err := e.Backup(t.Context(), at, engine.BackupRequest{Sources: []string{source}}, func(int64, int64, string) {
		once.Do(func() {
			for _, p := range children(t, "restic") {
				if slices.Contains(arguments(p), source) {
					pid = p
					_ = syscall.Kill(p, syscall.SIGKILL)
				}
			}
		})
	})
	if err == nil || pid == 0 {
		t.Fatalf("it was not killed: %v", err)
	}
	return pid
}

func children(t testing.TB, name string) (pids []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/comm")
	must(t, err)
	for _, path := range all {
		if text, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(text)) == name {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

func arguments(pid int) []string {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return strings.Split(string(text), "\x00")
}

func TestTheLockOfAKilledRunIsRemovedAndNoOther(t *testing.T) {
	t.Parallel()
	most(t, func(t *testing.T, at target.Target) {
		e := newEngine(t)
		must(t, e.Prepare(t.Context(), at))
		source := tree(t, "x")
		kept(t, e, at, source)
		kept(t, e, at, source)
		killed(t, e, at)
		locks := func() int {
			store, err := at.Store(t.Context())
			must(t, err)
			defer store.Close()
			files, err := store.List(t.Context(), "restic/locks/")
			must(t, err)
			return len(files)
		}
		if locks() != 1 {
			t.Fatalf("%d locks after the kill, want its own", locks())
		}
		// An engine of another node, which has no note of that process.
		_, err := newEngine(t).Expire(t.Context(), at, engine.ExpireRequest{Before: time.Now().Add(time.Hour)})
		refuses(t, err, "engine-locked")
		if locks() != 1 {
			t.Error("another node's lock was removed")
		}
		got, err := e.Expire(t.Context(), at, engine.ExpireRequest{Before: time.Now().Add(time.Hour)})
		must(t, err)
		if len(got.Gone) != 1 || locks() != 0 {
			t.Errorf("%+v, %d locks", got, locks())
		}
		must(t, e.Check(t.Context(), at, nil))
	})
}

func TestASecondRunAtATargetSaysThatOneIsUnderWay(t *testing.T) {
	t.Parallel()
	o := options(t)
	first, err := restic.New(o)
	must(t, err)
	at := disk(t)
	must(t, first.Prepare(t.Context(), at))
	second, err := restic.New(o) // as another process of this node has it
	must(t, err)
	source := noise(t, t.TempDir(), "big", 16<<20)
	var once sync.Once
	_, err = first.Backup(t.Context(), at, engine.BackupRequest{Sources: []string{source}}, func(int64, int64, string) {
		once.Do(func() {
			_, err := second.Backup(t.Context(), at, engine.BackupRequest{Sources: []string{source}}, nil)
			refuses(t, err, "engine-locked")
			_, err = second.Points(t.Context(), at)
			must(t, err)
		})
	})
	must(t, err)
}

// Whoever may look at a process sees its command line, and its owner its
// environment, for as long as it lives.
func TestNoSecretIsOnACommandLineInAnEnvironmentOrLeftBehind(t *testing.T) {
	t.Parallel()
	most(t, func(t *testing.T, at target.Target) {
		o := options(t)
		e, err := restic.New(o)
		must(t, err)
		must(t, e.Prepare(t.Context(), at))
		secrets := []string{passphrase, "PRIVATE KEY"}
		if at.S3Secret != "" {
			secrets = append(secrets, at.S3Secret)
		}
		source := noise(t, t.TempDir(), "big", 32<<20)
		looked := map[string]bool{}
		_, err = e.Backup(t.Context(), at, engine.BackupRequest{Sources: []string{source}}, func(int64, int64, string) {
			for _, pid := range append(children(t, "restic"), children(t, "ssh")...) {
				for _, file := range []string{"cmdline", "environ"} {
					text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + file)
					if err != nil {
						continue
					}
					looked[file] = looked[file] || strings.Contains(string(text), source) || strings.Contains(string(text), o.State)
					for _, s := range secrets {
						if strings.Contains(string(text), s) {
							t.Errorf("a secret is in %s of process %d", file, pid)
						}
					}
				}
			}
		})
		must(t, err)
		if !looked["cmdline"] || !looked["environ"] {
			t.Errorf("restic was not seen running: %v", looked)
		}
		left, err := os.ReadDir(o.Runtime.Dir())
		must(t, err)
		if len(left) > 0 {
			t.Errorf("left in memory: %v", left)
		}
		must(t, filepath.WalkDir(o.State, func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(path)
			for _, s := range secrets {
				if strings.Contains(string(text), s) {
					t.Errorf("a secret is in %s", path)
				}
			}
			return err
		}))
	})
}

func TestASlowTargetIsWaitedForAndADeadOneIsNot(t *testing.T) {
	faultsOnly(t)
	t.Parallel()
	server := targettest.StartS3(t)
	server.Bucket(t, "backups")
	proxy := targettest.StartProxy(t, server.Endpoint)
	at := server.Open(t, "bucket", "backups")
	at.S3.Endpoint = proxy.Addr
	e := newEngine(t, func(o *restic.Options) { o.Stall = 4 * time.Second })
	must(t, e.Prepare(t.Context(), at))
	source := noise(t, t.TempDir(), "big", 24<<20)
	proxy.Slow(1) // as good as dead
	_, err := e.Backup(t.Context(), at, engine.BackupRequest{Sources: []string{source}}, nil)
	refuses(t, err, "engine-stalled")
	proxy.Heal()
	kept(t, e, at, source)
}

func TestANoteOfARunTellsItFromWhateverHasItsProcessIdLater(t *testing.T) {
	t.Parallel()
	e, at := newEngine(t), disk(t)
	must(t, e.Prepare(t.Context(), at))
	source := tree(t, "x")
	// This process runs. A note with its id and another start is of a dead one.
	for started, dead := range map[string]bool{restic.StartOf(os.Getpid()): false, "1": true} {
		path := restic.Note(t, e, at, os.Getpid(), started)
		kept(t, e, at, source)
		if _, err := os.Stat(path); os.IsNotExist(err) != dead {
			t.Errorf("started %s: the note is gone: %v, want %v", started, os.IsNotExist(err), dead)
		}
		_ = os.Remove(path)
	}
	text, err := json.Marshal(1)
	must(t, err)
	must(t, os.WriteFile(restic.Note(t, e, at, 1, "x"), text, 0o600)) // half a note
	kept(t, e, at, source)
}

// waitFor waits until something is so.
func waitFor(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); {
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestAnExpiryWaitsForARestoreThatEndsSoon(t *testing.T) {
	t.Parallel()
	dir, state := t.TempDir(), ""
	begun, on := filepath.Join(dir, "begun"), filepath.Join(dir, "on")
	e := newEngine(t, fake(t, `case " $* " in *" restore "*) : > `+begun+`; while [ ! -e `+on+` ]; do sleep 0.02; done ;; esac; exec restic "$@"`),
		func(o *restic.Options) { state = o.State })
	at := disk(t)
	must(t, e.Prepare(t.Context(), at))
	source := tree(t, "x")
	kept(t, e, at, source)
	kept(t, e, at, source)
	restored, expired := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := e.Restore(t.Context(), at, engine.RestoreRequest{To: filepath.Join(dir, "copy")}, nil)
		restored <- err
	}()
	waitFor(t, "the restore to begin", func() bool { return there(begun) })
	go func() {
		_, err := e.Expire(context.WithoutCancel(t.Context()), at, engine.ExpireRequest{Before: time.Now().Add(time.Hour)})
		expired <- err
	}()
	// It holds the lock of whoever writes, and cannot have that of those who read.
	var early error
	waitFor(t, "the expiry to begin", func() bool {
		select {
		case early = <-expired:
			return true
		default:
		}
		f, err := os.Open(filepath.Join(state, "runs", at.Name+"-"+restic.Name+".write.lock"))
		if err != nil {
			return false
		}
		defer f.Close()
		return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), syscall.EWOULDBLOCK)
	})
	if early != nil {
		t.Errorf("the expiry did not wait: %v", early)
	}
	must(t, os.WriteFile(on, nil, 0o600))
	must(t, <-restored)
	if early == nil {
		must(t, <-expired)
	}
}

// A snapshot that is not whole is marked where a bare machine sees it, and is
// never the last good one.
func TestABackupThatIsNotWholeIsNeverTheLastGoodOne(t *testing.T) {
	t.Parallel()
	at := disk(t)
	e := newEngine(t)
	must(t, e.Prepare(t.Context(), at))
	source := tree(t, "x")
	good := kept(t, e, at, source)
	unreadable := `case " $* " in *" backup "*) restic "$@"; exit 3 ;; *) exec restic "$@" ;; esac`
	made, err := newEngine(t, fake(t, unreadable)).Backup(t.Context(), at, engine.BackupRequest{Sources: []string{source}}, nil)
	refuses(t, err, "engine-incomplete")
	elsewhere := newEngine(t) // it has never heard of that
	points, err := elsewhere.Points(t.Context(), at)
	must(t, err)
	if len(points) != 2 || points[0].Label != good.Label || points[0].Broken != "" || points[1].Label != made.Label || points[1].Broken == "" || points[1].Bytes != good.Bytes {
		t.Fatalf("points %+v; made %+v", points, made)
	}
	done, err := elsewhere.Restore(t.Context(), at, engine.RestoreRequest{To: filepath.Join(t.TempDir(), "newest")}, nil)
	must(t, err)
	if done.Point.Label != good.Label {
		t.Errorf("restored %s, want the newest that is whole, %s", done.Point.Label, good.Label)
	}
	gone, err := elsewhere.Expire(t.Context(), at, engine.ExpireRequest{Before: time.Now().Add(time.Hour)})
	must(t, err)
	if len(gone.Gone) != 0 || !slices.Contains(gone.KeptForChain, good.Label) {
		t.Errorf("expired %+v", gone)
	}
	last := kept(t, e, at, source)
	gone, err = elsewhere.Expire(t.Context(), at, engine.ExpireRequest{Before: time.Now().Add(time.Hour)})
	must(t, err)
	if !slices.Equal(gone.Gone, []string{good.Label, made.Label}) || !slices.Equal(gone.KeptForChain, []string{last.Label}) {
		t.Errorf("after a whole one: %+v", gone)
	}
}

// A target that only takes keeps the snapshot without the mark, too.
func TestAMarkThatCannotTakeThePlaceOfTheUnmarkedCountsForBoth(t *testing.T) {
	t.Parallel()
	at := disk(t)
	refusing := `case " $* " in *" backup "*) restic "$@"; exit 3 ;;
*" tag "*) cp -r ` + at.Path + `/restic/snapshots ` + at.Path + `/before; restic "$@"; cp -n ` + at.Path + `/before/* ` + at.Path + `/restic/snapshots/; echo 'Fatal: blob not removed, server response: 403 Forbidden (403)' >&2; exit 1 ;;
*) exec restic "$@" ;; esac`
	e := newEngine(t)
	must(t, e.Prepare(t.Context(), at))
	source := tree(t, "x")
	_, err := newEngine(t, fake(t, refusing)).Backup(t.Context(), at, engine.BackupRequest{Sources: []string{source}}, nil)
	refuses(t, err, "engine-incomplete")
	points, err := e.Points(t.Context(), at)
	must(t, err)
	if len(points) != 2 || points[0].Broken == "" || points[1].Broken == "" {
		t.Errorf("%+v", points)
	}
}

// An expiry that was killed when it had forgotten, and not yet freed, is
// finished by the next, though that finds nothing that is too old.
func TestTheSpaceThatAKilledExpiryLeftIsFreedByTheNext(t *testing.T) {
	t.Parallel()
	at, state := disk(t), t.TempDir()
	same := func(o *restic.Options) { o.State = state }
	e := newEngine(t, same)
	must(t, e.Prepare(t.Context(), at))
	source := tree(t, "x")
	noise(t, source, "large", 4<<20)
	kept(t, e, at, source)
	noise(t, source, "large", 4<<20)
	kept(t, e, at, source)
	size := func() (n int64) {
		for _, path := range packs(t, at) {
			info, err := os.Stat(path)
			must(t, err)
			n += info.Size()
		}
		return n
	}
	r := engine.ExpireRequest{Before: time.Now().Add(time.Hour)}
	killed := newEngine(t, same, fake(t, `case " $* " in *" prune "*) kill -KILL $$ ;; *) exec restic "$@" ;; esac`))
	gone, err := killed.Expire(t.Context(), at, r)
	refuses(t, err, "engine-killed")
	if len(gone.Gone) != 1 || size() < 8<<20 {
		t.Fatalf("forgotten %v, %d bytes", gone.Gone, size())
	}
	again, err := e.Expire(t.Context(), at, r)
	must(t, err)
	if len(again.Gone) != 0 || size() > 6<<20 {
		t.Errorf("forgotten %v, %d bytes", again.Gone, size())
	}
	// Once, and not every day anew.
	never := newEngine(t, same, fake(t, `case " $* " in *" prune "*) exit 9 ;; *) exec restic "$@" ;; esac`))
	_, err = never.Expire(t.Context(), at, r)
	must(t, err)
}
