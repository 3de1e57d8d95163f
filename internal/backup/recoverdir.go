package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/problem"
)

// RecoveryFile is where a data directory says how its recovery stands.
func RecoveryFile(dataDir string) string { return filepath.Join(dataDir, "recovery.json") }

// ReadRecovery reads how the recovery of a data directory stands; nil: it was
// never recovered.
func ReadRecovery(dataDir string) (*Recovery, error) {
	path := RecoveryFile(dataDir)
	body, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, pathProblem(path, err)
	}
	var r Recovery
	if err := json.Unmarshal(body, &r); err != nil || r.Version != 1 || r.KitHash == "" {
		return nil, problem.New(problem.Conflict, "recovery-file", path+" is no record of a recovery that this program can read.").
			WithMend("Recover into another, empty data directory.").Wrap(err)
	}
	return &r, nil
}

func (r *Recovery) write() error {
	body, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(RecoveryFile(r.DataDir), append(body, '\n'), 0o600)
}

func (x *recovering) save() error {
	if x.o.DryRun {
		return nil
	}
	return x.r.write()
}

// claim takes the data directory, and refuses one that holds anything that a
// recovery of the same kit did not begin. A dry run takes nothing, and refuses
// the same.
func (x *recovering) claim() error {
	dir := x.o.DataDir
	if x.o.DryRun {
		_, err := x.resumable(dir)
		return err
	}
	if err := x.placeForKEK(); err != nil { // before anything is begun that another --kek would not fit
		return err
	}
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711 // the database's unprivileged user must pass through to its own folder
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return pathProblem(dir, err)
	}
	var err error
	if x.lock, err = holdDirectory(dir); err != nil {
		return err
	}
	before, err := x.resumable(dir)
	if err != nil {
		return err
	}
	if before != nil {
		x.r = before
		x.moveKEK()
	} else if err := x.r.write(); err != nil { // from here on it is this recovery's
		return err
	}
	if x.r.done(StepEvidence) {
		return nil
	}
	return setFence(dir, Fence{Since: x.r.Started, Reason: "This node is being recovered from " + x.r.source() + ", and the recovery is not finished.",
		Mend: "Run `" + x.r.command() + "` again: it goes on where it was interrupted."})
}

// placeForKEK refuses, in production, to begin without a place for the
// key-encryption key, or with one on the volume of the data.
func (x *recovering) placeForKEK() error {
	if x.content.Node.Mode != "production" {
		return nil
	}
	if before, err := ReadRecovery(x.o.DataDir); err != nil || x.o.KEK == "" && before != nil && before.KEK != "" {
		return err
	}
	if x.o.KEK == "" {
		return problem.New(problem.Denied, "recovery-kek", "The node ran in production: its key-encryption key may not lie on the volume of the data.").
			WithField("kek").WithMend("Name a file on another volume with --kek, or one that a systemd credential is made of.")
	}
	err := keys.File(nearestThere(x.o.KEK)).Check(nearestThere(x.o.DataDir))
	if p := problem.From(err); err != nil && p.Code == "kek-on-data-volume" {
		return problem.New(problem.Denied, p.Code, "The node ran in production: its key-encryption key may not lie on the volume of the data, and "+x.o.KEK+" does.").
			WithField("kek").WithMend("Name a file on another volume with --kek, or one that a systemd credential is made of. Nothing was written.")
	}
	return err
}

// moveKEK takes another place for the key-encryption key, where the keys were
// not restored yet.
func (x *recovering) moveKEK() {
	if x.o.KEK == "" || x.r.KEK == x.o.KEK || x.r.done(StepKeys) {
		return
	}
	if _, err := os.Lstat(x.r.KEK); err == nil && x.r.step(StepKeys).Tries > 0 {
		x.r.note("The key-encryption key was first written to %s: remove it there.", x.r.KEK)
	}
	x.r.KEK = x.o.KEK
}

// nearestThere is a path, or the closest of its parents that exists.
func nearestThere(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// resumable says which recovery a directory holds, nil for none.
func (x *recovering) resumable(dir string) (*Recovery, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, pathProblem(dir, err)
	}
	before, err := ReadRecovery(dir)
	if err != nil {
		return nil, err
	}
	if before == nil {
		entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
			// Our own lock, and what was left of writing the first record.
			return e.Name() == "lock" || e.Name() == "lost+found" || strings.HasPrefix(e.Name(), ".recovery.json-")
		})
		if len(entries) > 0 {
			return nil, problem.New(problem.Conflict, "recovery-not-empty", fmt.Sprintf("The data directory %s is not empty: it holds %s.", dir, entries[0].Name())).
				WithField("data-dir").WithMend("A recovery never writes over data. Choose an empty or absent --data-dir, or move what is there away.")
		}
		return nil, nil
	}
	other := func(what string) error {
		return problem.New(problem.Conflict, "recovery-other", fmt.Sprintf("The data directory %s holds a recovery that was begun %s, with %s.", dir, stamp(before.Started), what)).
			WithField("data-dir").WithMend("Go on with the same kit and options, or choose another, empty --data-dir.")
	}
	switch {
	case !before.Activated.IsZero():
		return nil, problem.New(problem.Conflict, "recovery-activated", fmt.Sprintf("The data directory %s was recovered and activated on %s.", dir, stamp(before.Activated))).
			WithField("data-dir").WithMend("Start it with `foundry up`, or choose another, empty --data-dir.")
	case before.Kit.Set != x.r.Kit.Set || before.KitHash != x.r.KitHash:
		return nil, other(before.other())
	case !before.Wanted.Equal(x.r.Wanted):
		return nil, other("another --at")
	case x.o.Target != "" && before.Target != "" && before.Target != x.o.Target:
		return nil, other("another --target, " + before.Target)
	case x.o.KEK != "" && before.KEK != x.o.KEK && before.done(StepKeys):
		return nil, other("another --kek, " + before.KEK)
	}
	if before.DataDir != dir {
		return nil, other("another path, " + before.DataDir)
	}
	return before, nil
}

// holdDirectory takes the lock that a node takes: where one runs, nothing is
// recovered, and the other way round.
func holdDirectory(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, pathProblem(path, err)
	}
	for end := time.Now().Add(time.Second); ; time.Sleep(20 * time.Millisecond) { // a killed process takes a moment to be gone
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			break
		}
	}
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	return nil, problem.New(problem.Conflict, "recovery-running", fmt.Sprintf("The data directory %s is in use: a node or another recovery runs on it.", dir)).
		WithField("data-dir").WithMend("Stop it first, or choose another --data-dir.").Wrap(err)
}
