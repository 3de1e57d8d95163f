package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

const refusal = "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge"

// header reads a request's header and leaves its body alone.
func (p *peer) header() { _, _ = http.ReadRequest(p.in) }

func TestAnEarlyAnswerToABigUploadIsDelivered(t *testing.T) {
	for name, finish := range map[string]func(p *peer){
		"the server closes at once":                func(p *peer) { p.Close() },
		"the server stops reading and waits":       func(p *peer) { <-p.over },
		"the server closes its side and waits":     func(p *peer) { _ = p.Conn.(*net.TCPConn).CloseWrite(); p.waitGone() },
		"the server goes on reading, for a while":  func(p *peer) { _, _ = io.CopyN(io.Discard, p.in, 1<<20); p.Close() },
		"the server reads to the end, then closes": func(p *peer) { p.waitGone() },
	} {
		for size, body := range map[string][]byte{"20 MB": make([]byte, 20<<20), "100 KB": make([]byte, 100<<10), "12 KB": make([]byte, 12<<10)} {
			t.Run(name+", "+size, func(t *testing.T) {
				c := client(t, "http://"+listen(t, func(p *peer) {
					p.header()
					p.say(refusal)
					finish(p)
				}), within(Timeouts{FirstByte: patience, BetweenChunks: patience}))
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				r, err := c.Do(ctx, "POST", "/", nil, body)
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(r)
				r.Close()
				if r.Status != 413 || string(b) != "large" || err != nil {
					t.Errorf("got %d, %q, %v", r.Status, b, err)
				}
				clear(body) // the race detector would see a write that goes on
				if s := c.Stats(); s.Open != 0 {
					t.Errorf("left behind: %+v", s)
				}
			})
		}
	}
}

func TestABigUploadArrivesWhole(t *testing.T) {
	sizes := []int{0, 1, inlineMax - 200, inlineMax, inlineMax + 1, uploadStep, 3*uploadStep + 17, 8 << 20}
	seen := make(chan string, 1)
	c := client(t, "http://"+listen(t, func(p *peer) {
		for {
			req := p.request()
			if req == nil {
				return
			}
			seen <- req.Header.Get("Test-Body")
			p.say(hello)
		}
	}))
	for _, n := range sizes {
		body := bytes.Repeat([]byte("0123456789abcdef!"), n/17+1)[:n]
		if _, got, err := call(c, string(body)); err != nil || got != "hello" {
			t.Fatalf("%d bytes: %q, %v", n, got, err)
		}
		if got := wait(t, "the body", seen); got != string(body) {
			t.Errorf("%d bytes arrived as %d", n, len(got))
		}
	}
	if s := c.Stats(); s.Dialed != 1 {
		t.Errorf("uploads cost connections: %+v", s)
	}
}

func TestAnUploadThatNobodyReadsTimesOut(t *testing.T) {
	c := client(t, "http://"+listen(t, func(p *peer) { <-p.over }), within(Timeouts{FirstByte: short}))
	_, _, err := call(c, strings.Repeat("x", 20<<20))
	if !errors.Is(err, ErrTimeoutFirstByte) || !Sent(err) {
		t.Errorf("got %v", err)
	}
}

// The wait for the first byte begins when the upload has ended.
func TestAnUploadThatMakesProgressMayTakeItsTime(t *testing.T) {
	t.Parallel()
	const pause, steps = 60 * time.Millisecond, 12
	var begun time.Time
	c := client(t, "http://"+listen(t, func(p *peer) {
		_ = p.Conn.(*net.TCPConn).SetReadBuffer(64 << 10)
		begun = time.Now()
		tick := time.NewTicker(pause)
		defer tick.Stop()
		part := make([]byte, 24<<20/steps)
		for range steps {
			<-tick.C
			if _, err := io.ReadFull(p.in, part); err != nil {
				return
			}
		}
		_ = p.SetReadDeadline(time.Now().Add(pause))
		_, _ = io.Copy(io.Discard, p.in)
		p.say(hello)
	}), within(Timeouts{FirstByte: 8 * pause}))
	_, got, err := call(c, strings.Repeat("x", 24<<20))
	if err != nil || got != "hello" {
		t.Fatalf("got %q, %v", got, err)
	}
	if took := time.Since(begun); took < 9*pause {
		t.Skipf("the upload took %v only: nothing was tested", took)
	}
}

func TestAnAnswerOf50MegabytesTakesLittleMemory(t *testing.T) {
	const size = 50 << 20
	block := bytes.Repeat([]byte("x"), 64<<10)
	for name, send := range map[string]func(p *peer){
		"with a length": func(p *peer) {
			p.say("HTTP/1.1 200 OK\r\nContent-Length: 52428800\r\n\r\n")
			for range size / len(block) {
				_, _ = p.Write(block)
			}
		},
		"chunked": func(p *peer) {
			p.say(chunkedHead)
			for range size / len(block) {
				p.say("10000\r\n")
				_, _ = p.Write(block)
				p.say("\r\n")
			}
			p.say("0\r\n\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, "http://"+listen(t, func(p *peer) {
				for p.request() != nil {
					send(p)
				}
			}))
			r, err := c.Do(context.Background(), "POST", "/", nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			total, buf := 0, make([]byte, 32<<10)
			for err == nil {
				var n int
				n, err = r.Read(buf)
				total += n
			}
			runtime.ReadMemStats(&after)
			r.Close()
			if total != size || err != io.EOF {
				t.Errorf("read %d, %v", total, err)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 2<<20 {
				t.Errorf("allocated %d bytes", used)
			}
			if c.Stats().Idle != 1 {
				t.Errorf("not reused: %+v", c.Stats())
			}
		})
	}
}

// The answer is in the receive queue when the small request cannot be written
// any more.
func TestAnAnswerBeforeASmallRequestFailsToBeWrittenIsDelivered(t *testing.T) {
	chosen, done := make(chan struct{}), make(chan struct{})
	c := client(t, "http://"+listen(t, func(p *peer) {
		wait(t, "the client's choice", chosen)
		p.say(refusal)
		p.reset()
		close(done)
	}))
	c.beforeSend = func(bool) {
		close(chosen)
		wait(t, "the server's end", done)
	}
	if status, got, err := call(c, "{}"); status != 413 || got != "large" || err != nil {
		t.Errorf("got %d, %q, %v", status, got, err)
	}
	if s := c.Stats(); s.Open != 0 {
		t.Errorf("left behind: %+v", s)
	}
}

// An in-process connection has no buffer at all: a write waits for the reader.
func TestAnInProcessUpstreamMayAnswerBeforeItReads(t *testing.T) {
	for name, script := range map[string]func(p *peer){
		"it answers first": func(p *peer) { p.header(); p.say(refusal) },
		"it reads first":   func(p *peer) { p.request(); p.say(refusal) },
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, "http://in-process", within(Timeouts{FirstByte: patience, BetweenChunks: patience}), func(o *Options) {
				o.Dial = func(context.Context) (net.Conn, error) {
					here, there := net.Pipe()
					go func() {
						defer there.Close()
						script(&peer{Conn: there, in: bufio.NewReaderSize(there, 16)})
					}()
					return here, nil
				}
			})
			if status, got, err := call(c, strings.Repeat("x", 5000)); status != 413 || got != "large" || err != nil {
				t.Errorf("got %d, %q, %v", status, got, err)
			}
		})
	}
}
