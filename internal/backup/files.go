package backup

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/problem"
)

// A manifest lists what was backed up as files, so that a restore is compared
// with what was there and not with what the engine says. It stays on the node.

// listed is one line of a manifest.
type listed struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
	Hash string `json:"sha256"`
}

// manifest is a header and its lines.
type manifest struct {
	At    time.Time `json:"at"`
	Files []listed  `json:"-"`
}

// largestHashed bounds the work: of larger files only the size is compared.
const largestHashed = 64 << 20

func (b *Backups) manifestFile(target string) string {
	return filepath.Join(b.scratchDir(), "manifest-"+target+".jsonl")
}

// writeManifest reads everything that is about to be backed up.
func (b *Backups) writeManifest(ctx context.Context, target string, sources []string) error {
	if err := os.MkdirAll(b.scratchDir(), 0o711); err != nil {
		return pathProblem(b.scratchDir(), err)
	}
	path := b.manifestFile(target)
	f, err := os.CreateTemp(filepath.Dir(path), ".manifest-*")
	if err != nil {
		return pathProblem(path, err)
	}
	defer os.Remove(f.Name())
	out := bufio.NewWriter(f)
	enc := json.NewEncoder(out)
	err = enc.Encode(manifest{At: b.o.Clock().UTC()})
	for _, source := range sources {
		err = errors.Join(err, filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
			if err != nil || ctx.Err() != nil {
				if errors.Is(err, fs.ErrNotExist) && path != source {
					return nil // it went away meanwhile
				}
				return errors.Join(err, ctx.Err())
			}
			if !d.Type().IsRegular() {
				return nil
			}
			l, err := hashFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return errors.Join(err, enc.Encode(l))
		}))
	}
	if err = errors.Join(err, out.Flush(), f.Close()); err != nil {
		return problem.New(problem.Unavailable, "source-unreadable", "What is to be backed up cannot be read.").WithMend("Look at backup.files and at who may read what they name.").Wrap(err)
	}
	return os.Rename(f.Name(), path)
}

func hashFile(path string) (l listed, err error) {
	f, err := os.Open(path)
	if err != nil {
		return l, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return l, err
	}
	l = listed{Path: path, Size: info.Size()}
	if l.Size > largestHashed {
		return l, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return l, err
	}
	l.Hash = hex.EncodeToString(h.Sum(nil))
	return l, nil
}

func readManifest(path string) (m manifest, err error) {
	f, err := os.Open(path)
	if err != nil {
		return m, err
	}
	defer f.Close()
	dec := json.NewDecoder(bufio.NewReader(f))
	if err := dec.Decode(&m); err != nil {
		return m, err
	}
	for {
		var l listed
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			return m, nil
		} else if err != nil {
			return m, err
		}
		m.Files = append(m.Files, l)
	}
}

// CheckFiles is the check of restored files.
const CheckFiles = "files"

// files restores the newest snapshot and compares it with what was there when
// it was made.
func (x *trial) files(ctx context.Context) error {
	b, t := x.b, x.w.task.target
	if x.in.Which != Latest {
		return problem.New(problem.Unsupported, "drill-which", "Of files the newest snapshot is drilled.").WithField("which").WithMend("Use latest.")
	}
	points, err := x.with.Engine.Points(ctx, t)
	if err != nil {
		return err
	}
	if len(points) == 0 {
		return problem.New(problem.NotFound, "point-none", "The repository holds no snapshot of the files.").WithMend("Make one: `foundry backup run files`.")
	}
	if err := b.cleared(ctx); err != nil {
		return err
	}
	if err := b.roomFor(x.size(ctx)); err != nil {
		return err
	}
	if x.place, err = scratch.Make(b.scratchDir()); err != nil {
		return err
	}
	start := time.Now()
	restored, err := x.with.Engine.Restore(ctx, t, engine.RestoreRequest{Label: x.in.Label, To: x.place.Data()}, x.w.progress())
	if err != nil {
		return err
	}
	x.d.Restore = time.Since(start).Seconds()
	x.d.Recovery, x.d.Label, x.d.Bytes = x.d.Restore, restored.Point.Label, restored.Bytes
	x.w.say("comparing files")
	proving := time.Now()
	m, err := readManifest(b.manifestFile(t.Name))
	if err != nil {
		x.proof.Checks = append(x.proof.Checks, Check{Name: CheckFiles, Outcome: Inconclusive, Reason: "There is no list of what was backed up to compare with; the next backup makes one."})
		return nil
	}
	c, n := compareFiles(m, x.place.Data(), restored.Point.Started)
	x.proof.Checks = append(x.proof.Checks, c)
	if b.o.Restored != nil {
		x.proof.Checks = append(x.proof.Checks, b.o.Restored(ctx, x.place.Data())...)
	}
	x.d.Rows, x.d.Prove = int64(n), time.Since(proving).Seconds()
	made := restored.Point.Started
	x.d.Recovered = &made
	x.d.Gap = max(0, x.began.Sub(made).Seconds())
	return nil
}

// compareFiles compares restored files with the list. Files that change while
// they are backed up, such as the journal's newest, may be longer or other
// than listed; a few such are no finding.
func compareFiles(m manifest, root string, snapshot time.Time) (Check, int) {
	if d := snapshot.Sub(m.At); d < -time.Minute || d > 6*time.Hour {
		return Check{Name: CheckFiles, Outcome: Inconclusive, Reason: "The list of what was backed up is of another backup than the newest snapshot."}, 0
	}
	same, changed, lost := 0, 0, ""
	for _, l := range m.Files {
		got, err := hashFile(filepath.Join(root, l.Path))
		if err != nil {
			if lost == "" {
				lost = l.Path
			}
			continue
		}
		if got.Hash == l.Hash && got.Size == l.Size {
			same++
		} else {
			changed++
		}
	}
	total := len(m.Files)
	c := Check{Name: CheckFiles}
	switch {
	case total == 0:
		c.Outcome, c.Reason = Inconclusive, "The list of what was backed up is empty."
	case lost != "" && gone(lost):
		c.Outcome, c.Reason = Inconclusive, fmt.Sprintf("%s was not restored; it is no more on the node either.", filepath.Base(lost))
	case lost != "":
		c.Outcome, c.Reason = Fail, fmt.Sprintf("%d of %d files are missing from the restore, for example %s.", total-same-changed, total, filepath.Base(lost))
	case changed > max(3, total/20):
		c.Outcome, c.Reason = Fail, fmt.Sprintf("%d of %d files differ from what was backed up.", changed, total)
	case same == 0:
		c.Outcome, c.Reason = Inconclusive, "No file is as it was when it was backed up."
	default:
		c.Outcome, c.Reason = Pass, strings.TrimSpace(fmt.Sprintf("%d of %d files are byte for byte what was backed up%s.", same, total, moving(changed)))
	}
	return c, same
}

func gone(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

func moving(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; %d changed while it was made", n)
}
