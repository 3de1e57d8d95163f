package probe

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// The file is a line that names its format, then records, each with its length
// and a checksum: first a snapshot of everything (named states, units, outages,
// last results), then each result as it came. When it is full, a new one with
// a snapshot alone takes its place.
//
// What was handed to the operating system survives the death of this process;
// what was synced, at least every minute, survives that of the machine.
const historyMagic = "foundry history 1\n"

const (
	maxPending = 1 << 20
	syncEvery  = time.Minute
)

// historyFile writes in a goroutine of its own: a disk that hangs keeps nobody
// from looking.
type historyFile struct {
	o       HistoryOptions
	history *History
	f       *os.File
	stop    chan struct{}
	wake    chan struct{}
	done    chan struct{}
	flushed chan chan error

	// under History.mu
	names   map[string]uint64
	pending []byte
	lost    bool // pending was dropped: the file no longer says what memory holds

	// the writer's
	size   int64
	synced time.Time
	failed bool
}

func openHistoryFile(o HistoryOptions, h *History) (*historyFile, error) {
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of the history: %w", err)
	}
	f, err := os.OpenFile(o.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the history: %w", err)
	}
	w := &historyFile{o: o, history: h, f: f, names: map[string]uint64{}, synced: time.Now(),
		stop: make(chan struct{}), wake: make(chan struct{}, 1), done: make(chan struct{}), flushed: make(chan chan error)}
	if err := w.read(); err != nil {
		f.Close()
		return nil, fmt.Errorf("reading the history: %w", err)
	}
	go w.write()
	return w, nil
}

// read takes what is there, up to what cannot be read.
func (w *historyFile) read() error {
	body, err := io.ReadAll(io.LimitReader(w.f, 4*w.o.MaxBytes+(1<<20)))
	if err != nil {
		return err
	}
	good := readHistory(body, w.history)
	w.names = good.names
	if w.size = int64(good.size); int(w.size) == len(body) && len(body) > 0 {
		return nil
	}
	if rest := body[w.size:]; len(rest) > 0 {
		w.o.Log.Warn("a part of the history of probes cannot be read and is set aside", "bytes", len(rest))
		if err := os.WriteFile(w.o.Path+".damaged", rest, 0o600); err != nil {
			return err
		}
	}
	if err := w.f.Truncate(w.size); err != nil {
		return err
	}
	if w.size == 0 {
		if _, err := w.f.WriteAt([]byte(historyMagic), 0); err != nil {
			return err
		}
		w.size = int64(len(historyMagic))
	}
	return nil
}

// result queues a result. The caller holds History.mu.
func (w *historyFile) result(r Result, valid time.Duration) {
	if len(w.pending) > maxPending {
		w.pending, w.lost = nil, true
	}
	if !w.lost {
		w.pending = appendResult(w.pending, w.names, recordResult, r, valid)
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *historyFile) write() {
	defer close(w.done)
	for {
		select {
		case <-w.wake:
			w.flush()
		case answer := <-w.flushed:
			answer <- w.flush()
		case <-w.stop:
			return
		}
	}
}

// flush writes what is queued, or everything anew where the file is full or
// does not say what memory holds.
func (w *historyFile) flush() error {
	w.history.mu.Lock()
	pending, lost := w.pending, w.lost
	w.pending = nil
	w.history.mu.Unlock()
	var err error
	if lost || w.size+int64(len(pending)) > w.o.MaxBytes {
		err = w.renew()
	} else if len(pending) > 0 {
		// Over a write that failed before, and so over what it left half done.
		if _, err = w.f.WriteAt(pending, w.size); err == nil {
			w.size += int64(len(pending))
		} else {
			w.history.mu.Lock()
			w.lost = true
			w.history.mu.Unlock()
		}
	}
	if err == nil && time.Since(w.synced) >= syncEvery {
		w.synced, err = time.Now(), w.f.Sync()
	}
	if (err != nil) != w.failed {
		if w.failed = err != nil; w.failed {
			w.o.Log.Error("the history of probes cannot be written; it goes on in memory", "cause", err)
		} else {
			w.o.Log.Info("the history of probes is written again")
		}
	}
	return err
}

// renew puts a file with a snapshot in the place of the full one.
func (w *historyFile) renew() error {
	w.history.mu.Lock()
	names := map[string]uint64{}
	body := appendSnapshot([]byte(historyMagic), names, w.history.records, int(w.o.MaxBytes*3/4))
	w.names, w.pending, w.lost = names, nil, false
	w.history.mu.Unlock()
	fail := func(err error) error {
		w.history.mu.Lock()
		w.lost = true
		w.history.mu.Unlock()
		return err
	}
	next := w.o.Path + ".new"
	f, err := os.OpenFile(next, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fail(err)
	}
	_, err = f.Write(body)
	if err = errors.Join(err, f.Sync()); err == nil {
		err = os.Rename(next, w.o.Path)
	}
	if err != nil {
		f.Close()
		_ = os.Remove(next)
		return fail(err)
	}
	if dir, err := os.Open(filepath.Dir(w.o.Path)); err == nil {
		_ = dir.Sync()
		dir.Close()
	}
	w.f.Close()
	w.f, w.size, w.synced = f, int64(len(body)), time.Now()
	return nil
}

// all waits until everything queued is written, or could not be.
func (w *historyFile) all() error {
	answer := make(chan error, 1)
	select {
	case w.flushed <- answer:
		return <-answer
	case <-w.done:
		return os.ErrClosed
	}
}

func (w *historyFile) close() error {
	err := w.all()
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	close(w.stop)
	<-w.done
	return errors.Join(err, w.f.Sync(), w.f.Close())
}
