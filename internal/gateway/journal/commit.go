package journal

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"
)

type keyResult struct {
	key segmentKey
	err error
}

// errLimit is MaxBytes reached.
var errLimit = errors.New("the journal has reached its limit")

func (j *Journal) newBatch() *batch {
	b := &batch{done: make(chan struct{})}
	if n := len(j.spare); n > 0 {
		b.buf, j.spare = j.spare[n-1], j.spare[:n-1]
	}
	return b
}

// run is the committer: the only goroutine that writes.
func (j *Journal) run() {
	defer close(j.done)
	for {
		b := j.take()
		if b == nil {
			break
		}
		start := time.Now()
		err := j.commit(b)
		j.publish(b, time.Since(start))
		b.err = err
		close(b.done)
		if err == nil {
			signal(j.notify)
		}
	}
	j.finish()
}

// take waits for a batch; nil when the journal is closing and nothing is left.
func (j *Journal) take() *batch {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.filling.count == 0 || !j.urgent && !j.closing {
		if j.closing {
			return nil
		}
		j.wake.Wait()
	}
	// Who is ready to run may append first, those woken by the last batch above
	// all: no delay when nobody is, and half as many syncs when many are.
	for n, round := uint32(0), 0; j.filling.count > n && round < 2; round++ {
		n = j.filling.count
		j.mu.Unlock()
		runtime.Gosched()
		j.mu.Lock()
	}
	b := j.filling
	j.urgent = false
	j.inflight.count, j.inflight.bytes = int64(b.count), len(b.buf)
	j.filling = j.newBatch()
	return b
}

// publish tells Append how much room there is, and takes a finished batch's
// buffer back.
func (j *Journal) publish(b *batch, took time.Duration) {
	j.list.Lock()
	defer j.list.Unlock()
	j.counts.took = took
	j.mu.Lock()
	defer j.mu.Unlock()
	j.room = j.roomLeft()
	if b != nil {
		j.spare = append(j.spare, b.buf[:0])
		b.buf, j.inflight = nil, inflight{}
	}
}

// roomLeft is how many bytes still fit. Under list.
func (j *Journal) roomLeft() int64 {
	room := int64(0)
	if n := len(j.segs); n > 0 && j.segs[n-1].live {
		room = j.segs[n-1].size - j.segs[n-1].end
	}
	if free := j.o.MaxBytes - j.physical; free >= j.o.SegmentBytes {
		room += free / j.o.SegmentBytes * (j.o.SegmentBytes - dataStart)
	}
	return room
}

// commit makes one batch durable. A segment that failed is given up and the
// batch written anew to a fresh one, once.
func (j *Journal) commit(b *batch) error {
	if j.broken != nil {
		return j.broken
	}
	for failed := false; ; failed = true {
		err := error(nil)
		if j.live == nil || j.live.size-j.live.end < int64(len(b.buf)+2*frameOverhead) {
			err = j.rotate(b.first)
		}
		if err == nil {
			if err = j.write(b); err == nil {
				j.stop(nil)
				return nil
			}
			j.retire(err)
		}
		if failed || !isSick(err) {
			return j.stop(err)
		}
		j.o.Log.Error("journal: the disk failed; trying once more with a new segment", "error", err)
	}
}

// write appends the batch as one frame and syncs it.
func (j *Journal) write(b *batch) error {
	s := j.live
	head := frameHead{kind: kindRecords, count: b.count, number: j.frame, first: b.first}
	j.out = j.sealer.seal(j.out[:0], s.aead, &s.hash, head, b.buf)
	end := s.end + int64(len(j.out))
	j.zeroAhead(end)
	if err := j.file.writeAt(j.out, s.end); err != nil {
		return err
	}
	if err := j.file.sync(); err != nil {
		return err
	}
	last := b.first + uint64(b.count) - 1
	j.list.Lock()
	s.mark(mark{s.end, j.frame, b.first})
	s.end = end
	s.last = last
	j.counts.records += uint64(b.count)
	j.counts.syncs++
	j.list.Unlock()
	j.durable.Store(last)
	j.frame++
	if j.nextKey == nil && s.end > s.size/2 {
		j.prepareKey()
	}
	return nil
}

// zeroStep is how far ahead of its end a segment is written with zeros.
const zeroStep = 256 << 10

// zeroAhead puts zeros behind the frame in j.out, which ends at end, when it
// reaches into blocks that were never written. Such blocks are preallocated but
// marked as unwritten, and a sync that writes to one has to commit that change
// of metadata, too. Most syncs then find blocks that were written already.
func (j *Journal) zeroAhead(end int64) {
	if end <= j.zeroed {
		return
	}
	j.zeroed = min((end+zeroStep)&^(zeroStep-1), j.live.size)
	n := len(j.out)
	j.out = slices.Grow(j.out, int(j.zeroed-end))[:n+int(j.zeroed-end)]
	clear(j.out[n:])
}

// prepareKey seals the next segment's key ahead of need, because the service
// that does it may be slow.
func (j *Journal) prepareKey() {
	ready := make(chan keyResult, 1)
	j.nextKey = ready
	go func() {
		k, err := newSegmentKey(&j.o)
		ready <- keyResult{k, err}
	}()
}

func (j *Journal) takeKey() (segmentKey, error) {
	if j.nextKey != nil {
		r := <-j.nextKey
		j.nextKey = nil
		if r.err == nil {
			return r.key, nil
		}
	}
	return newSegmentKey(&j.o)
}

// rotate starts a new segment whose first record will be first.
func (j *Journal) rotate(first uint64) error {
	j.list.Lock()
	physical := j.physical
	h := header{node: j.o.Node, boot: j.o.Boot, first: first, created: j.o.Now()}
	if n := len(j.segs); n > 0 {
		h.prev = j.segs[n-1].link()
	}
	j.list.Unlock()
	if j.live != nil {
		physical -= j.live.size - j.live.end // cut off below
	}
	if physical+j.o.SegmentBytes > j.o.MaxBytes {
		return errLimit
	}
	key, err := j.takeKey()
	if err != nil {
		return err
	}
	j.number++
	h.number = j.number
	s, f, err := j.dir.createSegment(h, key, j.o.SegmentBytes)
	if err != nil {
		return err
	}
	if j.live != nil {
		j.leave()
	}
	j.list.Lock()
	j.segs = append(j.segs, s)
	j.physical += s.size
	j.list.Unlock()
	j.live, j.file, j.frame, j.zeroed = s, f, 0, 0
	return nil
}

// leave stops writing to the live segment and gives back what it did not use.
func (j *Journal) leave() {
	s := j.live
	size := s.end
	if err := j.file.truncate(size); err != nil {
		j.o.Log.Warn("journal: could not shorten a segment", "segment", s.name, "error", err)
		size = s.size
	}
	j.file.close()
	j.list.Lock()
	s.live = false
	j.physical -= s.size - size
	s.size = size
	j.list.Unlock()
	j.live, j.file = nil, nil
}

// retire gives the live segment up: after a failure its pages are not to be
// trusted, and its next nonce was spent.
func (j *Journal) retire(err error) {
	j.o.Log.Error("journal: gave up a segment", "segment", j.live.name, "durable", j.live.last, "error", err)
	j.leave()
	j.list.Lock()
	j.counts.retired++
	j.list.Unlock()
}

// stop decides what an error means for Append from now on, and returns what
// the batch's Wait shall say. nil ends a stall.
func (j *Journal) stop(err error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case err == nil:
		j.stall = nil
		return nil
	case isFull(err):
		err = fmt.Errorf("%w: %w", ErrFull, err)
	case isSick(err):
		err = fmt.Errorf("%w: %w", ErrBroken, err)
		j.broken = err
		if j.refusal == nil {
			j.refusal = err
		}
		return err
	default:
		err = fmt.Errorf("%w: %w", ErrStalled, err)
	}
	if j.stall == nil {
		j.o.Log.Error("journal: cannot go on for now", "error", err)
	}
	j.stall, j.retryAt = err, j.o.Now().Add(retryEvery)
	return err
}

// finish marks the end of a journal that is being closed.
func (j *Journal) finish() {
	if j.live == nil {
		return
	}
	s := j.live
	head := frameHead{kind: kindEnd, number: j.frame, first: s.last + 1}
	j.out = j.sealer.seal(j.out[:0], s.aead, &s.hash, head, nil)
	err := j.file.writeAt(j.out, s.end)
	if err == nil {
		err = j.file.sync()
	}
	if err != nil {
		j.last = fmt.Errorf("marking the journal as closed; every acknowledged record is safe: %w", err)
	} else {
		j.list.Lock()
		s.end += int64(len(j.out))
		j.list.Unlock()
	}
	j.leave()
}
