package restic_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/restic"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

func TestWhatIsRestoredIsWhatWasBackedUpWithOwnersModesTimesAndLinks(t *testing.T) {
	t.Parallel()
	everyKind(t, func(t *testing.T, at target.Target) {
		e := newEngine(t)
		for range 2 {
			must(t, e.Prepare(t.Context(), at))
		}
		source := tree(t, "first")
		want := describe(t, source)
		first := kept(t, e, at, source)
		must(t, os.WriteFile(filepath.Join(source, "secret.key"), []byte("second"), 0o600))
		second := kept(t, e, at, source)
		points, err := e.Points(t.Context(), at)
		must(t, err)
		if len(points) != 2 || points[0].Label != first.Label || points[1].Label != second.Label || points[0].Bytes != first.Bytes || points[1].Paths[0] != source {
			t.Errorf("points %+v, want %s and %s", points, first.Label, second.Label)
		}
		must(t, e.Check(t.Context(), at, nil))
		for name, r := range map[string]engine.RestoreRequest{
			"by label": {Label: first.Label},
			"by time":  {Time: second.Started.Add(-time.Millisecond)},
		} {
			r.To = filepath.Join(t.TempDir(), "new")
			done, err := e.Restore(t.Context(), at, r, nil)
			must(t, err)
			if got := describe(t, filepath.Join(r.To, source)); got != want {
				t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
			}
			if done.Point.Label != first.Label || done.Files < 12 || done.Bytes < 6000 || done.Took <= 0 {
				t.Errorf("%s: %+v", name, done)
			}
		}
		to := t.TempDir() // empty, and there
		_, err = e.Restore(t.Context(), at, engine.RestoreRequest{To: to}, nil)
		must(t, err)
		if text, _ := os.ReadFile(filepath.Join(to, source, "secret.key")); string(text) != "second" {
			t.Errorf("the newest holds %q", text)
		}
	})
}

func TestOneFileIsRestoredByItsPathWhateverItIsCalled(t *testing.T) {
	t.Parallel()
	e, at := newEngine(t), disk(t)
	must(t, e.Prepare(t.Context(), at))
	source := tree(t, "x")
	kept(t, e, at, source)
	to, only := t.TempDir(), filepath.Join(source, "deep/er/file")
	_, err := e.Restore(t.Context(), at, engine.RestoreRequest{To: to, Only: []string{only}}, nil)
	must(t, err)
	if _, err := os.Stat(filepath.Join(to, only)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(to, source, "secret.key")); err == nil {
		t.Error("another file was restored as well")
	}
	_, err = e.Restore(t.Context(), at, engine.RestoreRequest{To: t.TempDir(), Only: []string{"/not/in/it"}}, nil)
	refuses(t, err, "restore-no-file")
}

func TestARestoreNeverTouchesWhatIsThere(t *testing.T) {
	t.Parallel()
	e, at := newEngine(t), disk(t)
	must(t, e.Prepare(t.Context(), at))
	kept(t, e, at, tree(t, "x"))
	to := t.TempDir()
	must(t, os.WriteFile(filepath.Join(to, "mine"), nil, 0o600))
	_, err := e.Restore(t.Context(), at, engine.RestoreRequest{To: to}, nil)
	refuses(t, err, "restore-not-empty")
	_, err = e.Restore(t.Context(), at, engine.RestoreRequest{To: filepath.Join(to, "mine")}, nil)
	if code(err) != "restore-target" {
		t.Errorf("over a file: %v", err)
	}
	_, err = e.Restore(t.Context(), at, engine.RestoreRequest{}, nil)
	if code(err) != "restore-target" {
		t.Errorf("nowhere: %v", err)
	}
}

func TestAPointThatIsNotThereIsSaidSo(t *testing.T) {
	t.Parallel()
	e, at := newEngine(t), disk(t)
	must(t, e.Prepare(t.Context(), at))
	point := kept(t, e, at, tree(t, "x"))
	for name, r := range map[string]engine.RestoreRequest{
		"an unknown label":     {Label: "0123456789abcdef"},
		"too little of one":    {Label: point.Label[:4]},
		"an option":            {Label: "--help"},
		"before the first one": {Time: point.Started.Add(-time.Hour)},
	} {
		r.To = t.TempDir()
		_, err := e.Restore(t.Context(), at, r, nil)
		t.Log(name)
		want := "point-missing"
		if !r.Time.IsZero() {
			want = "point-too-early"
		}
		refuses(t, err, want)
	}
}

func TestBackupsAreRefusedThatWouldHoldNothing(t *testing.T) {
	t.Parallel()
	e, at := newEngine(t), disk(t)
	must(t, e.Prepare(t.Context(), at))
	source := tree(t, "x")
	for name, c := range map[string]struct {
		r    engine.BackupRequest
		code string
	}{
		"no source":                   {engine.BackupRequest{}, "engine-no-sources"},
		"a source that is not there":  {engine.BackupRequest{Sources: []string{source, "/nowhere/at/all"}}, "engine-source-missing"},
		"a path that is not absolute": {engine.BackupRequest{Sources: []string{"-r"}}, "engine-source"},
		"a type it does not have":     {engine.BackupRequest{Sources: []string{source}, Type: engine.Full}, "engine-type"},
		"a tag with a comma":          {engine.BackupRequest{Sources: []string{source}, Tags: map[string]string{"a": "b,c"}}, "engine-tag"},
		"a tag of the engine's own":   {engine.BackupRequest{Sources: []string{source}, Tags: map[string]string{"foundry-bytes": "1"}}, "engine-tag"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := e.Backup(t.Context(), at, c.r, nil)
			if code(err) != c.code {
				t.Errorf("got %v, want %s", err, c.code)
			}
		})
	}
	if points, err := e.Points(t.Context(), at); err != nil || len(points) != 0 {
		t.Errorf("%v %v", points, err)
	}
}

func TestAnotherKeyOpensNothingAndHarmsNothing(t *testing.T) {
	t.Parallel()
	most(t, func(t *testing.T, at target.Target) {
		e := newEngine(t)
		must(t, e.Prepare(t.Context(), at))
		source := tree(t, "x")
		kept(t, e, at, source)
		other := newEngine(t, func(o *restic.Options) {
			o.Passphrase = func(context.Context, target.Target) (string, error) { return "another", nil }
		})
		_, points := other.Points(t.Context(), at)
		_, backup := other.Backup(t.Context(), at, engine.BackupRequest{Sources: []string{source}}, nil)
		_, restore := other.Restore(t.Context(), at, engine.RestoreRequest{To: t.TempDir()}, nil)
		_, expire := other.Expire(t.Context(), at, engine.ExpireRequest{Before: time.Now().Add(time.Hour)})
		for what, err := range map[string]error{
			"prepare": other.Prepare(t.Context(), at), "points": points, "backup": backup,
			"restore": restore, "expire": expire, "check": other.Check(t.Context(), at, nil),
		} {
			t.Log(what)
			refuses(t, err, "repository-key")
		}
		if points, err := e.Points(t.Context(), at); err != nil || len(points) != 1 {
			t.Errorf("afterwards: %v %v", points, err)
		}
	})
}

func TestARepositoryIsMadeOnlyWhereNothingIs(t *testing.T) {
	t.Parallel()
	most(t, func(t *testing.T, at target.Target) {
		e := newEngine(t)
		_, err := e.Backup(t.Context(), at, engine.BackupRequest{Sources: []string{tree(t, "x")}}, nil)
		refuses(t, err, "repository-missing")
		_, err = e.Points(t.Context(), at)
		refuses(t, err, "repository-missing")
		must(t, e.Prepare(t.Context(), at))
		store, err := at.Store(t.Context())
		must(t, err)
		must(t, store.Put(t.Context(), "taken/precious", []byte("x")))
		must(t, store.Close())
		e = newEngine(t, func(o *restic.Options) { o.Repository = "taken" })
		refuses(t, e.Prepare(t.Context(), at), "repository-foreign")
	})
	t.Run("a mount that is away", func(t *testing.T) {
		at := disk(t)
		at.Path = filepath.Join(at.Path, "absent")
		refuses(t, newEngine(t).Prepare(t.Context(), at), "target-gone")
	})
}

func TestRepositoriesAtOneTargetKnowNothingOfEachOther(t *testing.T) {
	faultsOnly(t)
	t.Parallel()
	at := disk(t)
	files := newEngine(t)
	mirrors := newEngine(t, func(o *restic.Options) { o.Repository = "restic-mirrors" })
	must(t, files.Prepare(t.Context(), at))
	must(t, mirrors.Prepare(t.Context(), at))
	kept(t, files, at, tree(t, "x"))
	if points, err := mirrors.Points(t.Context(), at); err != nil || len(points) != 0 {
		t.Errorf("%v %v", points, err)
	}
}

func TestExpiryGoesByAgeAndKeepsWhatIsHeldAndTheOldestMomentPromised(t *testing.T) {
	t.Parallel()
	most(t, func(t *testing.T, at target.Target) {
		e := newEngine(t)
		must(t, e.Prepare(t.Context(), at))
		source := tree(t, "x")
		var labels []string
		var times []time.Time
		for i := range 5 {
			noise(t, source, "changing", 1<<20+i)
			p := kept(t, e, at, source)
			labels, times = append(labels, p.Label), append(times, p.Started)
		}
		r := engine.ExpireRequest{Before: times[4], Held: labels[1:2], DryRun: true}
		for _, r.DryRun = range []bool{true, false} {
			got, err := e.Expire(t.Context(), at, r)
			must(t, err)
			if !slices.Equal(got.Gone, []string{labels[0], labels[2]}) || !slices.Equal(got.KeptByHold, labels[1:2]) || !slices.Equal(got.KeptForChain, labels[3:4]) {
				t.Errorf("dry %v: %+v", r.DryRun, got)
			}
			points, err := e.Points(t.Context(), at)
			must(t, err)
			if want := map[bool]int{true: 5, false: 3}[r.DryRun]; len(points) != want {
				t.Errorf("dry %v: %d points, want %d", r.DryRun, len(points), want)
			}
		}
		for _, label := range []string{labels[1], labels[3], labels[4]} {
			_, err := e.Restore(t.Context(), at, engine.RestoreRequest{Label: label, To: t.TempDir()}, nil)
			must(t, err)
		}
		must(t, e.Check(t.Context(), at, nil))
		got, err := e.Expire(t.Context(), at, engine.ExpireRequest{Before: time.Now().Add(time.Hour)})
		must(t, err)
		if !slices.Equal(got.KeptForChain, labels[4:]) {
			t.Errorf("with all too old: %+v, want the last good one kept", got)
		}
	})
}

func TestAnAppendOnlyTargetKeepsWhatIsTooOld(t *testing.T) {
	faultsOnly(t)
	t.Parallel()
	e, at := newEngine(t), disk(t)
	at.Lock = &target.LockConfig{Mode: target.AppendOnly}
	must(t, e.Prepare(t.Context(), at))
	source := tree(t, "x")
	first, second := kept(t, e, at, source), kept(t, e, at, source)
	got, err := e.Expire(t.Context(), at, engine.ExpireRequest{Before: time.Now().Add(time.Hour)})
	must(t, err)
	if !slices.Equal(got.KeptByLock, []string{first.Label}) || !slices.Equal(got.KeptForChain, []string{second.Label}) || got.Gone != nil {
		t.Errorf("got %+v", got)
	}
}

func TestProgressOnlyGrowsAndEndsAtTheWhole(t *testing.T) {
	t.Parallel()
	e, at := newEngine(t), disk(t)
	must(t, e.Prepare(t.Context(), at))
	source := noise(t, t.TempDir(), "big", 8<<20)
	var last, total int64
	point, err := e.Backup(t.Context(), at, engine.BackupRequest{Sources: []string{source}}, func(done, of int64, what string) {
		if done < last || of < done || what == "" {
			t.Errorf("%d of %d %q after %d", done, of, what, last)
		}
		last, total = done, of
	})
	must(t, err)
	if last != 8<<20 || total != 8<<20 || point.Bytes != 8<<20 || point.Stored < 8<<20 {
		t.Errorf("%d of %d, %+v", last, total, point)
	}
	last = 0
	done, err := e.Restore(t.Context(), at, engine.RestoreRequest{To: t.TempDir()}, func(n, of int64, _ string) { last, total = n, of })
	must(t, err)
	if last != 8<<20 || total != 8<<20 || done.Bytes != 8<<20 {
		t.Errorf("%d of %d, %+v", last, total, done)
	}
}

func TestWithoutTheProgramItSaysWhatInstallsIt(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	e, err := restic.New(options(t))
	must(t, err)
	refuses(t, e.Prepare(t.Context(), disk(t)), "engine-missing")
	if p := problem.From(e.Prepare(t.Context(), disk(t))); !strings.Contains(p.Mend, "make setup") {
		t.Errorf("got %v", p)
	}
}
