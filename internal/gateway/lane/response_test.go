package lane

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// answerTo asks once and returns the connection, the answer and its body.
func answerTo(t *testing.T, handler http.HandlerFunc) (*client, *http.Response, string) {
	t.Helper()
	c := serve(t, handler).dial().send(message("x"))
	resp, body := c.receive()
	return c, resp, body
}

func TestAnswersAreFramedByWhatIsKnown(t *testing.T) {
	long := strings.Repeat("0123456789", 5000)
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		length  int64 // -1 for chunks
		body    string
	}{
		{"nothing", func(http.ResponseWriter, *http.Request) {}, 0, ""},
		{"status only", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }, 0, ""},
		{"short", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "abc") }, 3, "abc"},
		{"in pieces", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("ab"))
			_, _ = w.Write([]byte("c"))
		}, 3, "abc"},
		{"declared", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3")
			_, _ = w.Write([]byte("abc"))
		}, 3, "abc"},
		{"declared and long", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "50000")
			_, _ = io.WriteString(w, long)
		}, 50000, long},
		{"long", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, long) }, -1, long},
		{"long in pieces", func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(long); i += 3000 {
				_, _ = io.WriteString(w, long[i:min(i+3000, len(long))])
			}
		}, -1, long},
		{"flushed", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "ab")
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "c")
		}, -1, "abc"},
		{"flushed before anything", func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, "abc")
		}, -1, "abc"},
		{"flushed and ended", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "abc")
			w.(http.Flusher).Flush()
		}, -1, "abc"},
	} {
		conn, resp, body := answerTo(t, c.handler)
		if body != c.body || resp.ContentLength != c.length || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s, length %d, %d bytes", c.name, resp.Status, resp.ContentLength, len(body))
		}
		if _, err := http.ParseTime(resp.Header.Get("Date")); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, again := conn.send(message("x")).receive(); again != c.body {
			t.Errorf("%s: the second answer is another", c.name)
		}
	}
}

func TestABodyMayNotBeLongerThanDeclared(t *testing.T) {
	_, _, body := answerTo(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "3")
		_, _ = w.Write([]byte("abc"))
		if _, err := w.Write([]byte("d")); !errors.Is(err, http.ErrContentLength) {
			t.Error(err)
		}
	})
	if body != "abc" {
		t.Errorf("%q", body)
	}
}

func TestABodyShorterThanDeclaredEndsTheConnection(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = w.Write([]byte("abc"))
	}).dial().send(message("x"))
	resp, err := http.ReadResponse(c.buf, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

func TestSomeAnswersHaveNoBody(t *testing.T) {
	for _, status := range []int{http.StatusNoContent, http.StatusNotModified} {
		c, resp, body := answerTo(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrBodyNotAllowed) {
				t.Error(err)
			}
		})
		if resp.StatusCode != status || body != "" || len(resp.TransferEncoding) > 0 {
			t.Errorf("%s, %q", resp.Status, body)
		}
		c.send(message("x")).receive()
	}
}

func TestAHeaderCannotBecomeTwo(t *testing.T) {
	_, resp, _ := answerTo(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["X-A"] = []string{"b\r\nX-Evil: c", "d"}
		w.Header()["X-Bad name\r\n"] = []string{"e"}
		w.Header()["Transfer-Encoding"] = []string{"chunked"}
	})
	if resp.Header.Get("X-Evil") != "" || len(resp.Header["X-A"]) != 2 || len(resp.TransferEncoding) > 0 {
		t.Errorf("%v %v", resp.Header, resp.TransferEncoding)
	}
}

func TestTheHeaderIsTakenWhenItIsWritten(t *testing.T) {
	_, resp, _ := answerTo(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Early", "yes")
		w.WriteHeader(http.StatusTeapot)
		w.WriteHeader(http.StatusOK)
		w.Header().Set("X-Late", "yes")
		_, _ = w.Write([]byte("<html>"))
	})
	if resp.StatusCode != http.StatusTeapot || resp.Header.Get("X-Early") == "" || resp.Header.Get("X-Late") != "" {
		t.Errorf("%s %v", resp.Status, resp.Header)
	}
	contains(t, resp.Header.Get("Content-Type"), "text/html")
}

func TestNothingOfAnAnswerStaysForTheNext(t *testing.T) {
	n := 0
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n++; n == 1 {
			w.Header().Set("X-First", "yes")
			w.WriteHeader(http.StatusAccepted)
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience))
		}
		_, _ = fmt.Fprint(w, len(r.Header), r.Header.Get("X-Asked"))
	}).dial()
	c.send("POST /v1/x HTTP/1.1\r\nHost: a\r\nX-Asked: yes\r\nX-More: 1\r\n\r\n").receive()
	resp, body := c.send("GET /v1/x HTTP/1.1\r\nHost: a\r\nX-Else: 1\r\n\r\n").receive()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("X-First") != "" || body != "1" {
		t.Errorf("%s %v %q", resp.Status, resp.Header, body)
	}
}

func TestCloseIsHonouredFromBothSides(t *testing.T) {
	w := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/close" {
			rw.Header().Set("Connection", "close")
		}
	})
	for _, text := range []string{"GET /v1/close HTTP/1.1\r\nHost: a\r\n\r\n", "GET /v1/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"} {
		c := w.dial().send(text)
		if resp, _ := c.receive(); !resp.Close {
			t.Errorf("%q: not said", text)
		}
		if rest := c.ended(); rest != "" {
			t.Errorf("%q", rest)
		}
	}
}

func TestAClientThatDoesNotReadIsLeft(t *testing.T) {
	ended := make(chan error, 1)
	w := serve(t, func(rw http.ResponseWriter, _ *http.Request) {
		if err := http.NewResponseController(rw).SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Error(err)
		}
		for piece := make([]byte, 1<<20); ; {
			if _, err := rw.Write(piece); err != nil {
				ended <- err
				return
			}
		}
	})
	_ = w.dial().send(message("x"))
	var late net.Error
	if err := within(t, "writing", ended); !errors.As(err, &late) || !late.Timeout() {
		t.Error(err)
	}
}
