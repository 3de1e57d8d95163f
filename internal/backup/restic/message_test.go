package restic

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
)

const id = "0ad6690f2506b2e4fc3a20104079af5db22f03393e55cc955e1c584eb07d4c21"

// Lines of restic 0.14.
const (
	status  = `{"message_type":"status","percent_done":0.5,"total_files":3,"files_done":1,"total_bytes":180,"bytes_done":90,"current_files":["/src/1"]}`
	summary = `{"message_type":"summary","files_new":1,"data_added":706,"total_files_processed":1,"total_bytes_processed":2,"snapshot_id":"0ad6690f"}`
	failure = `{"message_type":"error","error":{"Op":"open","Path":"/bad","Err":13},"during":"archival","item":"/bad"}`
	listed  = `[{"time":"2026-11-23T00:10:26.734526014Z","paths":["/src"],"hostname":"h","tags":["node=n","foundry-bytes=12"],"id":"` + id + `","short_id":"0ad6690f"}]`
)

func TestLinesOfResticAreRead(t *testing.T) {
	t.Parallel()
	if m, ok := parseMessage(status); !ok || m.BytesDone != 90 || m.TotalBytes != 180 {
		t.Errorf("status %+v", m)
	}
	if m, ok := parseMessage(summary); !ok || m.Snapshot != "0ad6690f" || m.Added != 706 {
		t.Errorf("summary %+v", m)
	}
	if m, ok := parseMessage(failure); !ok || m.Item != "/bad" || m.vanished() {
		t.Errorf("error %+v", m)
	}
	if m, _ := parseMessage(strings.Replace(failure, "13", "2", 1)); !m.vanished() {
		t.Error("ENOENT is not told from a failure")
	}
	for _, bad := range []string{"", "Warning: at least one source file could not be read", "{}", `{"message_type":`, `{"message_type":3}`} {
		if _, ok := parseMessage(bad); ok {
			t.Errorf("%q is a message", bad)
		}
	}
	all, err := parseSnapshots([]byte(listed))
	if err != nil || len(all) != 1 || all[0].tag("foundry-bytes") != "12" || all[0].tag("node") != "n" || all[0].tag("kind") != "" {
		t.Errorf("%+v %v", all, err)
	}
	for _, bad := range []string{"", "null{}", "[{}]", `[{"id":"--help","time":"2026-11-23T00:10:26Z"}]`, `{"a":1}`} {
		if _, err := parseSnapshots([]byte(bad)); err == nil {
			t.Errorf("%q is a list of snapshots", bad)
		}
	}
}

func FuzzOutputOfRestic(f *testing.F) {
	for _, s := range []string{status, summary, failure, listed, `{"total_size":6,"total_file_count":11}`, `{"time":"2026-11-23T00:23:11Z","exclusive":false,"hostname":"vm","pid":27854}`,
		"Save(<lock/44>) returned error, retrying after 1s: read-only file system", "repository is already locked by PID 27907 on vm by root (UID 0, GID 0)"} {
		f.Add(s)
	}
	s := &session{t: target.Target{Config: target.Config{Name: "t"}}, e: &Engine{o: Options{State: "/state"}}}
	f.Fuzz(func(t *testing.T, text string) {
		if m, ok := parseMessage(text); ok && (m.BytesDone < 0 || m.TotalBytes < 0 || m.Snapshot != "" && !snapshotID.MatchString(m.Snapshot)) {
			t.Errorf("%+v", m)
		}
		if all, err := parseSnapshots([]byte(text)); err == nil {
			for i, one := range all {
				if p := s.point(one); len(p.Label) != labelLength || p.Bytes < 0 || i > 0 && one.Time.Before(all[i-1].Time) {
					t.Errorf("%+v", p)
				}
			}
		}
		if size, err := parseStats([]byte(text)); err == nil && (size.Bytes < 0 || size.Entries < 0) {
			t.Errorf("%+v", size)
		}
		if l, err := parseLock([]byte(text)); err == nil && l.PID <= 0 {
			t.Errorf("%+v", l)
		}
		for _, op := range []operation{opBackup, opRestore, opRead} {
			if p := s.known(op, text); p != nil && (p.Code == "" || p.Detail == "") {
				t.Errorf("%+v", p)
			}
		}
	})
}

func TestWhatResticSaysBecomesWhatToDo(t *testing.T) {
	t.Parallel()
	s := &session{t: target.Target{Config: target.Config{Name: "box", Path: "/b"}}, e: &Engine{o: Options{State: "/state", Repository: "restic"}}}
	for text, want := range map[string]string{
		"Fatal: wrong password or no key found": "repository-key",
		"unable to create lock in backend: repository is already locked by PID 27907 on vm by root (UID 0, GID 0)": "engine-locked",
		"Fatal: unable to save snapshot: write /b/data/25: no space left on device":                                "target-full",
		"write /state/cache/x: no space left on device":                                                            "engine-state-full",
		"Save(<lock/1>) returned error, retrying after 1s: open /b/locks/1: read-only file system":                 "target-read-only",
		"client.PutObject: Access Denied.":                                                                         "target-denied",
		`Fatal: unable to open config file: Stat: Get "https://x/": dial tcp: connection refused`:                  "target-gone",
		"Fatal: unable to open config file: stat /b/config: no such file or directory\nIs there a repository at":   "repository-missing",
		"ciphertext verification failed":                                                                           "repository-damaged",
		"Host key verification failed.":                                                                            "target-host-key",
		"root@127.0.0.1: Permission denied (publickey).\nFatal: unable to open repository":                         "target-credentials",
		`invalid id "deadbeef": no matching ID found for prefix "deadbeef"`:                                        "point-missing",
		"load <data/1>: open /b/data/1: no such file or directory":                                                 "repository-damaged",
		"x509: certificate signed by unknown authority":                                                            "target-certificate",
		"something new": "",
	} {
		p := s.known(opRead, text)
		if got := func() string {
			if p == nil {
				return ""
			}
			return p.Code
		}(); got != want {
			t.Errorf("%s\n: %s, want %s", text, got, want)
		}
	}
	if p := s.known(opRestore, "write /restore/here: no space left on device"); p == nil || p.Code != "restore-full" {
		t.Errorf("a full disk here: %v", p)
	}
	if p := s.known(opRead, "repository is already locked exclusively by PID 7 on other-host by x (UID 0, GID 0)"); !strings.Contains(p.Detail, "process 7 on other-host") {
		t.Errorf("who holds it: %v", p)
	}
}

func TestOnlyADeadProcessOfThisNodeOwnsALock(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	notes := []*runNote{{PID: 7, Host: "here", Began: began}}
	for name, c := range map[string]struct {
		l    lock
		want bool
	}{
		"the one it made":             {lock{Time: began.Add(time.Second), Host: "here", PID: 7}, true},
		"one that it made anew":       {lock{Time: began.Add(time.Hour), Host: "here", PID: 7}, true},
		"another machine's":           {lock{Time: began.Add(time.Second), Host: "there", PID: 7}, false},
		"another process's":           {lock{Time: began.Add(time.Second), Host: "here", PID: 8}, false},
		"one from before it":          {lock{Time: began.Add(-time.Hour), Host: "here", PID: 7}, false},
		"one of a machine of no name": {lock{Time: began.Add(time.Second), PID: 7}, false},
	} {
		if got := ours(c.l, notes); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestOfWhatIsTooOldTheNewestAndTheHeldStay(t *testing.T) {
	t.Parallel()
	at := func(day int) time.Time { return time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC) }
	var points []engine.Point
	for i, l := range []string{"aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "cccccccccccccccc", "dddddddddddddddd"} {
		points = append(points, engine.Point{Label: l, Started: at(i + 1)})
	}
	e := choose(points, engine.ExpireRequest{Before: at(3), Held: []string{"aaaaaaaaaaaaaaaa", "", "b"}})
	if len(e.Gone) != 0 || len(e.KeptByHold) != 1 || len(e.KeptForChain) != 1 || e.KeptForChain[0] != points[1].Label {
		t.Errorf("%+v", e)
	}
	points[1].Broken, points[2].Broken = "not whole", "not whole"
	e = choose(points, engine.ExpireRequest{Before: at(4)})
	if len(e.Gone) != 0 || !slices.Equal(e.KeptForChain, []string{points[0].Label, points[1].Label, points[2].Label}) {
		t.Errorf("with two that are not whole: %+v", e)
	}
	points[0].Broken = "not whole"
	if e := choose(points, engine.ExpireRequest{Before: at(4)}); len(e.Gone) != 2 || !slices.Equal(e.KeptForChain, []string{points[2].Label}) {
		t.Errorf("with none that is whole: %+v", e)
	}
	if e := choose(points, engine.ExpireRequest{Before: at(1)}); len(e.Gone)+len(e.KeptForChain)+len(e.KeptByHold) != 0 {
		t.Errorf("with none too old: %+v", e)
	}
}
