package simulator

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

// exchange is one request and what becomes of it.
type exchange struct {
	s      *Simulator
	w      http.ResponseWriter
	r      *http.Request
	rec    *record
	body   []byte
	fault  Fault
	now    time.Time
	serial uint64
}

// id makes an identifier in the vendor's manner that says what it is.
func (x *exchange) id(prefix string, parts ...int) string {
	id := prefix + fmt.Sprintf("simulator%015x", x.serial)
	for _, p := range parts {
		id += fmt.Sprintf("%02x", p)
	}
	return id
}

// reply is an answer before it is spoilt: a body, or the events of a stream.
type reply struct {
	status int
	header http.Header
	body   []byte
	events []event // not nil: a stream
}

// event is one server-sent event, rendered, with its blank line.
type event struct {
	data    []byte
	content bool // carries text, reasoning, or a tool-call delta
	usage   bool // carries usage and nothing a client would miss
	closing bool // [DONE], message_stop
}

func (rep *reply) add(data []byte) { rep.events = append(rep.events, event{data: data}) }
func (rep *reply) content(data []byte) {
	rep.events = append(rep.events, event{data: data, content: true})
}
func (rep *reply) usage(data []byte) { rep.events = append(rep.events, event{data: data, usage: true}) }
func (rep *reply) closing(data []byte) {
	rep.events = append(rep.events, event{data: data, closing: true})
}

// piecesOfBody is how many chunks a body that is not streamed counts as.
const piecesOfBody = 8

// pieces cuts the reply into what goes out at once.
func (rep *reply) pieces() []event {
	if rep.events != nil {
		return rep.events
	}
	var list []event
	for i := range piecesOfBody {
		from, to := i*len(rep.body)/piecesOfBody, (i+1)*len(rep.body)/piecesOfBody
		if from < to {
			list = append(list, event{data: rep.body[from:to], content: true})
		}
	}
	return list
}

// position is the index of the piece before which a fault happens.
func (f Fault) position(pieces []event) int {
	if f.Event > 0 {
		return min(f.Event, len(pieces))
	}
	seen, last := 0, 0
	for i, p := range pieces {
		if !p.content {
			continue
		}
		if seen == f.Chunk {
			return i
		}
		seen++
		last = i + 1
	}
	return last
}

// deliver sends the reply, spoilt as the fault asks.
func (x *exchange) deliver(rep reply) {
	ctx, f := x.r.Context(), x.fault
	switch f.Name {
	case faultEarlyClose:
		x.abort(f.With)
		return
	case faultHangBefore:
		if !x.hang() {
			return
		}
	case faultEarlyHints:
		x.w.WriteHeader(http.StatusEarlyHints)
	}
	if x.s.o.Sleep(ctx, x.s.o.FirstByte) != nil {
		return
	}
	x.spoil(&rep)
	pieces := rep.pieces()
	x.writeHeader(rep)
	if f.Name == faultHangAfter {
		x.flush()
		if !x.hang() {
			return
		}
	}
	at := -1
	if f.Name == faultStall || f.Name == faultCut {
		at = f.position(pieces)
	}
	for i, p := range pieces {
		if i == at && !x.breakOff(p.data) {
			return
		}
		if i > 0 && rep.events != nil && x.s.o.Sleep(ctx, x.s.o.BetweenChunks) != nil {
			return
		}
		if !x.send(p.data, rep.events != nil) {
			return
		}
	}
	if at == len(pieces) {
		x.breakOff(nil)
	}
}

func (x *exchange) writeHeader(rep reply) {
	h := x.w.Header()
	for k, v := range rep.header {
		h[k] = v
	}
	if rep.events == nil {
		h.Set("Content-Length", strconv.Itoa(len(rep.body)))
	}
	x.rec.status.Store(int64(rep.status))
	x.w.WriteHeader(rep.status)
}

// send writes one piece in the way the fault asks. It reports whether the
// client is still there.
func (x *exchange) send(data []byte, flush bool) bool {
	step, pause := len(data), time.Duration(0)
	switch x.fault.Name {
	case faultSplit:
		step, flush = 1, true
	case faultDrip:
		step, pause, flush = int(x.fault.Size), x.fault.For, true
	}
	for len(data) > 0 {
		n := min(step, len(data))
		if x.r.Context().Err() != nil || !x.write(data[:n]) {
			return false
		}
		if flush {
			x.flush()
		}
		data = data[n:]
		if pause > 0 && x.s.o.Sleep(x.r.Context(), pause) != nil {
			return false
		}
	}
	return true
}

func (x *exchange) write(data []byte) bool {
	n, err := x.w.Write(data)
	x.rec.sent.Add(int64(n))
	if err != nil {
		x.rec.leave(x.s.o.Now())
	}
	return err == nil
}

// flush ignores a writer that cannot: httptest's recorder in unit tests.
func (x *exchange) flush() { _ = http.NewResponseController(x.w).Flush() }

// breakOff stalls or cuts. next is the piece that would follow. It reports
// whether the answer goes on.
func (x *exchange) breakOff(next []byte) bool {
	if x.fault.Mid && !x.send(next[:len(next)/2], true) {
		return false
	}
	x.flush()
	if x.fault.Name == faultStall {
		return x.hang()
	}
	if x.fault.With != "eof" {
		x.abort(x.fault.With)
	}
	return false
}

// hang waits as long as the fault says, by default until the client leaves or
// the simulator is closed. It reports whether the answer goes on.
func (x *exchange) hang() bool {
	if x.fault.For > 0 {
		return x.s.o.Sleep(x.r.Context(), x.fault.For) == nil
	}
	select {
	case <-x.r.Context().Done():
	case <-x.s.closed:
		x.abort("fin")
	}
	return false
}

// abort ends the connection without ending the answer: with a FIN, or with an
// RST where the transport has one (SO_LINGER zero, TCP only).
func (x *exchange) abort(with string) {
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // no hijacking here: net/http closes the connection
	}
	if tcp, ok := conn.(*net.TCPConn); ok && with == "rst" {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
