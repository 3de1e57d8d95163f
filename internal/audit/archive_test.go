package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

// world is a log with entries of three organisations and an export of it.
type world struct {
	log  *Log
	db   *db.DB
	text string
	key  string
}

func makeWorld(t testing.TB, entries int, o ExportOptions) world {
	t.Helper()
	d := dbtest.New(t)
	l := openLog(t, options(d, t.TempDir()))
	appendMany(t, d, entries/2)
	drain(t, l)
	appendMany(t, d, entries-entries/2)
	drain(t, l)
	return world{l, d, export(t, l, o), l.log.vkey()}
}

func export(t testing.TB, l *Log, o ExportOptions) string {
	t.Helper()
	o.By = "local:uid=7"
	var b strings.Builder
	if err := l.Export(context.Background(), &b, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func check(t testing.TB, text string, keys ...string) Report {
	t.Helper()
	r, err := VerifyArchive(t.Context(), strings.NewReader(text), ArchiveOptions{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAnExportVerifiesWithThePublicKeyAlone(t *testing.T) {
	t.Parallel()
	w := makeWorld(t, 700, ExportOptions{})
	r := check(t, w.text, w.key)
	if !r.OK || r.Entries != 700 || r.Size != 700 || r.Foreign != 0 || r.Checkpoints == 0 || len(r.SignedBy) != 1 {
		t.Errorf("got %+v", r)
	}
	if live := verify(t, w.log); live.Root != r.Root {
		t.Errorf("root %s, want %s", r.Root, live.Root)
	}
	both := check(t, w.text, w.key, w.log.wit.vkey())
	if !both.OK || len(both.SignedBy) != 2 {
		t.Errorf("with the witness's key: %+v", both)
	}
	if r := check(t, w.text, w.log.wit.vkey()); r.OK {
		t.Error("the witness alone vouches for the log")
	}
}

func TestPartsOfTheLogVerifyToo(t *testing.T) {
	t.Parallel()
	w := makeWorld(t, 700, ExportOptions{})
	for _, o := range []ExportOptions{{First: 0, End: 1}, {First: 13, End: 700}, {First: 255, End: 257}, {First: 699, End: 700}, {First: 5, End: 5}, {First: 700}} {
		r := check(t, export(t, w.log, o), w.key)
		end := o.End
		if end == 0 {
			end = 700
		}
		if !r.OK || r.Entries != end-o.First || r.Size != 700 || r.Foreign != 700-(end-o.First) {
			t.Errorf("%+v: %+v", o, r)
		}
	}
	if err := w.log.Export(t.Context(), &bytes.Buffer{}, ExportOptions{First: 701}); codeOf(err) != "audit-range" {
		t.Errorf("got %v", err)
	}
}

func TestAnExportOfAnOrganisationShowsNothingOfAnother(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	l := openLog(t, options(d, t.TempDir()))
	mine, theirs := uuid.New(), uuid.New()
	for i := range 40 {
		act(t, d, mine, "mine.act", "my-target", map[string]string{"word": "my-body"})
		act(t, d, theirs, "theirs.act", fmt.Sprintf("their-target-%d", i), map[string]string{"word": "their-body"})
		act(t, d, theirs, "theirs.more", "their-target", nil)
		act(t, d, uuid.Nil, "platform.act", "platform-target", nil)
	}
	drain(t, l)
	text := export(t, l, ExportOptions{Organisation: &mine})
	for _, word := range []string{"their", theirs.String(), "platform", "their-body"} {
		if strings.Contains(text, word) {
			t.Errorf("the export holds %q", word)
		}
	}
	r := check(t, text, l.log.vkey())
	if !r.OK || r.Entries != 40 || r.Foreign != 120 || r.Size != 160 {
		t.Errorf("got %+v", r)
	}
	// Nor do salts: every field of the other's lines is a hash.
	for line := range strings.Lines(text) {
		if f := strings.Split(strings.TrimSuffix(line, "\n"), "\t"); f[0] == "e" && f[3] != mine.String() {
			t.Errorf("a line of another organisation: %s", line)
		}
	}
	// What claims to be of the other organisation does not pass.
	forged := reseal(t, l, strings.Replace(text, "organisation\t"+mine.String(), "organisation\t"+theirs.String(), 1))
	if got := codes(check(t, forged, l.log.vkey())); !slices.Contains(got, "entry-foreign") {
		t.Errorf("got %v", got)
	}
}

// reseal signs a changed export anew, as somebody could who has the key but
// cannot change the tree.
func reseal(t testing.TB, l *Log, text string) string {
	t.Helper()
	text = text[:strings.LastIndex(text, "seal\t")]
	sum := sha256.New()
	sum.Write([]byte(text))
	signed, err := note.Sign(&note.Note{Text: sealText(l.origin, sum)}, l.log)
	if err != nil {
		t.Fatal(err)
	}
	return text + "seal\t" + base64.StdEncoding.EncodeToString(signed) + "\n"
}

// edit changes the lines of an export.
func edit(text string, change func(lines []string) []string) string {
	return strings.Join(change(strings.SplitAfter(text, "\n")), "")
}

// find returns the n-th line that begins with prefix.
func find(lines []string, prefix string, n int) int {
	for i, line := range lines {
		if strings.HasPrefix(line, prefix) {
			if n == 0 {
				return i
			}
			n--
		}
	}
	return -1
}

// TestWhateverIsChangedInAnExportIsNoticed: each change is tried as it is,
// where the seal breaks, and sealed anew, where the tree has to tell.
func TestWhateverIsChangedInAnExportIsNoticed(t *testing.T) {
	t.Parallel()
	w := makeWorld(t, 400, ExportOptions{})
	other := makeWorld(t, 400, ExportOptions{})
	for name, c := range map[string]struct {
		change   func(lines []string) []string
		resealed string // what the tree says; empty: the seal is what says it
	}{
		"an entry is dropped": {func(l []string) []string { i := find(l, "e\t", 50); return slices.Delete(l, i, i+1) }, "count-differs"},
		"an entry is dropped and the count is right": {func(l []string) []string {
			i := find(l, "e\t", 50)
			l[find(l, "end\t", 0)] = "end\t399\t0\t0\n"
			return slices.Delete(l, i, i+1)
		}, "tail-removed"},
		"two entries change places": {func(l []string) []string {
			i := find(l, "e\t", 50)
			l[i], l[i+1] = l[i+1], l[i]
			return l
		}, "root-differs"},
		"the tail is removed": {func(l []string) []string {
			l[find(l, "end\t", 0)] = "end\t300\t0\t0\n"
			i := find(l, "e\t", 300)
			return slices.Delete(l, i, i+100)
		}, "tail-removed"},
		"the tail is removed with the end": {func(l []string) []string { return l[:find(l, "e\t", 300)] }, ""},
		"an entry is doubled": {func(l []string) []string {
			i := find(l, "e\t", 50)
			l[find(l, "end\t", 0)] = "end\t401\t0\t0\n"
			return slices.Insert(l, i, l[i])
		}, "root-differs"},
		"an entry is withheld behind its hash": {func(l []string) []string {
			i := find(l, "e\t", 50)
			it := parseLine([]byte(strings.TrimSuffix(l[i], "\n")))
			l[i] = fmt.Sprintf("h\t0\t%x\n", it.hash[:])
			l[find(l, "end\t", 0)] = "end\t399\t0\t1\n"
			return l
		}, "entry-withheld"},
		"a body is another": {func(l []string) []string {
			i := find(l, "e\t", 50)
			l[i] = strings.Replace(l[i], `{"n": `, `{"n": 1`, 1)
			return l
		}, "root-differs"},
		"an act is another": {func(l []string) []string {
			i := find(l, "e\t", 50)
			l[i] = strings.Replace(l[i], "test.many", "test.main", 1)
			return l
		}, "root-differs"},
		"a body is said to be erased": {func(l []string) []string {
			i := find(l, "e\t", 50)
			f := strings.Split(strings.TrimSuffix(l[i], "\n"), "\t")
			salt := make([]byte, 16)
			if err := fromHex(salt, []byte(f[8])); err != nil {
				t.Fatal(err)
			}
			c := commit(salt, []byte(f[9]))
			l[i] = "x\t" + strings.Join(f[1:8], "\t") + fmt.Sprintf("\t%x\n", c[:])
			return l
		}, "erased-without-act"},
		"the newest checkpoint is forged": {func(l []string) []string {
			// Another log's key signs what the changed tree would be.
			signed, _, err := signCheckpoint(w.log.origin, 400, other.log.edge.root(), other.log.log, nil)
			if err != nil {
				t.Fatal(err)
			}
			last := find(l, "begin", 0) - 1
			l[last] = "checkpoint\t" + base64.StdEncoding.EncodeToString([]byte(signed.Note)) + "\n"
			return l
		}, "checkpoint-untrusted"},
		"the newest checkpoint's text is another": {func(l []string) []string {
			last := find(l, "begin", 0) - 1
			raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(strings.TrimPrefix(l[last], "checkpoint\t")))
			if err != nil {
				t.Fatal(err)
			}
			l[last] = "checkpoint\t" + base64.StdEncoding.EncodeToString(bytes.Replace(raw, []byte("\n400\n"), []byte("\n401\n"), 1)) + "\n"
			return l
		}, "checkpoint-forged"},
		"the newest checkpoint is removed": {func(l []string) []string { i := find(l, "begin", 0) - 1; return slices.Delete(l, i, i+1) }, "checkpoint-untrusted"},
		"a key is another": {func(l []string) []string {
			l[find(l, "key\tlog", 0)] = "key\tlog\t" + other.key + "\n"
			return l
		}, ""},
		"lines follow the seal":    {func(l []string) []string { return append(l, "more\n") }, ""},
		"a seal stands in between": {func(l []string) []string { return slices.Insert(l, find(l, "e\t", 5), l[len(l)-2]) }, "export-malformed"},
		"the header says less": {func(l []string) []string {
			l[find(l, "range\t", 0)] = "range\t0\t300\t400\n"
			return l
		}, "export-malformed"},
		"the end of line is cut off": {func(l []string) []string { l[len(l)-2] = strings.TrimSuffix(l[len(l)-2], "\n"); return l }, ""},
		"a carriage return is added": {func(l []string) []string {
			l[len(l)-2] = strings.Replace(l[len(l)-2], "seal\tZ", "seal\tZ\r", 1)
			return l
		}, ""},
		"it is of another log": {func([]string) []string { return strings.SplitAfter(other.text, "\n") }, ""},
		"it is empty":          {func([]string) []string { return nil }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			text := edit(w.text, c.change)
			if text == w.text {
				t.Fatal("nothing was changed")
			}
			if r := check(t, text, w.key); r.OK {
				t.Error("it passed")
			}
			if c.resealed == "" {
				return
			}
			if r := check(t, reseal(t, w.log, text), w.key); r.OK || !slices.Contains(codes(r), c.resealed) {
				t.Errorf("sealed anew it gave %v, want %s", codes(r), c.resealed)
			}
		})
	}
}

func TestNoChangedByteIsPassedOver(t *testing.T) {
	t.Parallel()
	w := makeWorld(t, 8, ExportOptions{})
	if r := check(t, w.text, w.key); !r.OK {
		t.Fatalf("got %+v", r)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range len(w.text) {
		changed := []byte(w.text)
		changed[i] ^= byte(1 << random.IntN(8))
		if r := check(t, string(changed), w.key); r.OK {
			t.Fatalf("byte %d was changed from %q to %q, and nobody noticed", i, w.text[i], changed[i])
		}
	}
	for i := 0; i < len(w.text); i += 7 { // and cut anywhere
		if r := check(t, w.text[:i], w.key); r.OK {
			t.Fatalf("cut after %d bytes, and nobody noticed", i)
		}
	}
}

func TestACheckpointThatTheAuditorKeptMustBeInTheTree(t *testing.T) {
	t.Parallel()
	w := makeWorld(t, 300, ExportOptions{})
	kept, _ := w.log.Checkpoint()
	appendMany(t, w.db, 100)
	later := export(t, w.log, ExportOptions{})
	ask := func(text string, checkpoint string) []string {
		r, err := VerifyArchive(t.Context(), strings.NewReader(text), ArchiveOptions{Keys: []string{w.key}, Checkpoints: []string{checkpoint}})
		if err != nil {
			t.Fatal(err)
		}
		return codes(r)
	}
	if got := ask(later, kept.Note); got != nil {
		t.Errorf("got %v", got)
	}
	newest, _ := w.log.Checkpoint()
	if got := ask(w.text, newest.Note); !slices.Equal(got, []string{"tail-removed"}) {
		t.Errorf("an older export passed: %v", got)
	}
	if got := ask(export(t, w.log, ExportOptions{First: 350}), kept.Note); !slices.Equal(got, []string{"checkpoint-beside"}) {
		t.Errorf("got %v", got)
	}
	forked, _, err := signCheckpoint(w.log.origin, 300, newest.Root, w.log.log, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(later, forked.Note); !slices.Equal(got, []string{"root-differs"}) {
		t.Errorf("a fork passed: %v", got)
	}
}

func TestLinesLongerThanAChunkAreRead(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	l := openLog(t, options(d, t.TempDir()))
	for range 3 {
		act(t, d, uuid.New(), "test.long", "", strings.Repeat("x\ty\n", chunkBytes/2))
		appendMany(t, d, 3)
	}
	drain(t, l)
	if r := check(t, export(t, l, ExportOptions{}), l.log.vkey()); !r.OK || r.Entries != 12 {
		t.Errorf("got %+v", r)
	}
}

func FuzzAnyExportIsReadWithoutHarm(f *testing.F) {
	key := newSigner("foundry.audit/x", algEd25519, make([]byte, 32), newClock().now).vkey()
	f.Add(exportMagic + "origin\tfoundry.audit/x\nscope\tall\nrange\t0\t1\t1\nbegin\nh\t0\t" + strings.Repeat("0", 64) + "\nend\t0\t0\t1\nseal\tAA==\n")
	f.Add("e\t0190c2f0-0000-7000-8000-000000000001\t2026-11-22T12:00:00.000000Z\t0190c2f0-0000-7000-8000-000000000001\ta\\t\tb\tc\td\t00\t{}\n")
	f.Add("b\t1\t2\t3\t4\t5\t00\t\nx\t\t\t\t\t\t\t\t\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := VerifyArchive(t.Context(), strings.NewReader(text), ArchiveOptions{Keys: []string{key}})
		if err == nil && r.OK {
			t.Error("what nobody signed passed")
		}
		for line := range strings.Lines(text) { // whatever is read is written back the same
			it := parseLine([]byte(strings.TrimSuffix(line, "\n")))
			if it.kind == 0 || it.bad != nil {
				continue
			}
			for field := range strings.SplitSeq(strings.TrimSuffix(line, "\n"), "\t") {
				if plain, err := unescape([]byte(field)); err == nil && string(appendEscaped(nil, plain)) != field {
					t.Errorf("%q is read as %q", field, plain)
				}
			}
		}
	})
}
