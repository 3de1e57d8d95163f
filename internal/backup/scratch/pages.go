package scratch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/missionopsai/foundry/internal/backup/engine"
)

// Pages reads every page of a data directory and compares it with its checksum.
//
// It begins while the directory is still being restored, with each file that
// rests, because then the file is in memory and a restore leaves the processors
// idle while it waits for the disk. What it found right counts at the end only
// for a file that was not touched since: the kernel notes every write in the
// file's time of change, which no program can set. Everything else is read at
// the end, again or for the first time; and what did not match is always read
// again, since a backup of a running database may hold half a page that only
// the replay of the log makes whole.
type Pages struct {
	dir  string
	quit chan struct{}
	once sync.Once
	wg   sync.WaitGroup

	mu   sync.Mutex
	seen map[string]*seenFile // by path
}

// seenFile is which chunks of a file were found right.
type seenFile struct {
	mark  mark
	right []bool
}

// mark changes with everything that is done to a file.
type mark struct {
	device, inode uint64
	size          int64
	changed       [2]int64 // seconds and nanoseconds
}

const (
	chunkBytes = 16 << 20 // read by one worker in one go
	readBytes  = 256 << 10
	// rests is how long a file was left alone before it is read: longer than
	// the coarsest clock that file systems tell changes by.
	rests = 200 * time.Millisecond
)

// ReadPages begins to read the pages of a directory that may not be there yet.
// Whoever begins has to end it, with Close or by proving the copy.
func ReadPages(dir string) *Pages {
	p := newPages(dir)
	p.wg.Go(p.along)
	return p
}

// newPages reads nothing before it is asked.
func newPages(dir string) *Pages {
	return &Pages{dir: dir, quit: make(chan struct{}), seen: map[string]*seenFile{}}
}

// Close stops reading and waits until nothing is read any more.
func (p *Pages) Close() {
	if p == nil {
		return
	}
	p.once.Do(func() { close(p.quit) })
	p.wg.Wait()
}

func (p *Pages) quitting() bool {
	select {
	case <-p.quit:
		return true
	default:
		return false
	}
}

// along reads whatever rests until it is told to stop. It takes what others
// leave of the processors: its thread ends with it, and with that the low
// priority.
func (p *Pages) along() {
	runtime.LockOSThread()
	engine.YieldProcessor()
	buffer := make([]byte, readBytes)
	for {
		files, _ := p.list() // it is being written: errors count at the end
		read := false
		for _, f := range files {
			if p.quitting() {
				return
			}
			if p.resting(f) {
				p.readAlong(f, buffer)
				read = true
			}
		}
		if read {
			continue
		}
		select {
		case <-p.quit:
			return
		case <-time.After(rests / 2):
		}
	}
}

// resting reports whether a file was left alone for a while and is not known
// as it is now. A change in the future is of a clock that was moved.
func (p *Pages) resting(f pageFile) bool {
	age := time.Since(time.Unix(f.mark.changed[0], f.mark.changed[1]))
	if age < rests {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.seen[f.path]
	return s == nil || s.mark != f.mark
}

// readAlong reads a file, and remembers what was right if nothing happened to
// the file meanwhile.
func (p *Pages) readAlong(f pageFile, buffer []byte) {
	s := &seenFile{mark: f.mark, right: make([]bool, f.chunks())}
	for i := range s.right {
		if p.quitting() {
			break
		}
		r := f.read(i, buffer)
		s.right[i] = r.err == nil && r.bad == 0
	}
	if now, err := markOf(f.path); err != nil || now != f.mark {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen[f.path] = s
}

// result is what reading came to.
type result struct {
	pages, bad int64
	first      string // where the first bad page is
	err        error
}

func (r *result) add(o result) {
	r.pages, r.bad = r.pages+o.pages, r.bad+o.bad
	if r.first == "" {
		r.first = o.first
	}
	if r.err == nil {
		r.err = o.err
	}
}

// finish reads what is not known to be right, with several workers, and says
// what all of it came to. Nothing may write to the directory any more.
func (p *Pages) finish(ctx context.Context) (all result) {
	p.Close()
	files, err := p.list()
	if err != nil {
		return result{err: err}
	}
	type task struct {
		file  pageFile
		chunk int
	}
	var tasks []task
	for _, f := range files {
		known := p.seen[f.path]
		for i := range f.chunks() {
			if known != nil && known.mark == f.mark && known.right[i] {
				all.pages += f.length(i) / pageBytes
				continue
			}
			tasks = append(tasks, task{f, i})
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := 0
	take := func(done result) (t task, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		all.add(done)
		if next == len(tasks) || ctx.Err() != nil {
			return t, false
		}
		next++
		return tasks[next-1], true
	}
	for range min(runtime.GOMAXPROCS(0), mostReaders, len(tasks)) {
		wg.Go(func() {
			buffer := make([]byte, readBytes)
			for t, ok := take(result{}); ok; t, ok = take(t.file.read(t.chunk, buffer)) {
			}
		})
	}
	wg.Wait()
	if all.err == nil {
		all.err = ctx.Err()
	}
	return all
}

// mostReaders bounds what reading takes of a large machine.
const mostReaders = 4

// pageFile is a file that consists of pages.
type pageFile struct {
	path  string
	first uint32 // number of its first page in the relation
	mark  mark
}

func (f pageFile) chunks() int { return int((f.mark.size + chunkBytes - 1) / chunkBytes) }

func (f pageFile) length(chunk int) int64 {
	return min(chunkBytes, f.mark.size-int64(chunk)*chunkBytes)
}

// read compares the pages of one chunk with their checksums.
func (f pageFile) read(chunk int, buffer []byte) (r result) {
	fd, err := os.OpenFile(f.path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return result{err: err}
	}
	defer fd.Close()
	at, end := int64(chunk)*chunkBytes, int64(chunk)*chunkBytes+f.length(chunk)
	for at < end {
		part := buffer[:min(int64(len(buffer)), end-at)]
		if n, err := fd.ReadAt(part, at); n < len(part) {
			r.err = fmt.Errorf("%s ends at byte %d of %d: %w", f.path, at+int64(n), f.mark.size, err)
			return r
		}
		if odd := len(part) % pageBytes; odd != 0 {
			r.err = fmt.Errorf("%s ends within a page", f.path)
			return r
		}
		for i := 0; i < len(part); i += pageBytes {
			block := f.first + uint32((at+int64(i))/pageBytes) //nolint:gosec // a file has 131072 pages
			r.pages++
			if !pageGood((*[pageBytes]byte)(part[i:]), block) {
				r.bad++
				if r.first == "" {
					r.first = fmt.Sprintf("page %d of %s", block, relation(f.path))
				}
			}
		}
		at += int64(len(part))
	}
	return r
}

// relation is a file's path as PostgreSQL names it.
func relation(path string) string {
	for _, top := range pageDirs {
		if _, after, ok := strings.Cut(path, "/data/"+top+"/"); ok {
			return top + "/" + after
		}
	}
	return filepath.Base(path)
}

// pageDirs are the parts of a data directory whose files consist of pages.
var pageDirs = []string{"global", "base", "pg_tblspc"}

// notPages are files there that do not (bin/pg_checksums/pg_checksums.c, skip).
var notPages = []string{"config_exec_params", "pg_control", "pg_filenode.map", "PG_VERSION"}

// list finds the files that consist of pages, the largest first.
func (p *Pages) list() (files []pageFile, err error) {
	for _, top := range pageDirs {
		err = errors.Join(err, listPages(filepath.Join(p.dir, top), &files))
	}
	slices.SortStableFunc(files, func(a, b pageFile) int { return cmp.Compare(b.mark.size, a.mark.size) })
	return files, err
}

// listPages goes on after an error: below a restore that is under way files
// come and go.
func listPages(dir string, into *[]pageFile) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		name := e.Name()
		path := filepath.Join(dir, name)
		switch {
		case strings.HasPrefix(name, "pgsql_tmp"), strings.HasPrefix(name, "pg_internal.init"), slices.Contains(notPages, name):
		case e.IsDir(), e.Type()&fs.ModeSymlink != 0: // a link is of a tablespace
			err = errors.Join(err, listPages(path, into))
		case e.Type().IsRegular():
			f, ferr := pageFileOf(path, name)
			if ferr != nil {
				err = errors.Join(err, ferr)
				continue
			}
			*into = append(*into, f)
		}
	}
	return err
}

// pageFileOf reads a file's place in its relation from its name: 16384.2 is the
// third segment of relation 16384.
func pageFileOf(path, name string) (f pageFile, err error) {
	f.path = path
	if _, number, ok := strings.Cut(name, "."); ok {
		segment, err := strconv.ParseUint(number, 10, 15)
		if err != nil || segment == 0 {
			return f, fmt.Errorf("%s is no name of a segment", path)
		}
		f.first = uint32(segment) * segmentPages
	}
	f.mark, err = markOf(path)
	return f, err
}

func markOf(path string) (mark, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return mark{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return mark{}, errors.New(path + " is no file")
	}
	seconds, nanoseconds := st.Ctim.Unix()
	return mark{device: uint64(st.Dev), inode: st.Ino, size: st.Size, changed: [2]int64{seconds, nanoseconds}}, nil //nolint:unconvert,gosec // the types differ between systems
}
