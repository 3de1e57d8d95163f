package scratch

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestAProofIsItsWorstCheckAndNothingMissingIsGreen(t *testing.T) {
	ok := func(names ...string) (out []Check) {
		for _, n := range names {
			out = append(out, pass(n, "Seen."))
		}
		return out
	}
	for _, c := range []struct {
		name     string
		checks   []Check
		required []string
		want     Outcome
		says     string
	}{
		{"nothing was looked at", nil, nil, Inconclusive, "Nothing was looked at"},
		{"all passed", ok("a", "b"), []string{"a", "b"}, Pass, "Proven by a, b."},
		{"a required check is missing", ok("a"), []string{"a", "b"}, Inconclusive, "b: It was not looked at."},
		{"one failed", append(ok("a"), fail("b", "Lost.")), nil, Fail, "b: Lost."},
		{"a failure outweighs what is unclear", []Check{unclear("a", "Hm."), fail("b", "Lost.")}, nil, Fail, "b: Lost."},
		{"one is unclear", append(ok("a"), unclear("b", "Hm.")), nil, Inconclusive, "b: Hm."},
		{"a pass without a reason proves nothing", []Check{{Name: "a", Outcome: Pass}}, nil, Inconclusive, "does not say what it saw"},
		{"an unknown outcome is no pass", []Check{{Name: "a", Outcome: "green", Reason: "x"}}, nil, Inconclusive, "a: x"},
		{"an empty outcome is no pass", []Check{{Name: "a", Reason: "x"}}, nil, Inconclusive, "a: x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := Proof{Checks: c.checks}
			p.Settle(c.required...)
			if p.Outcome != c.want || !strings.Contains(p.Reason, c.says) {
				t.Fatalf("%s: %q, want %s with %q", p.Outcome, p.Reason, c.want, c.says)
			}
		})
	}
}

func TestSegmentsAreReadByTheirNamesOnly(t *testing.T) {
	for _, c := range []struct {
		name string
		n    uint64
		ok   bool
	}{
		{"000000010000000000000001", 1, true},
		{"000000010000000100000000", 256, true},
		{"0000000100000000000000FF", 255, true},
		{"000000010000000000000100", 0, false}, // 256 segments of 16 MiB to a log
		{"000000010000000000000001-5b3a.zst", 1, true},
		{"000000010000000000000001.partial", 0, false},
		{"000000010000000000000001.00000028.backup", 0, false},
		{"00000002.history", 0, false},
		{"00000000000000000000000A", 0, false},
		{"00000001000000000000000g", 0, false},
		{"", 0, false},
	} {
		s, ok := parseSegment(c.name, SegmentBytes)
		if ok != c.ok || ok && s.n != c.n {
			t.Errorf("%s: %v %v", c.name, s, ok)
		}
	}
}

func FuzzSegmentNames(f *testing.F) {
	f.Add("000000010000000000000001", "0/3000060")
	f.Add("0000000100000000000000FF-abc.gz", "FFFFFFFF/FFFFFFFF")
	f.Add("00000002.history", "x")
	f.Fuzz(func(t *testing.T, name, lsn string) {
		if s, ok := parseSegment(name, SegmentBytes); ok && !strings.HasPrefix(name, s.name(SegmentBytes)) {
			t.Fatalf("%q became %s", name, s.name(SegmentBytes))
		}
		if n, err := ParseLSN(lsn); err == nil {
			if again, err := ParseLSN(FormatLSN(n)); err != nil || again != n {
				t.Fatalf("%q became %s", lsn, FormatLSN(n))
			}
		}
		_ = Archive{Names: []string{name}}.Check(name, lsn)
	})
}

func names(line, from, to int) (out []string) {
	for n := from; n <= to; n++ {
		out = append(out, segment{uint32(line), uint64(n)}.name(SegmentBytes))
	}
	return out
}

func TestTheLogIsWholeOnlyIfEverySegmentIsThere(t *testing.T) {
	start := names(1, 3, 3)[0]
	all := append(names(1, 1, 300), "00000001.history", "archive.info", "000000010000000000000003.00000028.backup")
	for _, c := range []struct {
		name  string
		have  []string
		start string
		reach string
		want  Outcome
		says  string
	}{
		{"all are there", all, start, "1/2C000000", Pass, "All 298 segments"},
		{"reached within the last", all, start, "1/2CFFFFFF", Pass, ""},
		{"the archive had come further", all, start, "1/2D000001", Fail, "end at 1/2D000000"},
		{"one is missing", append(names(1, 1, 200), names(1, 202, 300)...), start, "1/2C000000", Fail, "Segment 0000000100000000000000C9 is missing"},
		{"one is missing before the backup", append(names(1, 1, 1), names(1, 3, 300)...), start, "1/2C000000", Pass, ""},
		{"the first is missing", names(1, 4, 300), start, "1/2C000000", Fail, "with which the backup begins"},
		{"there is none", []string{"archive.info"}, start, "0/1", Fail, "no segment"},
		{"the last is missing, and nobody knows", names(1, 1, 299), start, "", Inconclusive, "is not known"},
		{"the last is missing, and somebody knows", names(1, 1, 299), start, "1/2C000001", Fail, "the archive had reached"},
		{"the engine is silent about the backup", all, "", "1/0", Inconclusive, "does not say"},
		{"a promotion in between", append(names(1, 1, 10), names(2, 10, 20)...), start, "0/14000000", Pass, "All 18 segments"},
		{"a promotion at the end of a segment", append(names(1, 1, 9), names(2, 10, 20)...), start, "0/14000000", Pass, ""},
		{"a gap after a promotion", append(names(1, 1, 10), append(names(2, 10, 12), names(2, 14, 20)...)...), start, "0/14000000", Fail, "00000002000000000000000D"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Archive{Names: c.have}.Check(c.start, c.reach)
			if got.Outcome != c.want || !strings.Contains(got.Reason, c.says) {
				t.Fatalf("%s: %s; want %s: %s", got.Outcome, got.Reason, c.want, c.says)
			}
		})
	}
}

// Whichever segment behind the start is taken away, the check is never green.
func TestNoSegmentCanBeTakenAwayUnnoticed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.IntRange(1, 600).Draw(t, "first")
		count := rapid.IntRange(1, 60).Draw(t, "count")
		gone := rapid.IntRange(0, count-1).Draw(t, "gone")
		all := names(1, first, first+count-1)
		reach := FormatLSN(uint64(first+count) * SegmentBytes)
		if c := (Archive{Names: all}).Check(all[0], reach); c.Outcome != Pass {
			t.Fatalf("whole: %s", c.Reason)
		}
		without := append(append([]string{}, all[:gone]...), all[gone+1:]...)
		if c := (Archive{Names: without}).Check(all[0], reach); c.Outcome != Fail {
			t.Fatalf("without segment %d of %d: %s %s", gone, count, c.Outcome, c.Reason)
		}
	})
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func written(n int) (out []Sentinel) {
	for i := range n {
		out = append(out, Sentinel{ID: int64(100 + i), At: noon.Add(time.Duration(i) * SentinelEvery), Nonce: fmt.Appendf(nil, "%016d", i)})
	}
	return out
}

func TestSentinelsTellWhatIsLost(t *testing.T) {
	all := written(60) // ten minutes
	forged := written(60)
	forged[20].Nonce = []byte("another history!")
	end := Expected{Sentinels: all, Reach: all[50].At}
	at := Expected{Sentinels: all, At: all[30].At.Add(7 * time.Second)}
	back := Expected{Sentinels: append(written(10), Sentinel{ID: 110, At: noon.Add(-time.Hour)}), Reach: noon}
	for _, c := range []struct {
		name string
		e    Expected
		have []Sentinel
		want Outcome
		says string
	}{
		{"all until the reach", end, all[:51], Pass, "All 51 sentinels"},
		{"more than had to be", end, all[:55], Pass, "newest is of 2026-11-22 12:09:00"},
		{"the last is lost", end, all[:50], Fail, "1 that were written until"},
		{"half is lost", end, all[:20], Fail, "31 that were written until"},
		{"none is there", end, nil, Fail, "stale or empty"},
		{"one in between is lost", end, append(append([]Sentinel{}, all[:10]...), all[11:55]...), Fail, "rows were lost in between"},
		{"one is forged", end, forged[:51], Fail, "another history"},
		{"one that nobody wrote, among the known", Expected{Sentinels: all[:40], Reach: all[39].At}, append(append([]Sentinel{}, all[:40]...), Sentinel{ID: 99}), Fail, "nobody wrote"},
		{"written after the list was made", Expected{Sentinels: all[:40], Reach: all[39].At}, all[:42], Pass, ""},
		{"a moment", at, all[:31], Pass, "All 31"},
		{"a moment, and the copy goes beyond", at, all[:33], Fail, "after the moment that was asked for"},
		{"a moment, and the copy ends before", at, all[:25], Fail, "are lost"},
		{"no sentinel before the moment", Expected{Sentinels: all, At: noon.Add(-time.Minute)}, nil, Inconclusive, "nothing to tell by"},
		{"none for a long time before the moment", Expected{Sentinels: all[:10], At: noon.Add(time.Hour)}, all[:10], Inconclusive, "cannot be told"},
		{"nobody knows until when", Expected{Sentinels: all}, all, Inconclusive, "not known"},
		{"the clock was moved back", back, all[:10], Inconclusive, "clock was moved back"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _ := compare(&c.e, c.have)
			if got.Outcome != c.want || !strings.Contains(got.Reason, c.says) {
				t.Fatalf("%s: %s; want %s: %s", got.Outcome, got.Reason, c.want, c.says)
			}
		})
	}
}

// Whatever a copy lacks of what had to be there, it does not pass.
func TestNoLostSentinelGoesUnnoticed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := written(rapid.IntRange(2, 50).Draw(t, "written"))
		reach := rapid.IntRange(0, len(all)-1).Draw(t, "reach")
		var have []Sentinel
		lost := false
		for i, s := range all {
			if rapid.IntRange(0, 9).Draw(t, "keep") > 0 {
				have = append(have, s)
			} else if i <= reach {
				lost = true
			}
		}
		got, _ := compare(&Expected{Sentinels: all, Reach: all[reach].At}, have)
		if lost && got.Outcome == Pass {
			t.Fatalf("passed: %s", got.Reason)
		}
	})
}

func TestRowCountsAreComparedWithThoseAround(t *testing.T) {
	note := func(minutes int, rows map[string]int64) Note {
		at := noon.Add(time.Duration(minutes) * time.Minute)
		return Note{At: at, Until: at.Add(time.Second), Rows: rows, Grows: []string{"audit", "requests"}}
	}
	notes := []Note{
		note(0, map[string]int64{"audit": 100, "requests": 50, "sessions": 20}),
		note(60, map[string]int64{"audit": 200, "requests": 50, "sessions": 12}),
	}
	for _, c := range []struct {
		name  string
		notes []Note
		have  map[string]int64
		at    time.Duration
		want  Outcome
		says  string
	}{
		{"in between", notes, map[string]int64{"audit": 150, "requests": 50, "sessions": 3}, 30 * time.Minute, Pass, "between as many as at"},
		{"exactly the earlier", notes, map[string]int64{"audit": 100, "requests": 50, "sessions": 20}, 30 * time.Minute, Pass, ""},
		{"fewer than before", notes, map[string]int64{"audit": 99, "requests": 50, "sessions": 20}, 30 * time.Minute, Fail, "Audit has 99 rows, and had 100"},
		{"more than later", notes, map[string]int64{"audit": 150, "requests": 51, "sessions": 20}, 30 * time.Minute, Fail, "had only 50 later"},
		{"after the last note", notes, map[string]int64{"audit": 900, "requests": 50, "sessions": 0}, 3 * time.Hour, Pass, "at least as many"},
		{"a table that may shrink is empty", notes, map[string]int64{"audit": 150, "requests": 50, "sessions": 0}, 30 * time.Minute, Fail, "sessions is empty"},
		{"a table is missing", notes, map[string]int64{"audit": 150, "sessions": 3}, 30 * time.Minute, Fail, "the table requests is missing"},
		{"no table at all", notes, nil, 30 * time.Minute, Fail, "no table"},
		{"no note before", notes, map[string]int64{"audit": 1}, -time.Minute, Inconclusive, "from before"},
		{"no note", nil, map[string]int64{"audit": 1}, time.Minute, Inconclusive, "from before"},
		{"while it was counted", notes, map[string]int64{"audit": 150, "requests": 50, "sessions": 3}, 500 * time.Millisecond, Inconclusive, "from before"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := compareRows(c.notes, Note{Rows: c.have}, noon.Add(c.at), noon.Add(c.at))
			says := strings.ToLower(c.says)
			if got.Outcome != c.want || !strings.Contains(strings.ToLower(got.Reason), says) {
				t.Fatalf("%s: %s; want %s: %s", got.Outcome, got.Reason, c.want, c.says)
			}
		})
	}
}

func TestThePagesOfACopyAreJudgedByWhatWasRead(t *testing.T) {
	for _, c := range []struct {
		name string
		r    result
		want Outcome
		says string
	}{
		{"whole", result{pages: 3000}, Pass, "3000"},
		{"bad pages", result{pages: 3000, bad: 2, first: "page 7 of base/5/1259"}, Fail, "2 of 3000 pages do not match their checksums; the first is page 7 of base/5/1259"},
		{"bad pages, and others that nobody could read", result{pages: 3000, bad: 2, err: errors.New("gone")}, Fail, "2 of 3000"},
		{"not read to the end", result{pages: 3000, err: errors.New("an error of the disk")}, Inconclusive, "an error of the disk"},
		{"nothing", result{}, Inconclusive, "no page"},
	} {
		if got := judgePages(c.r); got.Outcome != c.want || !strings.Contains(got.Reason, c.says) {
			t.Errorf("%s: %s %s", c.name, got.Outcome, got.Reason)
		}
	}
}

func TestPagesCountOnlyOfACopyThatWasShutDownAndKeepsChecksums(t *testing.T) {
	const whole = `pg_control version number:            1300
Database cluster state:               shut down
Database block size:                  8192
Blocks per segment of large relation: 131072
Data page checksum version:           1
`
	for _, c := range []struct {
		name, out string
		err       error
		want      Outcome
	}{
		{"shut down", whole, nil, Pass},
		{"shut down while it was replaying", strings.Replace(whole, "shut down", "shut down in recovery", 1), nil, Pass},
		{"being shut down", strings.Replace(whole, "shut down", "shutting down", 1), nil, Inconclusive},
		{"running, or killed", strings.Replace(whole, "shut down", "in production", 1), nil, Inconclusive},
		{"no checksums", strings.Replace(whole, "version:           1", "version:           0", 1), nil, Inconclusive},
		{"checksums of another kind", strings.Replace(whole, "version:           1", "version:           2", 1), nil, Inconclusive},
		{"other pages", strings.Replace(whole, "8192", "16384", 1), nil, Inconclusive},
		{"other segments", strings.Replace(whole, "131072", "1024", 1), nil, Inconclusive},
		{"a control file that does not match its own checksum", "WARNING: Calculated CRC checksum does not match value stored in file.\n" + whole, nil, Inconclusive},
		{"silent success", "", nil, Inconclusive},
		{"would not run", "pg_controldata: error: could not open file", errors.New("exit status 1"), Inconclusive},
	} {
		if got := judgeControl(c.out, c.err); got.Outcome != c.want || got.Reason == "" {
			t.Errorf("%s: %s %s", c.name, got.Outcome, got.Reason)
		}
	}
}

// Where one timeline leaves another, names look whole though a segment lacks:
// only the timeline's history tells, which whoever lists the archive reads.
func TestAHoleWhereATimelineBeginsIsSeen(t *testing.T) {
	names := []string{"000000010000000000000002", "000000010000000000000003", "000000020000000000000004", "000000020000000000000005"}
	if c := (Archive{Names: names}).Check(names[0], "0/6000000"); c.Outcome != Pass {
		t.Fatalf("without a hole: %+v", c)
	}
	holed := Archive{Names: names, Missing: []string{"000000010000000000000004"}}
	if c := holed.Check(names[0], "0/6000000"); c.Outcome != Fail || !strings.Contains(c.Reason, "000000010000000000000004") {
		t.Errorf("with a hole where timeline 2 begins: %+v", c)
	}
	if c := holed.Check(names[3], "0/6000000"); c.Outcome != Pass {
		t.Errorf("a backup made after the hole does not need it: %+v", c)
	}
}
