package journal

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// kek is a key-encryption key for tests: deterministic, so that a file can be
// compared, and bound to its associated data.
func kek(name string) (seal, open func(in, ad []byte) ([]byte, error)) {
	sum := sha256.Sum256([]byte(name))
	block, _ := aes.NewCipher(sum[:])
	aead, _ := cipher.NewGCM(block)
	nonce := make([]byte, 12)
	seal = func(in, ad []byte) ([]byte, error) { return aead.Seal(nil, nonce, in, ad), nil }
	open = func(in, ad []byte) ([]byte, error) { return aead.Open(nil, nonce, in, ad) }
	return seal, open
}

// options are small, so that tests rotate often.
func options(boot uint32) Options {
	seal, open := kek("test")
	return Options{Node: 7, Boot: boot, Seal: seal, Open: open, SegmentBytes: 64 << 10, MaxBytes: 8 << 20}
}

func mustOpen(t testing.TB, dir string, o Options) *Journal {
	t.Helper()
	j, err := Open(dir, o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { _ = j.Close(context.Background()) })
	return j
}

func mustClose(t testing.TB, j *Journal) {
	t.Helper()
	if err := j.Close(context.Background()); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// put appends one record and waits for it.
func put(t testing.TB, j *Journal, record string) uint64 {
	t.Helper()
	tk, err := j.Append([]byte(record))
	if err != nil {
		t.Fatalf("Append: %v", err)
	}
	if err := tk.Wait(t.Context()); err != nil {
		t.Fatalf("Wait: %v", err)
	}
	return tk.Seq()
}

// fill appends n records of about size bytes, each one frame, named after boot and number.
func fill(t testing.TB, j *Journal, n, size int) {
	t.Helper()
	for range n {
		put(t, j, content(j.o.Boot, j.Durable()+1, size))
	}
}

func content(boot uint32, seq uint64, size int) string {
	s := fmt.Sprintf("%d/%d ", boot, seq)
	return s + string(bytes.Repeat([]byte("x"), max(0, size-len(s))))
}

// got is what a reader saw.
type got struct {
	at      []Position
	records []string
	damage  []*Damage
}

// readAll reads to the end in small steps, past damage.
func readAll(t testing.TB, j *Journal, after Position) got {
	t.Helper()
	var g got
	for {
		n := len(g.at) + len(g.damage)
		pos, err := j.Read(after, 7, 10<<10, func(e Entry) error {
			g.at = append(g.at, Position{e.Boot, e.Seq})
			g.records = append(g.records, string(e.Record))
			return nil
		})
		var d *Damage
		if errors.As(err, &d) {
			g.damage = append(g.damage, d)
		} else if err != nil {
			t.Fatalf("Read after %v: %v", after, err)
		}
		if after = pos; len(g.at)+len(g.damage) == n {
			return g
		}
	}
}

// want checks that exactly these positions were read, with their content.
func (g got) want(t testing.TB, at ...Position) {
	t.Helper()
	if len(g.at) != len(at) {
		t.Fatalf("read %d records %v, want %d %v; damage %v", len(g.at), g.at, len(at), at, g.damage)
	}
	for i, p := range at {
		if g.at[i] != p {
			t.Fatalf("record %d is at %v, want %v", i, g.at[i], p)
		}
		if c := content(p.Boot, p.Seq, 0); len(g.records[i]) < len(c) || g.records[i][:len(c)] != c {
			t.Fatalf("record at %v reads %.40q", p, g.records[i])
		}
	}
}

// span is the positions from first to last of one boot.
func span(boot uint32, first, last uint64) []Position {
	var at []Position
	for s := first; s <= last; s++ {
		at = append(at, Position{boot, s})
	}
	return at
}

func segments(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestRecordsAreReadBackInOrderAcrossSegmentsAndBoots(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "journal")
	var all []Position
	for boot := uint32(1); boot <= 3; boot++ {
		j := mustOpen(t, dir, options(boot))
		fill(t, j, 40, 4000)
		all = append(all, span(boot, 1, 40)...)
		g := readAll(t, j, Position{})
		g.want(t, all...)
		if len(g.damage) != 0 {
			t.Fatalf("damage: %v", g.damage)
		}
		mustClose(t, j)
	}
	if n := len(segments(t, dir)); n < 9 {
		t.Fatalf("%d segments: the test did not rotate", n)
	}
	j := mustOpen(t, dir, options(4))
	for i := 0; i < len(all); i += 7 {
		readAll(t, j, all[i]).want(t, all[i+1:]...)
	}
}

func TestABatchOfManyAppendersIsOneFrame(t *testing.T) {
	o := options(1)
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	armed := false
	o.Intercept = func(op, file string) error {
		if op == "sync" && armed {
			once.Do(func() { close(entered); <-release })
		}
		return nil
	}
	j := mustOpen(t, t.TempDir(), o)
	armed = true
	first, err := j.Append([]byte("first"))
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	var tickets []Ticket
	for range 500 {
		tk, err := j.Append([]byte("later"))
		if err != nil {
			t.Fatal(err)
		}
		tickets = append(tickets, tk)
	}
	if st := j.Stats(); st.PendingRecords != 501 || st.Durable != 0 {
		t.Fatalf("while the sync runs: %+v", st)
	}
	select {
	case <-first.Done():
		t.Fatal("done before the sync returned")
	default:
	}
	close(release)
	for _, tk := range tickets {
		if err := tk.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if st := j.Stats(); st.Syncs != 2 || st.Records != 501 || st.Durable != 501 || st.PendingBytes != 0 {
		t.Fatalf("afterwards: %+v", st)
	}
	select {
	case <-j.Notify():
	case <-time.After(10 * time.Second):
		t.Fatal("no signal that more is durable")
	}
}

func TestConcurrentAppendersGetEverySequenceNumberOnce(t *testing.T) {
	j := mustOpen(t, t.TempDir(), options(1))
	const workers, each = 16, 100
	seen := make([]map[uint64]string, workers)
	var wg sync.WaitGroup
	for w := range workers {
		seen[w] = map[uint64]string{}
		wg.Go(func() {
			for i := range each {
				rec := fmt.Sprintf("%d-%d", w, i)
				tk, err := j.Append([]byte(rec))
				if err == nil {
					err = tk.Wait(context.Background())
				}
				if err != nil {
					t.Error(err)
					return
				}
				if j.Durable() < tk.Seq() {
					t.Errorf("record %d waited for but durable is %d", tk.Seq(), j.Durable())
				}
				seen[w][tk.Seq()] = rec
			}
		})
	}
	wg.Wait()
	g := readAll(t, j, Position{})
	if len(g.at) != workers*each {
		t.Fatalf("read %d records", len(g.at))
	}
	found := 0
	for i, p := range g.at {
		if p.Seq != uint64(i+1) {
			t.Fatalf("record %d has sequence number %d", i, p.Seq)
		}
		for w := range workers {
			if rec, ok := seen[w][p.Seq]; ok {
				found++
				if rec != g.records[i] {
					t.Fatalf("record %d reads %q, its writer wrote %q", p.Seq, g.records[i], rec)
				}
			}
		}
	}
	if found != workers*each {
		t.Fatalf("%d tickets for %d records", found, workers*each)
	}
}

func TestAppendCopiesTheRecord(t *testing.T) {
	j := mustOpen(t, t.TempDir(), options(1))
	buf := []byte("1/1 before")
	tk, err := j.Append(buf)
	if err != nil {
		t.Fatal(err)
	}
	copy(buf, "scribbled!")
	if err := tk.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	readAll(t, j, Position{}).want(t, Position{1, 1})
}

func TestNoRecordIsOnDiskInTheClear(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, options(1))
	secret := "the patient's name is not for the disk"
	put(t, j, secret)
	mustClose(t, j)
	for _, name := range segments(t, dir) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(secret[:12])) {
			t.Fatal("found in the clear")
		}
	}
}

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	j := mustOpen(t, dir, options(1))
	put(t, j, "x")
	for name, want := range map[string]os.FileMode{dir: 0o700, segments(t, dir)[0]: 0o600} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode().Perm(), want)
		}
	}
}

func TestSymbolicLinksAreNotFollowed(t *testing.T) {
	real, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(link, options(1)); err == nil {
		t.Fatal("opened a directory through a symbolic link")
	}
	mustClose(t, mustOpen(t, real, options(1)))
	name := segments(t, real)[0]
	if err := os.Rename(name, filepath.Join(real, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("elsewhere", name); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(real, options(2)); err == nil {
		t.Fatal("opened a segment through a symbolic link")
	}
}

func TestTheLimitsOfAppend(t *testing.T) {
	o := options(1)
	o.MaxPending = 10_000
	block := make(chan struct{})
	armed := false
	o.Intercept = func(op, file string) error {
		if armed && op == "sync" {
			<-block
		}
		return nil
	}
	j := mustOpen(t, t.TempDir(), o)
	armed = true
	if _, err := j.Append(make([]byte, MaxRecord+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("over MaxRecord: %v", err)
	}
	if _, err := j.Append(make([]byte, 10_001)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("over MaxPending by itself: %v", err)
	}
	var last Ticket
	n := 0
	for {
		tk, err := j.Append(make([]byte, 998)) // 1000 with its length
		if errors.Is(err, ErrOverloaded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = tk
		n++
	}
	if n != 10 {
		t.Errorf("%d records of 1000 bytes waited, want 10", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := last.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait with an ended context: %v", err)
	}
	close(block)
	if err := last.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if seq := put(t, j, "goes on"); seq != 11 {
		t.Errorf("the next record has number %d: a refused one took a number", seq)
	}
}

func TestCloseFlushesAndRefusesAfterwards(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, options(1))
	var tickets []Ticket
	for i := range 50 {
		tk, err := j.Append([]byte(content(1, uint64(i+1), 0)))
		if err != nil {
			t.Fatal(err)
		}
		tickets = append(tickets, tk)
	}
	mustClose(t, j)
	mustClose(t, j)
	for _, tk := range tickets {
		if err := tk.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.Append(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Append: %v", err)
	}
	if _, err := j.Read(Position{}, 1, 1, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Read: %v", err)
	}
	if err := j.Release(Position{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Release: %v", err)
	}
	readAll(t, mustOpen(t, dir, options(2)), Position{}).want(t, span(1, 1, 50)...)
}

func TestABootNumberIsNotUsedTwice(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, mustOpen(t, dir, options(5)))
	for _, boot := range []uint32{5, 4} {
		if _, err := Open(dir, options(boot)); !errors.Is(err, ErrBoot) {
			t.Errorf("boot %d: %v", boot, err)
		}
	}
	mustClose(t, mustOpen(t, dir, options(6)))
}

func TestWrongOptionsAreNamed(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no Seal":                 func(o *Options) { o.Seal = nil },
		"no Open":                 func(o *Options) { o.Open = nil },
		"boot zero":               func(o *Options) { o.Boot = 0 },
		"a tiny segment":          func(o *Options) { o.SegmentBytes = 1000 },
		"room for one segment":    func(o *Options) { o.MaxBytes = o.SegmentBytes },
		"a batch over a segment":  func(o *Options) { o.MaxPending = int(o.SegmentBytes) },
		"a negative pending size": func(o *Options) { o.MaxPending = -1 },
	} {
		o := options(1)
		change(&o)
		if _, err := Open(t.TempDir(), o); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestTheWrongKeyIsAClearErrorAndLosesNothing(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, options(1))
	fill(t, j, 40, 4000)
	mustClose(t, j)
	wrong := options(2)
	wrong.Seal, wrong.Open = kek("another")
	wrong.ReadAround = true
	if _, err := Open(dir, wrong); !errors.Is(err, ErrKey) {
		t.Fatalf("Open with the wrong key: %v", err)
	}
	// The newest segment opens, an older one does not, until its key is back.
	right := options(2)
	back := false
	open := right.Open
	calls := 0
	right.Open = func(in, ad []byte) ([]byte, error) {
		if calls++; calls > 1 && !back {
			return nil, errors.New("the key service is away")
		}
		return open(in, ad)
	}
	j = mustOpen(t, dir, right)
	for range 3 {
		if _, err := j.Read(Position{}, 10, 1<<20, func(Entry) error { return nil }); !errors.Is(err, ErrKey) {
			t.Fatalf("Read without the key: %v", err)
		}
	}
	back = true
	readAll(t, j, Position{}).want(t, span(1, 1, 40)...)
}

func TestASealThatFailsStallsAndRecovers(t *testing.T) {
	o := options(1)
	seal := o.Seal
	var mu sync.Mutex
	away := false
	set := func(b bool) { mu.Lock(); away = b; mu.Unlock() }
	o.Seal = func(in, ad []byte) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if away {
			return nil, errors.New("the key service is away")
		}
		return seal(in, ad)
	}
	now := time.Unix(1_000_000, 0)
	o.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	j := mustOpen(t, t.TempDir(), o)
	set(true)
	var err error
	for err == nil {
		var tk Ticket
		if tk, err = j.Append([]byte(content(1, j.Durable()+1, 5000))); err == nil {
			err = tk.Wait(t.Context())
		}
	}
	if !errors.Is(err, ErrStalled) {
		t.Fatalf("stalled with: %v", err)
	}
	held := j.Durable()
	if _, err := j.Append(nil); !errors.Is(err, ErrStalled) {
		t.Fatalf("Append at once after: %v", err)
	}
	if st := j.Stats(); !errors.Is(st.Failure, ErrStalled) {
		t.Fatalf("Stats: %v", st.Failure)
	}
	set(false)
	mu.Lock()
	now = now.Add(retryEvery)
	mu.Unlock()
	seq := put(t, j, content(1, held+2, 0))
	if seq != held+2 {
		t.Fatalf("the record after the failed one has number %d", seq)
	}
	if st := j.Stats(); st.Failure != nil {
		t.Fatalf("Stats after recovering: %v", st.Failure)
	}
	readAll(t, j, Position{}).want(t, append(span(1, 1, held), Position{1, held + 2})...)
}
