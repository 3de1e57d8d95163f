package scratch

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// relationOf writes a file of whole pages that begins with a page of a relation.
func relationOf(t *testing.T, path string, first uint32, pages int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, uint64(first)))
	var body []byte
	for i := range pages {
		var page [pageBytes]byte
		for j := range page {
			page[j] = byte(random.Uint32())
		}
		page[upperAt] = 1
		binary.NativeEndian.PutUint16(page[checksumAt:], pageChecksum(&page, first+uint32(i)))
		body = append(body, page[:]...)
	}
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
}

// put writes a few bytes into a file that stays the same otherwise.
func put(t *testing.T, path string, at int64, bytes ...byte) (before []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before = make([]byte, len(bytes))
	if _, err := f.ReadAt(before, at); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes, at); err != nil {
		t.Fatal(err)
	}
	return before
}

// cluster is a small data directory: its layout is PostgreSQL's, its relations
// are random.
func clusterOf(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	relationOf(t, filepath.Join(dir, "global", "1260"), 0, 1)
	relationOf(t, filepath.Join(dir, "base", "5", "16384"), 0, 3000) // two chunks
	relationOf(t, filepath.Join(dir, "base", "5", "16384.2"), 2*segmentPages, 5)
	relationOf(t, filepath.Join(dir, "base", "5", "16384_vm"), 0, 2)
	relationOf(t, filepath.Join(dir, "pg_tblspc", "16999", "PG_15", "5", "17000"), 0, 4)
	for _, other := range []string{"global/pg_control", "global/pg_filenode.map", "base/5/PG_VERSION", "base/5/pg_internal.init.77", "base/pgsql_tmp/pgsql_tmp8.0"} {
		path := filepath.Join(dir, other)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("no page"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const clusterPages = 1 + 3000 + 5 + 2 + 4

// along reads until everything has been read that rests.
func along(t *testing.T, dir string) *Pages {
	t.Helper()
	p := ReadPages(dir)
	t.Cleanup(p.Close)
	for deadline := time.Now().Add(time.Minute); ; <-time.After(10 * time.Millisecond) {
		files, err := p.list()
		if err != nil {
			t.Fatal(err)
		}
		waiting := 0
		p.mu.Lock()
		for _, f := range files {
			if s := p.seen[f.path]; s == nil || s.mark != f.mark {
				waiting++
			}
		}
		p.mu.Unlock()
		if waiting == 0 {
			return p
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d files were not read", waiting)
		}
	}
}

func TestDamageOfAPageIsFoundWheneverItHappens(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		bad    int64
		says   string
	}{
		{"none", func(*testing.T, string) {}, 0, ""},
		{"a flipped bit", func(t *testing.T, dir string) { put(t, filepath.Join(dir, "base/5/16384"), 2500*pageBytes+100, 0xff) }, 1, "page 2500 of base/5/16384"},
		{"a flipped bit in a later segment", func(t *testing.T, dir string) { put(t, filepath.Join(dir, "base/5/16384.2"), 4*pageBytes+8191, 0xff) }, 1, "page 262148 of base/5/16384.2"},
		{"the stored checksum", func(t *testing.T, dir string) { put(t, filepath.Join(dir, "global/1260"), checksumAt, 0xff, 0xff) }, 1, "global/1260"},
		{"a page in the place of another", func(t *testing.T, dir string) {
			path := filepath.Join(dir, "base/5/16384")
			put(t, path, 7*pageBytes, put(t, path, 8*pageBytes, make([]byte, pageBytes)...)...) // page 8, moved to where 7 was; 8 was never used now
		}, 1, "page 7 "},
		{"a page that was never used, and is not empty", func(t *testing.T, dir string) {
			path := filepath.Join(dir, "base/5/16384_vm")
			put(t, path, 0, make([]byte, pageBytes)...)
			put(t, path, 5000, 1)
		}, 1, "page 0 of base/5/16384_vm"},
		{"pages that were never used", func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "base/5/16384_vm"), 0, make([]byte, 2*pageBytes)...)
		}, 0, ""},
		{"in a tablespace", func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "pg_tblspc/16999/PG_15/5/17000"), 3*pageBytes, 0xff, 0xff)
		}, 1, "page 3 "},
	} {
		check := func(t *testing.T, r result) {
			t.Helper()
			if r.pages != clusterPages || r.bad != c.bad || r.err != nil || !strings.Contains(r.first, c.says) {
				t.Errorf("%+v", r)
			}
		}
		t.Run("before any reading: "+c.name, func(t *testing.T) {
			dir := clusterOf(t)
			c.damage(t, dir)
			check(t, newPages(dir).finish(t.Context()))
			check(t, along(t, dir).finish(t.Context()))
		})
		t.Run("after it was read: "+c.name, func(t *testing.T) {
			dir := clusterOf(t)
			p := along(t, dir)
			c.damage(t, dir)
			check(t, p.finish(t.Context()))
		})
	}
}

// A backup of a running database may hold half of a page: the replay makes it
// whole, and only what it is then counts.
func TestAPageThatTheReplayMadeWholeIsGood(t *testing.T) {
	dir := clusterOf(t)
	path := filepath.Join(dir, "base/5/16384")
	before := put(t, path, 5*pageBytes+4096, make([]byte, 4096)...)
	p := along(t, dir)
	put(t, path, 5*pageBytes+4096, before...)
	if r := p.finish(t.Context()); r.bad != 0 || r.err != nil || r.pages != clusterPages {
		t.Errorf("%+v", r)
	}
}

func TestOnlyWhatChangedSinceIsReadAgain(t *testing.T) {
	dir := clusterOf(t)
	p := along(t, dir)
	p.Close()
	// The mark alone decides: what it calls read is not read again.
	for path := range p.seen {
		if strings.HasSuffix(path, "16384.2") {
			p.seen[path].right[0] = false
		}
	}
	relationOf(t, filepath.Join(dir, "base/5/20000"), 0, 6)
	files, err := p.list()
	if err != nil {
		t.Fatal(err)
	}
	again := 0
	for _, f := range files {
		if s := p.seen[f.path]; s == nil || s.mark != f.mark || !s.right[0] {
			again++
		}
	}
	if r := p.finish(t.Context()); again != 2 || r.pages != clusterPages+6 || r.bad != 0 || r.err != nil {
		t.Errorf("%d files would be read again; %+v", again, r)
	}
}

// Some tools give a file its old time back; its time of change none can.
func TestATimeThatWasSetBackHidesNoChange(t *testing.T) {
	dir := clusterOf(t)
	path := filepath.Join(dir, "base/5/16384")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	p := along(t, dir)
	put(t, path, 9*pageBytes+17, 0xff, 0xff)
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if r := p.finish(t.Context()); r.bad != 1 {
		t.Errorf("%+v", r)
	}
}

func TestWhatCannotBeReadAsPagesIsNeverGood(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"a file that ends within a page":     func(dir string) error { return os.Truncate(filepath.Join(dir, "base/5/16384.2"), 3*pageBytes+1) },
		"a segment without a number":         func(dir string) error { return os.WriteFile(filepath.Join(dir, "base/5/16384.x"), nil, 0o600) },
		"no databases":                       func(dir string) error { return os.RemoveAll(filepath.Join(dir, "base")) },
		"a link in the place of a directory": func(dir string) error { return os.Symlink("nowhere", filepath.Join(dir, "pg_tblspc", "17")) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := clusterOf(t)
			p := along(t, dir)
			if err := damage(dir); err != nil {
				t.Fatal(err)
			}
			if c := judgePages(p.finish(t.Context())); c.Outcome != Inconclusive {
				t.Errorf("%+v", c)
			}
		})
	}
}

func TestReadingAlongADirectoryThatIsNotThereYetEnds(t *testing.T) {
	p := ReadPages(filepath.Join(t.TempDir(), "data"))
	p.Close()
	p.Close()
	var none *Pages
	none.Close()
	if r := p.finish(t.Context()); r.err == nil || r.pages != 0 {
		t.Errorf("%+v", r)
	}
}
