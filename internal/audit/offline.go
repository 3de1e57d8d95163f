package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// ArchiveOptions say how to verify an export.
type ArchiveOptions struct {
	Keys        []string // public keys that the caller trusts
	Checkpoints []string // signed checkpoints that the caller kept; the tree must contain them
	Progress    func(bytes int64)
}

const (
	chunkBytes = 1 << 20
	mostLine   = 64 << 20 // longest line
)

// VerifyArchive verifies an export with nothing but public keys. It reads the
// stream once, hashes on every processor, and needs the same memory however
// long it is. What is wrong stands in the report; an error means that the
// stream could not be read or the keys were no keys.
func VerifyArchive(ctx context.Context, from io.Reader, o ArchiveOptions) (Report, error) {
	start := time.Now()
	trusted, err := parseKeys(o.Keys)
	if err != nil {
		return Report{}, err
	}
	r := Report{Findings: []Finding{}}
	a := &archive{r: &r, o: o, trusted: trusted, edge: &frontier{}, erased: map[uuid.UUID]int64{}, scope: -1}
	sum, err := a.read(ctx, from)
	if err != nil {
		return r, fmt.Errorf("reading the export: %w", err)
	}
	a.finish(sum)
	r.OK, r.Took = r.Count == 0, time.Since(start)
	return r, nil
}

// chunk is a piece of the file that ends with a line, on its way through the
// workers.
type chunk struct {
	text  []byte
	items []item
	done  chan struct{}
}

// item is one line, read.
type item struct {
	kind   byte // e, x, b, h, or 0: any other line
	level  int
	hash   tlog.Hash
	org    uuid.UUID
	id     uuid.UUID
	target uuid.UUID // of an erasure: what was erased
	bad    error
	line   []byte // of kind 0
}

// read takes the stream apart and returns the hash over everything before the
// seal.
func (a *archive) read(ctx context.Context, from io.Reader) (hash.Hash, error) {
	workers := runtime.GOMAXPROCS(0)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	jobs, ordered := make(chan *chunk, workers), make(chan *chunk, 4*workers)
	for range workers {
		go func() {
			for c := range jobs {
				c.parse()
				close(c.done)
			}
		}()
	}
	sum := sha256.New()
	failed := make(chan error, 1)
	go func() {
		defer close(jobs)
		defer close(ordered)
		failed <- split(from, sum, func(text []byte) error {
			c := &chunk{text: text, done: make(chan struct{})}
			for _, to := range []chan *chunk{jobs, ordered} {
				select {
				case to <- c:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return nil
		})
	}()
	var read int64
	for c := range ordered {
		<-c.done
		for i := range c.items {
			a.take(&c.items[i])
		}
		read += int64(len(c.text))
		if a.o.Progress != nil {
			a.o.Progress(read)
		}
		if a.r.Count >= mostFindings { // it is clear
			cancel()
			for range ordered { // until the reader has noticed
			}
			<-failed
			return sum, nil
		}
	}
	return sum, <-failed
}

// split cuts a stream into chunks of whole lines and hashes all but the seal.
func split(from io.Reader, sum hash.Hash, give func([]byte) error) error {
	var rest []byte
	for {
		buf := make([]byte, len(rest), max(chunkBytes, 2*len(rest)))
		copy(buf, rest)
		n, err := io.ReadFull(from, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		end := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !end {
			return err
		}
		cut := bytes.LastIndexByte(buf, '\n') + 1
		if end {
			cut = len(buf) // half a line at the end is a line too, and a wrong one
		}
		rest = buf[cut:]
		if len(rest) > mostLine {
			return errors.New("a line is longer than 64 MiB")
		}
		text := buf[:cut]
		hashed := text
		if at := lastLine(text); bytes.HasPrefix(text[at:], []byte("seal\t")) {
			hashed = text[:at]
		}
		sum.Write(hashed)
		if len(text) > 0 {
			if err := give(text); err != nil {
				return err
			}
		}
		if end {
			return nil
		}
	}
}

// lastLine is where the last line of a text begins.
func lastLine(text []byte) int {
	return bytes.LastIndexByte(bytes.TrimSuffix(text, []byte("\n")), '\n') + 1
}

// parse reads the lines of a chunk and hashes what they hold.
func (c *chunk) parse() {
	c.items = make([]item, 0, len(c.text)/200+1)
	rest := c.text
	for len(rest) > 0 {
		line := rest
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			line, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
			c.items = append(c.items, item{bad: errors.New("the last line does not end"), line: line})
			continue
		}
		c.items = append(c.items, parseLine(line))
	}
}

func parseLine(line []byte) (it item) {
	if len(line) < 2 || line[1] != '\t' {
		return item{line: line}
	}
	var store [12][]byte
	fields := store[:0]
	for rest := line[2:]; ; {
		i := bytes.IndexByte(rest, '\t')
		if i < 0 || len(fields) == len(store)-1 {
			fields = append(fields, rest)
			break
		}
		fields = append(fields, rest[:i])
		rest = rest[i+1:]
	}
	it.kind = line[0]
	switch {
	case it.kind == 'e' && len(fields) == 9, it.kind == 'x' && len(fields) == 8:
		it.bad = it.entry(fields)
	case it.kind == 'b' && len(fields) == 7:
		it.bad = it.batch(fields)
	case it.kind == 'h' && len(fields) == 2:
		level, err := strconv.Atoi(string(fields[0]))
		if it.level = level; err != nil || level < 0 || level > 60 || string(fields[0]) != strconv.Itoa(level) {
			it.bad = fmt.Errorf("%q is no level", fields[0])
		} else {
			it.bad = fromHex(it.hash[:], fields[1])
		}
	default:
		return item{line: line}
	}
	return it
}

// fromHex reads exactly len(dst) bytes of lower-case hexadecimal.
func fromHex(dst, text []byte) error {
	if len(text) != 2*len(dst) {
		return fmt.Errorf("%d hexadecimal digits, not %d", len(text), 2*len(dst))
	}
	for _, c := range text {
		if c >= 'A' && c <= 'F' {
			return errors.New("upper-case hexadecimal")
		}
	}
	_, err := hex.Decode(dst, text)
	return err
}

func parseID(text []byte) (id uuid.UUID, err error) {
	if len(text) != 36 {
		return id, fmt.Errorf("%q is no id", text)
	}
	return uuid.ParseBytes(text)
}

func (it *item) entry(f [][]byte) (err error) {
	var s Sealed
	if s.ID, err = parseID(f[0]); err != nil {
		return err
	}
	if s.At, err = time.Parse(microLayout, string(f[1])); err != nil {
		return fmt.Errorf("%q is no time", f[1])
	}
	if s.Organisation, err = parseID(f[2]); err != nil {
		return err
	}
	for i, to := range [...]*string{&s.Actor, &s.Act, &s.Target, &s.Outcome} {
		if *to, err = unescape(f[3+i]); err != nil {
			return err
		}
	}
	if it.kind == 'x' {
		err = fromHex(s.Commitment[:], f[7])
	} else {
		s.Salt = make([]byte, len(f[7])/2)
		if len(s.Salt) == 0 {
			return errors.New("the salt is empty")
		}
		if err = fromHex(s.Salt, f[7]); err == nil {
			var body string
			body, err = unescape(f[8])
			s.Details = []byte(body)
		}
	}
	if err != nil {
		return err
	}
	it.id, it.org, it.hash = s.ID, s.Organisation, s.leafHash()
	if s.Act == ActErase && s.Outcome == Done {
		it.target, _ = uuid.Parse(s.Target) // otherwise it erased nothing
	}
	return nil
}

func (it *item) batch(f [][]byte) error {
	var n [5]uint64
	for i := range n {
		v, err := strconv.ParseUint(string(f[i]), 10, [...]int{32, 32, 64, 64, 32}[i])
		if err != nil || strconv.FormatUint(v, 10) != string(f[i]) {
			return fmt.Errorf("%q is no number", f[i])
		}
		n[i] = v
	}
	b := Batch{Node: uint32(n[0]), Boot: uint32(n[1]), First: n[2], Last: n[3], Events: uint32(n[4]), Digest: make([]byte, len(f[5])/2), Root: make([]byte, len(f[6])/2)}
	if err := fromHex(b.Digest, f[5]); err != nil {
		return err
	}
	if err := fromHex(b.Root, f[6]); err != nil {
		return err
	}
	it.hash = b.LeafHash()
	return nil
}

// unescape undoes appendEscaped, and takes nothing that it does not write.
func unescape(text []byte) (string, error) {
	if bytes.IndexByte(text, '\\') < 0 && bytes.IndexByte(text, '\r') < 0 {
		return string(text), nil
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '\r' {
			return "", errors.New("a carriage return that is not escaped")
		}
		if c == '\\' {
			i++
			if i == len(text) {
				return "", errors.New("a backslash at the end of a field")
			}
			at := strings.IndexByte(`\tnr`, text[i])
			if at < 0 {
				return "", fmt.Errorf("an unknown escape \\%c", text[i])
			}
			c = "\\\t\n\r"[at]
		}
		out = append(out, c)
	}
	return string(out), nil
}

// archive is the state of a verification. Its items come in order.
type archive struct {
	r       *Report
	o       ArchiveOptions
	trusted []*verifier

	lines            int64
	section          int // 0 magic, 1 header, 2 leaves, 3 ended, 4 sealed
	origin           string
	scope            int // -1 not said, 0 all, 1 an organisation
	org              uuid.UUID
	ranged           bool
	first, end, size int64
	want             []Checkpoint
	newest           *Checkpoint
	edge             *frontier
	hidden           int64
	erased           map[uuid.UUID]int64
	seal             string
	broken           bool // the leaves cannot be followed any more
}

func (a *archive) malformed(format string, args ...any) {
	a.r.find("export-malformed", nil, fmt.Sprintf("line %d", a.lines), format, args...)
}

// take goes on with the next line.
func (a *archive) take(it *item) {
	a.lines++
	if it.bad != nil {
		a.malformed("Line %d cannot be read: %v.", a.lines, it.bad)
		a.broken = a.broken || it.kind != 0
		return
	}
	if it.kind != 0 {
		if a.section != 2 {
			a.malformed("Line %d is a leaf where none may be.", a.lines)
			return
		}
		a.leaf(it)
		return
	}
	if bytes.IndexByte(it.line, '\r') >= 0 { // base64 would pass over it
		a.malformed("Line %d holds a carriage return.", a.lines)
		return
	}
	fields := strings.Split(string(it.line), "\t")
	switch {
	case a.section == 0:
		if string(it.line)+"\n" != exportMagic {
			a.malformed("This is no export of an audit log, or of a version that this release does not know.")
		}
		a.section = 1
	case a.section == 1:
		a.header(fields)
	case a.section == 2 && fields[0] == "end" && len(fields) == 4:
		a.section = 3
		if want := []string{"end", itoa(a.r.Entries), itoa(a.r.Batches), itoa(a.hidden)}; strings.Join(fields, " ") != strings.Join(want, " ") {
			a.r.find("count-differs", nil, "", "The export says %s, but holds %s.", strings.Join(fields[1:], ", "), strings.Join(want[1:], ", "))
		}
	case a.section == 3 && fields[0] == "seal" && len(fields) == 2:
		a.section, a.seal = 4, fields[1]
	default:
		a.malformed("Line %d does not belong there.", a.lines)
	}
}

func (a *archive) header(f []string) {
	switch {
	case f[0] == "origin" && len(f) == 2 && a.origin == "":
		a.origin, a.r.Origin = f[1], f[1]
	case f[0] == "made" && len(f) == 3, f[0] == "key" && len(f) == 3:
	case f[0] == "scope" && len(f) == 2 && f[1] == "all" && a.scope < 0:
		a.scope = 0
	case f[0] == "scope" && len(f) == 3 && f[1] == "organisation" && a.scope < 0:
		id, err := parseID([]byte(f[2]))
		if err != nil {
			a.malformed("%v.", err)
		}
		a.scope, a.org = 1, id
	case f[0] == "range" && len(f) == 4 && !a.ranged:
		for i, to := range []*int64{&a.first, &a.end, &a.size} {
			n, err := strconv.ParseInt(f[1+i], 10, 62)
			if *to = n; err != nil || n < 0 {
				a.malformed("%q is no number of leaves.", f[1+i])
			}
		}
		a.ranged = true
	case f[0] == "checkpoint" && len(f) == 2:
		a.checkpoint(f[1])
	case f[0] == "begin" && len(f) == 1:
		a.section = 2
		a.begin()
	default:
		a.malformed("Line %d does not belong into the header.", a.lines)
	}
}

func (a *archive) checkpoint(text string) {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		a.malformed("Line %d is not base64.", a.lines)
		return
	}
	c, by, err := openCheckpoint(string(raw), a.trusted)
	var unknown *note.UnverifiedNoteError
	switch {
	case errors.As(err, &unknown):
		// Another node's, or signed by a key since replaced: the newest one must
		// bear a key that is trusted, the others may.
		a.newest = nil
		return
	case err != nil:
		a.newest = nil
		a.r.find("checkpoint-forged", nil, "", "A checkpoint in the export is not signed by the log: %v.", err)
		return
	case c.Origin != a.origin:
		a.r.find("checkpoint-other", nil, "", "A checkpoint in the export is of another tree: %s.", c.Origin)
		return
	}
	if n := len(a.want); n > 0 && a.want[n-1].Size > c.Size {
		a.malformed("The checkpoints are not in order of size.")
		return
	}
	a.want, a.newest = append(a.want, c), &c
	a.r.SignedBy = nil
	for _, k := range by {
		a.r.SignedBy = append(a.r.SignedBy, fmt.Sprintf("%s+%08x", k.name, k.hash))
	}
}

// begin checks the header as a whole.
func (a *archive) begin() {
	if a.origin == "" || a.scope < 0 || !a.ranged {
		a.malformed("The header is not complete.")
	}
	switch {
	case a.newest == nil:
		a.r.find("checkpoint-untrusted", nil, "", "The newest checkpoint in the export is not signed by the key that was given.")
	case a.newest.Size != a.size || a.first > a.end || a.end > a.size:
		a.r.find("range-differs", nil, "", "The export says that the tree has %d leaves; the newest checkpoint is over %d.", a.size, a.newest.Size)
	}
	for _, text := range a.o.Checkpoints {
		c, _, err := openCheckpoint(text, a.trusted)
		switch {
		case err != nil:
			a.r.find("checkpoint-untrusted", nil, "", "A checkpoint that was given is not signed by the key that was given.")
		case c.Origin != a.origin:
			a.r.find("checkpoint-other", nil, "", "A checkpoint that was given is of another tree: %s.", c.Origin)
		default:
			c.At = time.Unix(1, 0) // must be reached
			a.want = append(a.want, c)
		}
	}
	sortBySize(a.want)
	a.reach()
}

// reach compares the tree with the checkpoints over as many leaves as it has.
func (a *archive) reach() {
	for len(a.want) > 0 && a.want[0].Size <= a.edge.size {
		c := a.want[0]
		a.want = a.want[1:]
		switch {
		case c.Size == a.edge.size && a.edge.root() != c.Root:
			a.r.find("root-differs", nil, "", "The first %d leaves are not the ones that were signed.", c.Size)
		case c.Size == a.edge.size:
			a.r.Checkpoints++
		case !c.At.IsZero():
			a.r.find("checkpoint-beside", nil, "", "The checkpoint over %d leaves cannot be compared: the export has only a hash around its end. Use a full export.", c.Size)
		}
	}
}

func (a *archive) leaf(it *item) {
	n := a.edge.size
	if a.broken {
		return
	}
	if err := a.edge.push(it.level, it.hash, nil); err != nil {
		a.malformed("Line %d: %v.", a.lines, err)
		a.broken = true
		return
	}
	inside := n >= a.first && n < a.end
	switch it.kind {
	case 'h':
		a.hidden += 1 << it.level
		if a.scope != 1 && inside {
			a.r.find("entry-withheld", &n, "", "Leaf %d is missing from the export; only its hash is there.", n)
		}
	case 'b':
		a.r.Batches++
	default:
		a.r.Entries++
		if a.scope == 1 && it.org != a.org {
			a.r.find("entry-foreign", &n, it.id.String(), "Entry %s belongs to another organisation than the export.", it.id)
		}
		if it.kind == 'x' {
			a.r.Erased++
			a.erased[it.id] = n
		}
		delete(a.erased, it.target)
	}
	if it.kind != 'h' && !inside {
		a.malformed("Leaf %d is not in the range that the export names.", n)
	}
	a.reach()
}

// finish judges the whole.
func (a *archive) finish(sum hash.Hash) {
	r := a.r
	r.Size, r.Foreign = a.edge.size, a.hidden
	root := a.edge.root()
	r.Root = root.String()
	if r.Count >= mostFindings {
		return
	}
	if a.section < 4 {
		r.find("export-truncated", nil, "", "The export has no end: lines are missing, or it was not finished.")
	}
	for _, c := range a.want {
		r.find("tail-removed", nil, "", "A checkpoint was signed over %d leaves; the export holds %d.", c.Size, a.edge.size)
	}
	if a.edge.size != a.size {
		r.find("tail-removed", nil, "", "The export says that it is of %d leaves, but holds %d.", a.size, a.edge.size)
	}
	if a.end == a.size { // otherwise the act may lie behind the range
		for id, leaf := range a.erased {
			r.find("erased-without-act", &leaf, id.String(), "The body of entry %s is gone, and no later entry says who erased it.", id)
		}
	}
	if a.section == 4 {
		a.checkSeal(sum)
	}
}

func (a *archive) checkSeal(sum hash.Hash) {
	raw, err := base64.StdEncoding.Strict().DecodeString(a.seal)
	if err != nil {
		a.malformed("The seal is not base64.")
		return
	}
	var logs []note.Verifier
	for _, v := range a.trusted {
		if v.alg == algEd25519 {
			logs = append(logs, v)
		}
	}
	n, err := note.Open(raw, note.VerifierList(logs...))
	switch {
	case err != nil || len(n.Sigs) != 1 || len(n.UnverifiedSigs) > 0 || !canonical(n.Sigs[0].Base64):
		a.r.find("seal-forged", nil, "", "The export is not signed by the key that was given.")
	case n.Text != sealText(a.origin, sum):
		a.r.find("seal-broken", nil, "", "The export was changed after it was signed.")
	}
}

// canonical refuses base64 with spare bits set, which package note passes over.
func canonical(text string) bool {
	_, err := base64.StdEncoding.Strict().DecodeString(text)
	return err == nil
}
