package keys

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// States of a check. A check that could not see everything is inconclusive,
// never a pass.
const (
	Pass         = "pass"
	Fail         = "fail"
	Inconclusive = "inconclusive"
)

// window is how much of a secret, in one of its forms, is looked for.
const window = 16

// Search looks for secrets without holding them: of each form it keeps a
// rolling hash and a SHA-256, so that it cannot find itself in memory.
type Search struct {
	filter [1 << 13]uint64 // one bit per 19-bit slice of a hash
	forms  map[uint64][]form
	names  []string
}

type form struct {
	needle, name string
	sum          [sha256.Size]byte
}

// Find is one place where a secret was found. It does not hold the secret.
type Find struct {
	Needle string `json:"needle"` // plaintext, token, key
	Form   string `json:"form"`   // raw, hex, base64, utf-16
	Where  string `json:"where"`
	Offset int64  `json:"offset"`
}

// MinNeedle is the least length of a secret that can be searched for.
const MinNeedle = 24

// Add makes a secret of at least MinNeedle bytes searched for, in raw, hex,
// base64 (both alphabets, every alignment) and UTF-16 (both byte orders). The
// caller wipes it.
func (s *Search) Add(needle string, secret []byte) error {
	if len(secret) < MinNeedle {
		return fmt.Errorf("a canary of %d bytes is too short to be told from chance", len(secret))
	}
	s.names = append(s.names, needle)
	s.add(needle, "raw", secret[4:4+window])
	digits := make([]byte, hex.EncodedLen(len(secret)))
	hex.Encode(digits, secret)
	s.add(needle, "hex", digits[8:8+window])
	upper := bytes.ToUpper(digits[8 : 8+window])
	s.add(needle, "hex", upper)
	clear(upper)
	for shift := range 3 {
		shifted := append(make([]byte, shift), secret...)
		for _, alphabet := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			text := make([]byte, alphabet.EncodedLen(len(shifted)))
			alphabet.Encode(text, shifted)
			s.add(needle, "base64", text[4:4+window])
			clear(text)
		}
		clear(shifted)
	}
	little, big := make([]byte, window), make([]byte, window)
	for i := range window / 2 {
		little[2*i], big[2*i+1] = secret[i+4], secret[i+4]
	}
	s.add(needle, "utf-16", little)
	s.add(needle, "utf-16", big)
	for _, b := range [][]byte{digits, little, big} {
		clear(b)
	}
	return nil
}

// base is the multiplier of the rolling hash: odd, with well-mixed bits.
const base = 0x9e3779b97f4a7c15

func (s *Search) add(needle, name string, part []byte) {
	var h uint64
	for _, b := range part {
		h = h*base + uint64(b) + 1
	}
	if s.forms == nil {
		s.forms = map[uint64][]form{}
	}
	s.filter[h>>51] |= 1 << (h >> 45 & 63)
	sum := sha256.Sum256(part)
	for _, f := range s.forms[h] {
		if f.sum == sum {
			return // both base64 alphabets mostly agree
		}
	}
	s.forms[h] = append(s.forms[h], form{needle, name, sum})
}

// leave is base to the power of window: the weight of the byte that leaves.
var leave = func() (p uint64) {
	p = 1
	for range window {
		p *= base
	}
	return p
}()

// scanner looks at bytes as they come, across the edges of reads.
type scanner struct {
	s     *Search
	where string
	buf   []byte // the last window of what came before, and a block
	h     uint64 // of the window that ends at the last byte seen
	n     int64
	finds []Find
}

const (
	maxFinds  = 100 // more in one place say no more
	blockSize = 1 << 16
)

// newScanner starts as if a window of zeros had come before.
func (s *Search) newScanner(where string, buf []byte) *scanner {
	c := &scanner{s: s, where: where, buf: buf}
	clear(buf[:window])
	for range window {
		c.h = c.h*base + 1
	}
	return c
}

func (c *scanner) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		n := copy(c.buf[window:], p)
		c.block(n)
		copy(c.buf, c.buf[n:n+window])
		p = p[n:]
	}
	return total, nil
}

func (c *scanner) block(n int) {
	in, out, h, filter := c.buf[window:window+n], c.buf[:n], c.h, &c.s.filter
	for i, b := range in {
		h = h*base + uint64(b) + 1 - (uint64(out[i])+1)*leave
		if filter[h>>51]&(1<<(h>>45&63)) != 0 {
			c.check(h, c.buf[i+1:i+1+window], c.n+int64(i)+1-window)
		}
	}
	c.h, c.n = h, c.n+int64(n)
}

func (c *scanner) check(h uint64, part []byte, offset int64) {
	forms := c.s.forms[h]
	if len(forms) == 0 || len(c.finds) >= maxFinds {
		return
	}
	sum := sha256.Sum256(part)
	for _, f := range forms {
		if f.sum == sum {
			c.finds = append(c.finds, Find{f.needle, f.name, c.where, offset})
		}
	}
}

// buffers are what a stream is read through. They hold what was read last, so
// whoever makes them wipes them.
type buffers struct{ block, scan []byte }

func newBuffers() buffers {
	return buffers{make([]byte, blockSize), make([]byte, window+blockSize)}
}

func (b buffers) wipe() {
	clear(b.block)
	clear(b.scan)
}

// In searches a stream.
func (s *Search) In(where string, r io.Reader) ([]Find, int64, error) {
	b := newBuffers()
	defer b.wipe()
	return s.in(where, r, b)
}

func (s *Search) in(where string, r io.Reader, b buffers) ([]Find, int64, error) {
	c := s.newScanner(where, b.scan)
	n, err := io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{r}, b.block)
	return c.finds, n, err
}

// Area is one kind of place that was searched.
type Area struct {
	Name   string   `json:"name"`
	State  string   `json:"state"`
	Detail string   `json:"detail"`
	Files  int      `json:"files"`
	Bytes  int64    `json:"bytes"`
	Finds  []Find   `json:"finds,omitempty"`
	Unread []string `json:"unread,omitempty"` // what could not be read, and why
}

func (a *Area) settle() {
	switch {
	case len(a.Finds) > 0:
		a.State = Fail
	case len(a.Unread) > 0 || a.Bytes == 0:
		a.State = Inconclusive
	default:
		a.State = Pass
	}
	if a.Bytes == 0 && a.Detail == "" {
		a.Detail = "there was nothing to search"
	}
}

// Files searches every regular file below the given paths for which want is
// nil or true. Files that vanish meanwhile are none.
func (s *Search) Files(name string, want func(path string, info fs.FileInfo) bool, roots ...string) Area {
	a := Area{Name: name}
	b := newBuffers() // one for all: there are thousands of files, and each pair would be garbage
	defer b.wipe()
	for _, root := range roots {
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error { // every error is kept in the area
			switch {
			case errors.Is(err, fs.ErrNotExist) && path != root:
				return nil
			case err != nil:
				a.Unread = append(a.Unread, path+": "+reason(err))
				return nil
			case !d.Type().IsRegular():
				return nil
			}
			info, err := d.Info()
			if err != nil || want != nil && !want(path, info) {
				return nil
			}
			s.file(&a, path, b)
			return nil
		})
	}
	a.settle()
	return a
}

func (s *Search) file(a *Area, path string, b buffers) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		a.Unread = append(a.Unread, path+": "+reason(err))
		return
	}
	defer f.Close()
	finds, n, err := s.in(path, f, b)
	a.Files, a.Bytes, a.Finds = a.Files+1, a.Bytes+n, append(a.Finds, finds...)
	if err != nil {
		a.Unread = append(a.Unread, path+": "+reason(err))
	}
}

// Memory searches this process's own writable memory through /proc/self/mem:
// what a core dump would hold (core(5): private and anonymous mappings). No
// dump is written, and the memory of the database's processes is not searched.
func (s *Search) Memory() (a Area) {
	a.Name = "process memory"
	defer func() {
		a.Detail = "read through /proc/self/mem; the memory of PostgreSQL's processes was not searched"
	}()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		a.Unread = append(a.Unread, reason(err))
		a.settle()
		return a
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		a.Unread = append(a.Unread, reason(err))
		a.settle()
		return a
	}
	defer mem.Close()
	// The buffer lies in a mapping of its own, which is left out, or the search
	// would find its own copy.
	buf, err := unix.Mmap(-1, 0, 8*blockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		a.Unread = append(a.Unread, err.Error())
		a.settle()
		return a
	}
	defer func() { clear(buf); _ = unix.Munmap(buf) }()
	lines := bufio.NewScanner(bytes.NewReader(maps)) // taken before the buffer was mapped
	for lines.Scan() {
		var from, to uint64
		var perm string
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &perm); n != 3 || !strings.HasPrefix(perm, "rw") || strings.HasSuffix(lines.Text(), "[vvar]") {
			continue
		}
		s.region(&a, mem, from, to, buf)
	}
	a.settle()
	return a
}

func (s *Search) region(a *Area, mem io.ReaderAt, from, to uint64, buf []byte) {
	c := s.newScanner(fmt.Sprintf("memory at %x", from), buf[:window+blockSize])
	buf = buf[window+blockSize:]
	for at := from; at < to; {
		n, err := mem.ReadAt(buf[:min(uint64(len(buf)), to-at)], int64(at))
		_, _ = c.Write(buf[:n])
		at += uint64(n)
		if err != nil || n == 0 {
			break // a mapping that went away or that has no pages
		}
	}
	a.Bytes, a.Finds = a.Bytes+c.n, append(a.Finds, c.finds...)
}

// CanaryReport is what a search found.
type CanaryReport struct {
	State   string    `json:"state"`
	Planted []string  `json:"planted"` // what was planted, and on which way
	Areas   []Area    `json:"areas"`
	At      time.Time `json:"at"`
	Took    string    `json:"took"`
}

// Settle gives the report the worst state of its areas.
func (r *CanaryReport) Settle() {
	r.State = Pass
	for _, a := range r.Areas {
		if a.State == Fail {
			r.State = Fail
			return
		}
		if a.State != Pass {
			r.State = Inconclusive
		}
	}
	if len(r.Areas) == 0 {
		r.State = Inconclusive
	}
}
