package pgbackrest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

var (
	day0  = time.Date(2026, 1, 1, 2, 15, 0, 0, time.UTC)
	place = target.Target{Config: target.Config{Name: "far", Kind: target.Directory, Path: "/mnt/far"}}
)

// points reads "F0 D1 D2 F7": the type and the day; a ! marks one as broken.
func points(text string) (out []engine.Point) {
	var full string
	for _, word := range strings.Fields(text) {
		broken := strings.HasSuffix(word, "!")
		word = strings.TrimSuffix(word, "!")
		var day int
		if _, err := fmt.Sscanf(word[1:], "%d", &day); err != nil {
			panic(err)
		}
		p := engine.Point{Label: word, Type: engine.Full, Stopped: day0.AddDate(0, 0, day), Timeline: 1, StopLSN: fmt.Sprintf("0/%X", day<<24)}
		if word[0] == 'D' {
			p.Type, p.Requires = engine.Differential, []string{full}
		} else {
			full = word
		}
		if broken {
			p.Broken = "broken"
		}
		out = append(out, p)
	}
	return out
}

func TestWhatGoesAndWhatStays(t *testing.T) {
	for name, c := range map[string]struct {
		have                  string
		before                float64 // days
		held                  string
		gone, chain, heldBack string
	}{
		"nothing is old": {"F0 D1 D2", 0, "", "", "", ""},
		"the newest old one serves the oldest day":       {"F0 D1 F7 D8", 8.5, "", "F0 D1", "F7 D8", ""},
		"a full one between serves it alone":             {"F0 D1 F7 D8", 7.5, "", "F0 D1", "F7", ""},
		"what a young one requires stays":                {"F0 D1 D40", 30, "", "", "F0 D1", ""},
		"all are old, and the last chain stays":          {"F0 F7 D8", 100, "", "F0", "F7 D8", ""},
		"a broken one does not serve the oldest day":     {"F0 D1 F7!", 8, "", "F7", "F0 D1", ""},
		"a broken one alone is no chain to keep":         {"F0!", 30, "", "F0", "", ""},
		"a held one stays with what it requires":         {"F0 D1 F7 F14", 100, "D1", "F7", "F14", "F0 D1"},
		"a held one that the chain needs is the chain's": {"F0 D1", 100, "D1", "", "F0 D1", ""},
		"a hold of what is not there holds nothing":      {"F0 F7", 100, "F99", "F0", "F7", ""},
		"nothing at all": {"", 30, "", "", "", ""},
		"a differential one of a held full one is not held": {"F0 D1 F7", 100, "F0", "D1", "F7", "F0"},
	} {
		t.Run(name, func(t *testing.T) {
			before := day0.Add(time.Duration(c.before * 24 * float64(time.Hour)))
			x := plan(points(c.have), engine.ExpireRequest{Before: before, Held: strings.Fields(c.held)})
			for what, pair := range map[string][2][]string{"gone": {x.Gone, strings.Fields(c.gone)}, "chain": {x.KeptForChain, strings.Fields(c.chain)}, "held": {x.KeptByHold, strings.Fields(c.heldBack)}} {
				if !slices.Equal(pair[0], pair[1]) {
					t.Errorf("%s: got %q, want %q", what, pair[0], pair[1])
				}
			}
		})
	}
}

// Whatever there is and whenever it is asked: what stays can be restored, and
// every moment from Before on that could be restored still can.
func TestExpiryNeverBreaksAChain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var words []string
		for day := range rapid.IntRange(0, 20).Draw(t, "days") {
			kind := rapid.SampledFrom([]string{"F", "D", "D", ""}).Draw(t, "kind")
			if kind == "" || kind == "D" && len(words) == 0 {
				continue
			}
			words = append(words, fmt.Sprintf("%s%d%s", kind, day, rapid.SampledFrom([]string{"", "", "", "!"}).Draw(t, "broken")))
		}
		all := points(strings.Join(words, " "))
		before := day0.AddDate(0, 0, rapid.IntRange(-2, 25).Draw(t, "before")).Add(time.Hour)
		var held []string
		for _, p := range all {
			if rapid.IntRange(0, 5).Draw(t, "held") == 0 {
				held = append(held, p.Label)
			}
		}
		x := plan(all, engine.ExpireRequest{Before: before, Held: held})
		var left []engine.Point
		for _, p := range all {
			if !slices.Contains(x.Gone, p.Label) {
				left = append(left, p)
			}
		}
		has := func(label string) bool {
			return slices.ContainsFunc(left, func(p engine.Point) bool { return p.Label == label })
		}
		for _, p := range left {
			for _, needed := range p.Requires {
				if !has(needed) {
					t.Fatalf("%s stays without %s", p.Label, needed)
				}
			}
		}
		for _, label := range held {
			if !has(label) {
				t.Fatalf("%s is held and goes", label)
			}
		}
		good := func(points []engine.Point) bool {
			return slices.ContainsFunc(points, func(p engine.Point) bool { return p.Broken == "" })
		}
		if good(all) && !good(left) {
			t.Fatal("the last good backup goes")
		}
		serves := func(points []engine.Point, at time.Time) bool {
			return slices.ContainsFunc(points, func(p engine.Point) bool { return p.Broken == "" && !p.Stopped.After(at) })
		}
		for day := range 30 {
			at := before.AddDate(0, 0, day)
			if serves(all, at) && !serves(left, at) {
				t.Fatalf("%v can no longer be restored", at)
			}
		}
	})
}

func TestWhichBackupIsRestored(t *testing.T) {
	have := points("F0 D1 F7 D8")
	at := func(day float64) time.Time { return day0.Add(time.Duration(day * 24 * float64(time.Hour))) }
	for name, c := range map[string]struct {
		h     lineage
		r     engine.RestoreRequest
		label string
		code  string
	}{
		"the end of what there is":               {lineage{}, engine.RestoreRequest{}, "D8", ""},
		"the newest before a time":               {lineage{}, engine.RestoreRequest{Time: at(7.5)}, "F7", ""},
		"at the very moment it was complete":     {lineage{}, engine.RestoreRequest{Time: at(1)}, "D1", ""},
		"before the oldest":                      {lineage{}, engine.RestoreRequest{Time: at(-1)}, "", "point-too-early"},
		"one by name":                            {lineage{}, engine.RestoreRequest{Label: "F0"}, "F0", ""},
		"one by name at a later time":            {lineage{}, engine.RestoreRequest{Label: "F0", Time: at(9)}, "F0", ""},
		"one by name at an earlier time":         {lineage{}, engine.RestoreRequest{Label: "F7", Time: at(2)}, "", "point-younger"},
		"one that is not there":                  {lineage{}, engine.RestoreRequest{Label: "F3"}, "", "point-missing"},
		"not one of a branch that was left":      {lineage{newest: 2, parents: map[uint32]uint64{1: 2 << 24}}, engine.RestoreRequest{}, "D1", ""},
		"one of a branch that was left, by name": {lineage{newest: 2, parents: map[uint32]uint64{1: 2 << 24}}, engine.RestoreRequest{Label: "F7"}, "F7", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := choose(place, have, c.h, c.r)
			if c.code != "" {
				if pr := problem.From(err); pr.Code != c.code || pr.Mend == "" {
					t.Fatalf("got %v, want %s", err, c.code)
				}
				return
			}
			if err != nil || p.Label != c.label {
				t.Fatalf("got %s, %v; want %s", p.Label, err, c.label)
			}
		})
	}
	left := lineage{newest: 2, parents: map[uint32]uint64{1: 2 << 24}}
	if got := left.target(have[2]); got != "1" {
		t.Errorf("a backup of a branch that was left follows %q, want its own timeline", got)
	}
	if got := left.target(have[0]); got != "latest" {
		t.Errorf("an ancestor follows %q, want latest", got)
	}
}

func TestGapsAreNamedBySegmentAndTime(t *testing.T) {
	var listing []string
	add := func(name string, minute int) {
		listing = append(listing, fmt.Sprintf(`"15-1/0000000100000000/%s-%040d.zst":{"size":100,"time":%d,"type":"file"}`, name, 1, day0.Unix()+int64(minute)*60))
	}
	add("0000000100000000000000FE", 1)
	add("0000000100000000000000FF", 2)
	add("000000010000000100000000", 3) // follows 00FF
	add("000000010000000100000003", 9) // 1 and 2 are missing
	add("000000020000000100000003", 10)
	listing = append(listing, `".":{"type":"path"}`, `"15-1/00000002.history":{"size":50,"time":1,"type":"file"}`, `"15-1/archive.info":{"size":1,"time":1,"type":"file"}`,
		`"14-0/0000000100000000/000000010000000000000001-0000000000000000000000000000000000000001.zst":{"size":1,"time":1,"type":"file"}`,
		`"15-1/0000000100000000/0000000100000000000000FE.00000028.backup":{"size":1,"time":1,"type":"file"}`,
		`"15-1/0000000200000001/000000020000000100000004.partial-0000000000000000000000000000000000000001.zst":{"size":1,"time":1,"type":"file"}`)
	a, err := parseArchive([]byte("{" + strings.Join(listing, ",") + "}"))
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Segments) != 5 || len(a.Gaps) != 1 || !slices.Equal(a.Histories, []uint32{2}) || a.Bytes != 500 {
		t.Fatalf("got %+v", a)
	}
	if got, want := a.Gaps[0].String(), "000000010000000100000001 to 000000010000000100000002, between 2026-01-01T02:18:00Z and 2026-01-01T02:24:00Z"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if newest, ok := a.Newest(); !ok || newest.Name != "000000020000000100000003" {
		t.Errorf("the newest is %+v", newest)
	}
}

// A hole where one timeline follows another is in neither of them.
func TestAGapBetweenTimelinesIsFound(t *testing.T) {
	segments := func(text string) (out []Segment) {
		for _, word := range strings.Fields(text) {
			var timeline uint32
			var number uint64
			if _, err := fmt.Sscanf(word, "%d:%d", &timeline, &number); err != nil {
				t.Fatal(err)
			}
			out = append(out, Segment{Name: segmentName(timeline, number), Timeline: timeline, Number: number})
		}
		return out
	}
	in3 := map[uint32]uint64{1: 3<<24 + 100} // left in segment 3
	for name, c := range map[string]struct{ have, want string }{
		"whole":                                 {"1:1 1:2 1:3 1:4 2:3 2:4", ""},
		"whole, the parent's last not archived": {"1:1 1:2 2:3 2:4", ""},
		"the new one's first is missing":        {"1:1 1:2 1:3 1:4 2:4 2:5", "000000020000000000000003"},
		"two of the new one's are missing":      {"1:1 1:2 1:3 2:5", "000000020000000000000003"},
		"the parent's end is missing":           {"1:1 2:3", "000000010000000000000002"},
		"the parent is expired":                 {"2:4 2:5", ""},
		"nothing new yet":                       {"1:1 1:2 1:3", ""},
	} {
		got := ""
		for _, g := range joint(segments(c.have), 2, in3) {
			got = g.First
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func FuzzArchiveListing(f *testing.F) {
	f.Add([]byte(`{".":{"type":"path"}}`))
	f.Add([]byte(`{"15-1/0000000100000000/000000010000000000000001-498659603fa78fa79db9495ee7180dadb8da18f4.zst":{"size":1,"time":1795393251,"type":"file"},"15-1/0000000100000000/0000000100000000000000FF-498659603fa78fa79db9495ee7180dadb8da18f4":{"size":1,"time":1,"type":"file"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := parseArchive(text)
		if err != nil {
			return
		}
		for _, s := range a.Segments {
			if segmentName(s.Timeline, s.Number) != s.Name {
				t.Errorf("%s became %s", s.Name, segmentName(s.Timeline, s.Number))
			}
		}
		for _, g := range a.Gaps {
			if g.First > g.Last || len(g.First) != 24 {
				t.Errorf("a gap from %s to %s", g.First, g.Last)
			}
		}
	})
}

func FuzzInfo(f *testing.F) {
	f.Add([]byte(`[{"backup":[{"archive":{"start":"000000010000000000000002","stop":"000000010000000000000002"},"error":true,"info":{"size":22992584,"repository":{"delta":2840432}},"label":"20261123-002051F","lsn":{"start":"0/2000028","stop":"0/2000100"},"timestamp":{"start":1795393251,"stop":1795393252},"type":"full"}],"name":"foundry","repo":[{"status":{"code":0,"message":"ok"}}],"status":{"code":0,"message":"ok"}}]`))
	f.Add([]byte("[{\"name\":\"foundry\",\"repo\":[{\"status\":{\"code\":99,\"message\":\"[FormatError] \x1a\x00\xff\"}}]}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		i, err := parseInfo(text)
		if err != nil {
			return
		}
		points := i.points(place)
		for n := 1; n < len(points); n++ {
			if points[n].Stopped.Before(points[n-1].Stopped) {
				t.Error("points are out of order")
			}
		}
	})
}

func FuzzHistory(f *testing.F) {
	f.Add("1\t0/A000000\tno recovery target specified\n\n2\t0/B000198\tbefore 2026-01-01 02:15:00+00\n")
	f.Fuzz(func(_ *testing.T, text string) { _, _ = parseHistory(text) })
}

func TestTheReportOfVerifyIsRead(t *testing.T) {
	const good = "stanza: foundry\nstatus: ok\n  archiveId: 15-1, total WAL checked: 14, total valid WAL: 14\n    missing: 0, checksum invalid: 0, size invalid: 0, other: 0\n" +
		"  backup: 20261123-002051F, status: valid, total files checked: 964, total valid files: 964\n    missing: 0, checksum invalid: 0, size invalid: 0, other: 0\n"
	for name, c := range map[string]struct{ text, want string }{
		"all is well":          {good, ""},
		"nothing was said":     {"", "pgBackRest said nothing about it"},
		"a flipped byte":       {strings.Replace(strings.Replace(good, "status: ok", "status: error", 1), "964\n    missing: 0, checksum invalid: 0", "963\n    missing: 0, checksum invalid: 1", 1), "in backup 20261123-002051F, checksum invalid: 1"},
		"a missing segment":    {strings.Replace(good, "14\n    missing: 0", "13\n    missing: 1", 1), "in the archive, missing: 1"},
		"an invalid backup":    {strings.Replace(good, "status: valid", "status: invalid", 1), "backup 20261123-002051F is invalid"},
		"no repository":        {"stanza: foundry\nstatus: error\n  No usable backup.info file\n  No usable archive.info file\n", "No usable backup.info file"},
		"one being made":       {strings.Replace(good, "status: valid", "status: in-progress", 1), ""},
		"an error of no kind":  {"stanza: foundry\nstatus: error\n", "error"},
		"counts beyond digits": {strings.Replace(good, "other: 0", "other: 12", 1), "in the archive, other: 12"},
	} {
		if got := verifyReport(c.text); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestKnownFailuresSayWhatToDo(t *testing.T) {
	for text, want := range map[string]string{
		"ERROR: [064]: unable to write '/r/x': [28] No space left on device":                                                      "target-full",
		"ERROR: [041]: unable to open '/r/x' for write: [30] Read-only file system":                                               "target-read-only",
		"ERROR: [050]: unable to acquire lock on file '/l/foundry-backup.lock': Resource temporarily unavailable":                 "engine-locked",
		"ERROR: [062]: stop file exists for stanza foundry":                                                                       "engine-stopped",
		"ERROR: [095]: unable to load info file\n       CryptoError: unable to flush\n       HINT: is or was the repo encrypted?": "repository-key",
		"ERROR: [029]: unable to load info file '/r/b'\n       FormatError: key/value found outside of section":                   "repository-key",
		"ERROR: [055]: unable to load info file '/r/b'\n       FileMissingError: unable to open missing file":                     "repository-missing",
		"ERROR: [056]: unable to connect to 'dbname='postgres'': connection refused":                                              "engine-refused",
		"ERROR: [056]: unable to find primary cluster - cannot proceed\n       HINT: are all available clusters in recovery?":     "engine-refused",
		"ERROR: [057]: unable to execute query 'select 1': ERROR: no":                                                             "engine-database",
		"ERROR: [082]: WAL segment 000000010000000000000002 was not archived before the 60000ms timeout":                          "engine-archive",
		"ERROR: [075]: no backup set found to restore":                                                                            "point-missing",
		"ERROR: [049]: unable to connect to '127.0.0.1:9': [111] Connection refused":                                              "target-gone",
		"ERROR: [039]: HTTP request failed with 403 (Forbidden):\n*** Response Content ***\n<Error><Code>AccessDenied</Code>":     "target-denied",
		"ERROR: [047]: unable to create path '/r/y': [13] Permission denied":                                                      "target-denied",
		"ERROR: [051]: database version = 15, system-id 1 does not match stanza version":                                          "repository-foreign",
		"ERROR: [087]: archive_mode must be enabled":                                                                              "engine-archiving-off",
		"ERROR: [063]: terminated on signal [SIGTERM]":                                                                            "engine-killed",
		"ERROR: [CryptoError] unable to find hostname '127.0.0.1' in certificate common name or subject alternative names":        "target-certificate",
		"ERROR: [123]: something new": "engine-failed",
		"":                            "engine-failed",
	} {
		p := problem.From(failure(place, engine.Output{Last: strings.Split(text, "\n"), Exit: 1}, fmt.Errorf("exit status 1")))
		if p.Code != want || p.Mend == "" || p.Detail == "" || strings.Contains(p.Detail, "\n") {
			t.Errorf("%q: got %s (%s; %s), want %s", text, p.Code, p.Detail, p.Mend, want)
		}
	}
}

func FuzzFailure(f *testing.F) {
	f.Add("ERROR: [055]: unable to load info file '/r/b'")
	f.Add("2026-11-23 00:20:52.561 P01 DETAIL: backup file /d/base/1/2602_vm (bundle 1/2654576, 8KB, 99.46%) checksum 9ba1d7")
	f.Fuzz(func(t *testing.T, text string) {
		if p := problem.From(failure(place, engine.Output{Last: strings.Split(text, "\n")}, fmt.Errorf("exit status 1"))); p.Mend == "" {
			t.Errorf("%q has no mend", text)
		}
		w := &watcher{total: 1 << 40, progress: func(done, total int64, _ string) {
			if done < 0 {
				t.Errorf("%q: %d of %d", text, done, total)
			}
		}}
		w.line(text)
	})
}

func TestProgressIsReadFromTheLog(t *testing.T) {
	var told []int64
	w := &watcher{total: 1000, what: "database", progress: func(done, _ int64, _ string) { told = append(told, done) }}
	for _, line := range []string{
		"2026-11-23 00:20:52.561 P01 DETAIL: backup file /d/base/1/2602 (8KB, 10.00%) checksum 9ba1d73c",
		"2026-11-23 00:20:52.561 P02 DETAIL: backup file /d/base/1/26 (a, 5%).txt (bundle 1/2654576, 8KB, 50.5%) checksum 9ba1d73c",
		"2026-11-23 00:20:52.561 P02 DETAIL: restore file /d/base/1/2602 (bundle 1/2654576, 8KB, 40%) checksum 9ba1d73c", // never back
		"2026-11-23 00:20:52.878 P00   INFO: new backup label = 20261123-002051F_20261123-002054D",
		"2026-11-23 00:20:52.902 P00   INFO: full backup size = 21.9MB, file total = 964",
	} {
		w.line(line)
	}
	if !slices.Equal(told, []int64{100, 505}) || w.label != "20261123-002051F_20261123-002054D" || w.files != 964 {
		t.Errorf("told %v, label %q, files %d", told, w.label, w.files)
	}
}

func TestSFTPIsRefused(t *testing.T) {
	err := usable(target.Target{Config: target.Config{Name: "far", Kind: target.SFTPHost}})
	if p := problem.From(err); p.Code != "engine-kind" || p.Mend == "" {
		t.Errorf("got %v", err)
	}
}

func TestAnExternalDatabaseIsRefused(t *testing.T) {
	if _, err := (&Engine{}).server(); problem.From(err).Code != "engine-external" || problem.From(err).Mend == "" {
		t.Errorf("got %v", err)
	}
}

func TestTheArchiveCommandQuotesItsWords(t *testing.T) {
	if got, want := shellQuote(`/a b/o'c%p`), `'/a b/o'\''c%%p'`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := settingQuote(`a'b\c`), `a''b\\c`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
